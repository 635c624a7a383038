// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Kinds of values that settings have. */
import { accessSync, constants, readFileSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { z } from 'zod';
import { isNetwork } from '../http/client-address.js';

export const KiB = 1024;
export const MiB = 1024 * KiB;

const sizeUnits: Record<string, number> = {
  '': 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KIB: KiB,
  MIB: MiB,
  GIB: 1024 * MiB,
  TIB: 1024 * 1024 * MiB,
};
const durationUnits: Record<string, number> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** `4MiB`, `500 KB`, or a number of bytes. */
export const size = z.unknown().transform((value, context) => {
  const match = /^(\d+(?:\.\d+)?)\s*([KMGT]i?B)?$/i.exec(String(value));
  const bytes = match === null ? Number.NaN : Math.round(Number(match[1]) * (sizeUnits[(match[2] ?? '').toUpperCase()] ?? Number.NaN));
  if (!Number.isSafeInteger(bytes)) context.addIssue('expected a size such as 4MiB, or a number of bytes');
  return bytes;
});

/** `30s`, `24h`; in milliseconds. */
export const duration = z.unknown().transform((value, context) => {
  const match = /^(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)$/.exec(typeof value === 'string' ? value : '');
  if (match === null) context.addIssue('expected a duration such as 30s, 5m or 24h');
  return match === null ? Number.NaN : Math.round(Number(match[1]) * (durationUnits[match[2] ?? ''] ?? Number.NaN));
});

/** `never` is Infinity. */
export const durationOrNever = z.unknown().transform((value, context) => {
  if (value === 'never') return Infinity;
  const parsed = duration.safeParse(value);
  if (!parsed.success) context.addIssue('expected a duration such as 24h or 7d, or never');
  return parsed.data ?? Number.NaN;
});

/** Also from text, since `${PORT}` is text. */
export const integer = (minimum: number, maximum: number) =>
  z.unknown().transform((value, context) => {
    const number = typeof value === 'number' || (typeof value === 'string' && /^\d{1,15}$/.test(value)) ? Number(value) : Number.NaN;
    if (!Number.isSafeInteger(number) || number < minimum || number > maximum) {
      context.addIssue(`expected a whole number from ${minimum} to ${maximum}`);
    }
    return number;
  });
export const flag = z.unknown().transform((value, context) => {
  if (![true, false, 'true', 'false'].includes(value as string | boolean)) context.addIssue('expected true or false');
  return value === true || value === 'true';
});
export const ratio = z.unknown().transform((value, context) => {
  const number = typeof value === 'string' && value.trim() !== '' ? Number(value) : value;
  if (typeof number !== 'number' || !(number >= 0 && number <= 1)) context.addIssue('expected a number from 0 to 1');
  return Number(number);
});
export const network = z.string().refine(isNetwork, 'expected an address, or a network such as 10.0.0.0/8');
export const origin = z.string().regex(/^(\*|https?:\/\/[^/\s]+)$/, 'expected an origin such as https://ui.example, or *');

export const path = z
  .string()
  .min(1)
  .transform((value) => resolve(value));

export const atLeast = (minimumBytes: number, text: string) =>
  size.refine((bytes) => Number.isNaN(bytes) || bytes >= minimumBytes, `expected at least ${text}`);

export const readableFile = path.refine(isReadable, 'the file cannot be read');
export const siteUrl = z.string().regex(/^https?:\/\/[^/?#\s]+\/?$/, 'expected http://… or https://…, without a path');

function isReadable(file: string): boolean {
  try {
    accessSync(file, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}

/** A file that holds a secret; its text without the white space around it. */
export const secretFile = path.transform((file, context) => {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch (error) {
    context.addIssue(`the file cannot be read: ${file} (${(error as NodeJS.ErrnoException).code})`);
    return z.NEVER;
  }
});

/** A file whose content must be of a form; its path. */
export const parsedFile = (parse: (text: string) => unknown) =>
  path.superRefine((file, context) => {
    const refuse = (message: string): void => context.addIssue({ code: 'custom', message });
    try {
      // A pipe would be waited for.
      if (!statSync(file).isFile()) return refuse(`${file} is not a regular file`);
      parse(readFileSync(file, 'utf8'));
    } catch (error) {
      const { code, syscall, message } = error as NodeJS.ErrnoException;
      refuse(syscall === undefined ? `${file}: ${message}` : `the file cannot be read: ${file} (${code})`);
    }
  });
