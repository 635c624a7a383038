// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The settings of limits, and what a value must be. */
import { z } from 'zod';
import { integer, network } from './values.js';

const unitMs: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000 };

/** `100/s`, `600/10m`, or `off`. */
const frequency = z.unknown().transform((value, context) => {
  if (value === 'off' || value === false) return undefined;
  const [, count, many = '1', unit] = /^([1-9]\d{0,6})\/([1-9]\d{0,3})?([smh])$/.exec(typeof value === 'string' ? value : '') ?? [];
  if (count === undefined || unit === undefined) {
    context.addIssue('expected so many in a time, such as 100/s or 600/10m, or off');
    return undefined;
  }
  return { count: Number(count), perMs: Number(many) * (unitMs[unit] ?? Number.NaN) };
});

const burst = integer(1, 10_000_000).optional();

/** The burst is what the rate gives in its time, unless it is said. */
const rate = (fallback: string) =>
  z
    .strictObject({ rate: frequency.prefault(fallback), burst })
    .transform(({ rate: per, burst: most }) => (per === undefined ? undefined : { ...per, burst: most ?? per.count }))
    .prefault({});

export const limits = z
  .strictObject({
    requests: z.strictObject({ per_address: rate('off'), per_identity: rate('off'), anonymous: rate('off') }).prefault({}),
    failed_logins: z.strictObject({ per_address: rate('100/10m'), per_username: rate('50/10m') }).prefault({}),
    exempt: z.preprocess((value) => (typeof value === 'string' ? [value] : value), z.array(network)).default([]),
  })
  .prefault({});
