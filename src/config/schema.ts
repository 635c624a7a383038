// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Every setting with its default, and what a value must be. */
import { z } from 'zod';
import { access, checkTogether, externalUrl, identities, policies } from './access-schema.js';
import { audit } from './audit-schema.js';
import { workloadIssuers } from './foreign-token-schema.js';
import { ldap } from './ldap-schema.js';
import { limits } from './limits-schema.js';
import { quota } from './quota-schema.js';
import { tls } from './tls-schema.js';
import {
  KiB,
  MiB,
  atLeast,
  duration,
  durationOrNever,
  flag,
  integer,
  network,
  origin,
  path,
  ratio,
  readableFile,
  secretFile,
  siteUrl,
  size,
} from './values.js';

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;
/** Shorter, and what a client was told an hour ago could be gone. */
const shortestDelayMs = 2 * hourMs;

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

/** A collector's address alone means the place where the protocol takes traces. */
function withTracesPath(endpoint: string): string {
  const url = new URL(endpoint);
  return url.pathname === '/' ? new URL('/v1/traces', url).href : endpoint;
}

const secret = z.string().min(1);

/** What an S3 server, and which bucket of it, is known by. */
const s3 = z.strictObject({
  bucket: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{2,62}$/, "expected a bucket's name"),
  region: z.string().min(1).optional(),
  endpoint: siteUrl.optional(),
  public_endpoint: siteUrl.optional(),
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

/** As libpq has it; `pg` understands the parameters sslmode, sslrootcert, sslcert and sslkey. */
const databaseUrl = z
  .string()
  .regex(/^postgres(ql)?:\/\//, 'expected postgres://…')
  .refine((value) => URL.canParse(value), 'expected postgres://…');

const settings = z.strictObject({
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
      external_url: externalUrl,
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
  access,
  identity: identities,
  oidc: workloadIssuers,
  ldap,
  repository: policies,
  audit,
  limits,
  quota,
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

export const schema = settings.superRefine(checkTogether);

export type Parsed = z.output<typeof schema>;
