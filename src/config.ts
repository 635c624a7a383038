// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The only reader of the environment and of the configuration file. */
import { accessSync, constants, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import { isNode, LineCounter, parseDocument, visit, type Document } from 'yaml';
import { z } from 'zod';

const KiB = 1024;
const MiB = 1024 * KiB;

/** A fault of the operator: one line that names key and cause. The process exits with 2. */
export class ConfigurationError extends Error {
  override readonly name = 'ConfigurationError';
}

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
const flag = z.unknown().transform((value, context) => {
  if (![true, false, 'true', 'false'].includes(value as string | boolean)) context.addIssue('expected true or false');
  return value === true || value === 'true';
});
const origin = z.string().regex(/^(\*|https?:\/\/[^/\s]+)$/, 'expected an origin such as https://ui.example, or *');

const path = z
  .string()
  .min(1)
  .transform((value) => resolve(value));

const atLeast = (minimumBytes: number, text: string) =>
  size.refine((bytes) => Number.isNaN(bytes) || bytes >= minimumBytes, `expected at least ${text}`);

const readableFile = path.refine(isReadable, 'the file cannot be read');
const tls = z.strictObject({ server_certificate_bundle: readableFile, server_private_key: readableFile });

function isReadable(file: string): boolean {
  try {
    accessSync(file, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}

const schema = z.strictObject({
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
      drain_timeout: duration.default(30_000),
      allowed_origins: z.preprocess((value) => (typeof value === 'string' ? [value] : value), z.array(origin)).default([]),
      tls: tls.optional(),
    })
    .prefault({}),
  storage: z
    .strictObject({ fs: z.strictObject({ root_dir: path.optional(), keep_free: size.default(512 * MiB) }).prefault({}) })
    .prefault({}),
  database: z
    .strictObject({
      url: z
        .string()
        .regex(/^postgres(ql)?:\/\//, 'expected postgres://…')
        .optional(),
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
  delete: z.strictObject({ enabled: flag.default(true) }).prefault({}),
  access: z.strictObject({ anonymous: flag.default(false) }).prefault({}),
  workers: z
    .strictObject({ threads: integer(1, 256).optional(), hash: z.enum(['auto', 'native', 'hash-wasm']).default('auto') })
    .prefault({}),
  log: z.strictObject({ level: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']).default('info') }).prefault({}),
});

type Parsed = z.output<typeof schema>;

/** Every setting, with defaults filled in. Sizes are in bytes, durations in milliseconds, paths absolute. */
export type Config = Parsed & {
  readonly storage: { readonly fs: { readonly root_dir: string; readonly keep_free: number } };
  readonly database: { readonly embedded: { readonly data_dir: string } };
  readonly workers: { readonly threads: number };
};

/** What the command line says; it wins over the file. */
export interface Overrides {
  readonly host?: string | undefined;
  readonly port?: string | undefined;
  /** The directory that holds both the store (`store/`) and the embedded database (`postgres/`). */
  readonly root?: string | undefined;
}

/** Reads a configuration file (none: all defaults). Throws ConfigurationError. */
export function loadConfig(file: string | undefined, overrides: Overrides = {}): Config {
  const text = file === undefined ? '' : readConfigFile(file);
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: true });
  const at = (offset: number | undefined): string => (offset === undefined ? `${file}` : `${file}:${lines.linePos(offset).line}`);
  const [syntaxError] = document.errors;
  if (syntaxError !== undefined) throw new ConfigurationError(`${at(syntaxError.pos[0])}: ${syntaxError.message.split('\n', 1)[0]}`);
  substituteEnvironment(document, at);
  const result = schema.safeParse(withOverrides((document.toJS() as unknown) ?? {}, overrides));
  if (!result.success) throw new ConfigurationError(describeIssue(result.error.issues[0], document, at));
  return complete(result.data, overrides.root);
}

function readConfigFile(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new ConfigurationError(`cannot read the configuration file: ${(error as Error).message}`);
  }
}

/** `${NAME}` and `${NAME:-default}` inside values, after parsing, so that no value can change the structure. */
function substituteEnvironment(document: Document, at: (offset: number | undefined) => string): void {
  visit(document, {
    Scalar(key, node) {
      if (key === 'key' || typeof node.value !== 'string') return;
      node.value = node.value.replaceAll(
        /\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}/g,
        (_text, name: string, fallback: string | undefined) => {
          const value = process.env[name] ?? fallback;
          if (value === undefined) throw new ConfigurationError(`${at(node.range?.[0])}: the environment variable ${name} is not set`);
          return value;
        },
      );
    },
  });
}

function withOverrides(value: unknown, { host, port }: Overrides): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  const { server } = value as { server?: unknown };
  if (host === undefined && port === undefined) return value;
  if (server !== undefined && (typeof server !== 'object' || server === null)) return value;
  return {
    ...value,
    server: { ...server, ...(host === undefined ? {} : { bind_address: host }), ...(port === undefined ? {} : { port }) },
  };
}

/** `file:line: key: what is wrong`. Values are not repeated: they may be secrets. */
function describeIssue(issue: z.core.$ZodIssue | undefined, document: Document, at: (offset: number | undefined) => string): string {
  if (issue === undefined) return 'invalid configuration';
  const [unknownKey] = issue.code === 'unrecognized_keys' ? issue.keys : [];
  const keys = unknownKey === undefined ? [...issue.path] : [...issue.path, unknownKey];
  const message = unknownKey === undefined ? issue.message.replace(/^Invalid (input|option): /, '') : 'unknown setting';
  const name = keys.join('.') || 'the configuration';
  const offset = offsetOf(document, keys);
  return offset === undefined ? `${name}: ${message}` : `${at(offset)}: ${name}: ${message}`;
}

/** Where the key stands, or the nearest one above it that is in the file. */
function offsetOf(document: Document, keys: readonly PropertyKey[]): number | undefined {
  let offset: number | undefined;
  let node: unknown = document.contents;
  for (const key of keys) {
    const items: unknown = isNode(node) ? (node as { items?: unknown }).items : undefined;
    if (!Array.isArray(items)) return offset;
    const pair = items.find((item: { key?: unknown }, index) => (isNode(item.key) ? String(item.key) === key : index === key)) as
      { key?: unknown; value?: unknown } | undefined;
    if (pair === undefined) return offset;
    const place = pair.key ?? pair;
    offset = isNode(place) ? place.range?.[0] : offset;
    node = 'value' in pair && isNode(pair.key) ? pair.value : pair;
  }
  return offset;
}

function complete(parsed: Parsed, root: string | undefined): Config {
  if (root === '') throw new ConfigurationError('--root: expected a directory');
  const directory = resolve(root ?? 'data');
  const config: Config = {
    ...parsed,
    storage: {
      fs: { ...parsed.storage.fs, root_dir: (root === undefined ? parsed.storage.fs.root_dir : undefined) ?? join(directory, 'store') },
    },
    database: {
      ...parsed.database,
      embedded: { data_dir: (root === undefined ? parsed.database.embedded.data_dir : undefined) ?? join(directory, 'postgres') },
    },
    workers: { ...parsed.workers, threads: parsed.workers.threads ?? Math.max(2, availableParallelism()) },
  };
  if (!isLoopback(config.server.bind_address) && !config.access.anonymous) {
    throw new ConfigurationError(
      `server.bind_address: ${config.server.bind_address} is not a loopback address; a registry that anybody may write to needs access.anonymous: true`,
    );
  }
  return deepFreeze(config);
}

function isLoopback(address: string): boolean {
  return address === 'localhost' || address === '::1' || /^127(\.\d{1,3}){3}$/.test(address);
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) {
    Object.freeze(value);
    Object.values(value).forEach(deepFreeze);
  }
  return value;
}

/** What child processes are given of the environment. */
export function childEnvironment(): NodeJS.ProcessEnv {
  return { ...process.env };
}
