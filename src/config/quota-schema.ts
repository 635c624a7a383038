// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The settings of quotas, and what a value must be. */
import { z } from 'zod';
import { size } from './values.js';

const sizeOrUnlimited = z.unknown().transform((value, context) => {
  if (value === 'unlimited') return Infinity;
  const parsed = size.safeParse(value);
  if (!parsed.success) context.addIssue('expected a size such as 50GiB, or unlimited');
  return parsed.data ?? Number.NaN;
});

export const quota = z
  .strictObject({
    default: sizeOrUnlimited.prefault('unlimited'),
    repositories: z.array(z.strictObject({ match: z.string().min(1), size: sizeOrUnlimited })).default([]),
  })
  .prefault({});
