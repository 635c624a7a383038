// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Every setting with its default, and what a value must be. */
import { accessSync, constants, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { z } from 'zod';
import { isNetwork } from '../http/client-address.js';

const KiB = 1024;
const MiB = 1024 * KiB;

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
const size = z.unknown().transform((value, context) => {
  const match = /^(\d+(?:\.\d+)?)\s*([KMGT]i?B)?$/i.exec(String(value));
  const bytes = match === null ? Number.NaN : Math.round(Number(match[1]) * (sizeUnits[(match[2] ?? '').toUpperCase()] ?? Number.NaN));
  if (!Number.isSafeInteger(bytes)) context.addIssue('expected a size such as 4MiB, or a number of bytes');
  return bytes;
});

/** `30s`, `24h`; in milliseconds. */
const duration = z.unknown().transform((value, context) => {
  const match = /^(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)$/.exec(typeof value === 'string' ? value : '');
  if (match === null) context.addIssue('expected a duration such as 30s, 5m or 24h');
  return match === null ? Number.NaN : Math.round(Number(match[1]) * (durationUnits[match[2] ?? ''] ?? Number.NaN));
});

/** Also from text, since `${PORT}` is text. */
const integer = (minimum: number, maximum: number) =>
  z.unknown().transform((value, context) => {
    const number = typeof value === 'number' || (typeof value === 'string' && /^\d{1,15}$/.test(value)) ? Number(value) : Number.NaN;
    if (!Number.isSafeInteger(number) || number < minimum || number > maximum) {
      context.addIssue(`expected a whole number from ${minimum} to ${maximum}`);
    }
    return number;
  });
const hourMs = 3_600_000;
const dayMs = 24 * hourMs;
/** Shorter, and what a client was told an hour ago could be gone. */
const shortestDelayMs = 2 * hourMs;
/** `never` is Infinity. */
const durationOrNever = z.unknown().transform((value, context) => {
  if (value === 'never') return Infinity;
  const parsed = duration.safeParse(value);
  if (!parsed.success) context.addIssue('expected a duration such as 24h or 7d, or never');
  return parsed.data ?? Number.NaN;
});
const flag = z.unknown().transform((value, context) => {
  if (![true, false, 'true', 'false'].includes(value as string | boolean)) context.addIssue('expected true or false');
  return value === true || value === 'true';
});
const ratio = z.unknown().transform((value, context) => {
  const number = typeof value === 'string' && value.trim() !== '' ? Number(value) : value;
  if (typeof number !== 'number' || !(number >= 0 && number <= 1)) context.addIssue('expected a number from 0 to 1');
  return Number(number);
});
const network = z.string().refine(isNetwork, 'expected an address, or a network such as 10.0.0.0/8');
const origin = z.string().regex(/^(\*|https?:\/\/[^/\s]+)$/, 'expected an origin such as https://ui.example, or *');

const path = z
  .string()
  .min(1)
  .transform((value) => resolve(value));

const atLeast = (minimumBytes: number, text: string) =>
  size.refine((bytes) => Number.isNaN(bytes) || bytes >= minimumBytes, `expected at least ${text}`);

/** What keeps a manifest that no tag points at. */
const lifetimes = { untagged_after: durationOrNever, undo_window: duration, keep_pulled: duration };
const gc = z
  .strictObject({
    delay: duration.default(dayMs),
    unsafe_short_delays: flag.default(false),
    interval: duration.refine((ms) => Number.isNaN(ms) || ms >= 100, 'expected at least 100ms').default(60_000),
    batch: integer(1, 10_000).default(200),
    untagged_after: lifetimes.untagged_after.default(7 * dayMs),
    undo_window: lifetimes.undo_window.default(7 * dayMs),
    keep_pulled: lifetimes.keep_pulled.default(7 * dayMs),
    repositories: z
      .array(
        z.strictObject({
          match: z.string().min(1),
          untagged_after: lifetimes.untagged_after.optional(),
          undo_window: lifetimes.undo_window.optional(),
          keep_pulled: lifetimes.keep_pulled.optional(),
        }),
      )
      .default([]),
  })
  .refine(({ delay, unsafe_short_delays }) => Number.isNaN(delay) || unsafe_short_delays || delay >= shortestDelayMs, {
    path: ['delay'],
    error: 'expected at least 2h, since what a client was told exists has to stay for an hour (gc.unsafe_short_delays is for tests)',
  })
  .prefault({});

const readableFile = path.refine(isReadable, 'the file cannot be read');
const tls = z.strictObject({ server_certificate_bundle: readableFile, server_private_key: readableFile });

/** A collector's address alone means the place where the protocol takes traces. */
function withTracesPath(endpoint: string): string {
  const url = new URL(endpoint);
  return url.pathname === '/' ? new URL('/v1/traces', url).href : endpoint;
}

const url = z.string().regex(/^https?:\/\/[^/?#\s]+\/?$/, 'expected http://… or https://…, without a path');
const secret = z.string().min(1);

/** What an S3 server, and which bucket of it, is known by. */
const s3 = z.strictObject({
  bucket: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{2,62}$/, "expected a bucket's name"),
  region: z.string().min(1).optional(),
  endpoint: url.optional(),
  public_endpoint: url.optional(),
  prefix: z
    .string()
    .regex(/^([A-Za-z0-9_.-]+\/)*([A-Za-z0-9_.-]+)?$/, 'expected segments of letters, digits and - _ . with slashes between')
    .transform((value) => (value === '' || value.endsWith('/') ? value : `${value}/`))
    .default(''),
  force_path_style: flag.optional(),
  credentials: z
    .strictObject({
      access_key_id: secret,
      secret_access_key: secret.optional(),
      secret_access_key_file: readableFile.optional(),
      session_token: secret.optional(),
    })
    .refine(
      ({ secret_access_key: value, secret_access_key_file: file }) => (value === undefined) !== (file === undefined),
      'expected secret_access_key or secret_access_key_file',
    )
    .optional(),
  ca_file: readableFile.optional(),
  sse: z.strictObject({ algorithm: z.enum(['AES256', 'aws:kms', 'aws:kms:dsse']), kms_key_id: z.string().min(1).optional() }).optional(),
  redirect: flag.default(false),
  part_size: atLeast(5 * MiB, '5MiB')
    .refine((bytes) => Number.isNaN(bytes) || bytes <= 1024 * MiB, 'expected at most 1GiB')
    .default(8 * MiB),
  equal_parts: flag.default(false),
  delete_objects_checksum: z.enum(['crc32', 'md5']).default('crc32'),
});

function isReadable(file: string): boolean {
  try {
    accessSync(file, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}

/** As libpq has it; `pg` understands the parameters sslmode, sslrootcert, sslcert and sslkey. */
const databaseUrl = z
  .string()
  .regex(/^postgres(ql)?:\/\//, 'expected postgres://…')
  .refine((value) => URL.canParse(value), 'expected postgres://…');

/** A file that holds a secret; its text without the white space around it. */
const secretFile = path.transform((file, context) => {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch {
    context.addIssue('the file cannot be read');
    return z.NEVER;
  }
});

export const schema = z.strictObject({
  server: z
    .strictObject({
      bind_address: z.string().min(1).default('127.0.0.1'),
      port: integer(0, 65_535).default(5000),
      engine: z.enum(['auto', 'uws', 'node']).default('auto'),
      reuse_port: flag.default(false),
      receive_buffer: atLeast(4 * KiB, '4KiB').default(256 * KiB),
      max_connections: integer(1, 1_000_000).default(10_000),
      idle_timeout: duration.refine((ms) => Number.isNaN(ms) || ms >= 1_000, 'expected at least 1s').default(60_000),
      minimum_rate: size.default(256),
      shutdown_delay: duration.default(0),
      drain_timeout: duration.default(30_000),
      allowed_origins: z.preprocess((value) => (typeof value === 'string' ? [value] : value), z.array(origin)).default([]),
      trusted_proxies: z.preprocess((value) => (typeof value === 'string' ? [value] : value), z.array(network)).default([]),
      metrics: z.strictObject({ bind_address: z.string().min(1).default('127.0.0.1'), port: integer(0, 65_535).optional() }).prefault({}),
      tls: tls.optional(),
    })
    .prefault({}),
  storage: z
    .strictObject({ fs: z.strictObject({ root_dir: path.optional(), keep_free: size.default(512 * MiB) }).prefault({}), s3: s3.optional() })
    .prefault({}),
  database: z
    .strictObject({
      url: databaseUrl.optional(),
      url_file: secretFile
        .transform((value) => value.split(/\s+/))
        .pipe(z.array(databaseUrl).min(1))
        .optional(),
      urls: z.array(databaseUrl).min(1).optional(),
      password_file: readableFile.optional(),
      pool: z.strictObject({ reads: integer(1, 100).default(3), writes: integer(2, 16).default(16) }).prefault({}),
      embedded: z.strictObject({ data_dir: path.optional() }).prefault({}),
    })
    .prefault({}),
  manifests: z
    .strictObject({
      max_size: atLeast(64 * KiB, '64KiB').default(4 * MiB),
      sparse: z.enum(['reject', 'indexes', 'accept']).default('indexes'),
      cache_size: size.default(64 * MiB),
    })
    .prefault({}),
  uploads: z
    .strictObject({
      memory_budget: atLeast(16 * MiB, '16MiB').default(192 * MiB),
      expire_after: duration.refine((ms) => Number.isNaN(ms) || ms >= 1_000, 'expected at least 1s').default(24 * 3_600_000),
    })
    .prefault({}),
  gc,
  scrub: z
    .strictObject({
      enabled: flag.default(true),
      cycle: duration.refine((ms) => Number.isNaN(ms) || ms >= 1_000, 'expected at least 1s').default(30 * 24 * 3_600_000),
      bandwidth: atLeast(64 * KiB, '64KiB').default(20 * MiB),
    })
    .prefault({}),
  delete: z.strictObject({ enabled: flag.default(true) }).prefault({}),
  access: z.strictObject({ anonymous: flag.default(false) }).prefault({}),
  workers: z
    .strictObject({ threads: integer(1, 256).optional(), hash: z.enum(['auto', 'native', 'hash-wasm']).default('auto') })
    .prefault({}),
  tracing: z
    .strictObject({
      endpoint: z
        .url({ protocol: /^https?$/, error: 'expected http://… or https://…' })
        .transform(withTracesPath)
        .optional(),
      sample_ratio: ratio.default(1),
      headers: z.record(z.string(), z.string()).default({}),
      service_name: z.string().min(1).default('ha-registry'),
    })
    .prefault({}),
  log: z
    .strictObject({
      level: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']).default('info'),
      requests: z.enum(['none', 'errors', 'all']).default('errors'),
    })
    .prefault({}),
});

export type Parsed = z.output<typeof schema>;
