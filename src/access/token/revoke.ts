// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** POST /api/v1/tokens/revoke: refresh tokens that an identity was given until now are worth nothing any more. */
import { z } from 'zod';
import type { Reply, Request } from '../../http/contract.js';
import { RegistryError } from '../../oci/errors.js';
import { readJson } from '../read-json.js';
import type { Revocations } from './revocations.js';

const asked = z.strictObject({ identity: z.string().min(1).max(255) });

export async function postRevoke(revocations: Revocations | undefined, request: Request): Promise<Reply> {
  if (revocations === undefined) throw new RegistryError('UNSUPPORTED', 'there are no tokens here (access.challenge)', { status: 400 });
  const { identity } = await readJson(request, asked);
  await revocations.revoke(identity);
  return { status: 204 };
}
