// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { z } from 'zod';
import { BodyTooLarge, type Request } from '../http/contract.js';
import { RegistryError } from '../oci/errors.js';

const largestBody = 64 * 1024;

/** A request's body, as the schema wants it. Throws a RegistryError (400, 413) that names what is wrong. */
export async function readJson<Schema extends z.ZodType>(request: Request, schema: Schema): Promise<z.output<Schema>> {
  const bytes = await request.body.bytes(largestBody).catch((error: unknown) => {
    throw error instanceof BodyTooLarge ? new RegistryError('SIZE_INVALID', 'the body is too long', { status: 413 }) : error;
  });
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch {
    throw new RegistryError('UNSUPPORTED', 'the body is no JSON', { status: 400 });
  }
  return checked(value, schema);
}

export function checked<Schema extends z.ZodType>(value: unknown, schema: Schema): z.output<Schema> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw new RegistryError('UNSUPPORTED', `${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'not understood'}`, { status: 400 });
}
