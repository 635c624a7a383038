// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The only reader of the environment and of the configuration file. */
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { isNode, isScalar, LineCounter, parseDocument, visit, type Document } from 'yaml';
import type { z } from 'zod';
import { schema, type Parsed } from './schema.js';
import { offsetInSource } from './text-place.js';

/** A fault of the operator: one line that names key and cause. The process exits with 2. */
export class ConfigurationError extends Error {
  override readonly name = 'ConfigurationError';
}

/** Every setting, with defaults filled in. Sizes are in bytes, durations in milliseconds, paths absolute. */
export type Config = Parsed & {
  readonly storage: { readonly kind: 'filesystem' | 's3'; readonly fs: { readonly root_dir: string; readonly keep_free: number } };
  /** No `servers`: the embedded one. */
  readonly database: { readonly servers: readonly string[]; readonly embedded: { readonly data_dir: string } };
  readonly workers: { readonly threads: number };
  /** `hasIdentities`: there is a way to be somebody. */
  readonly access: {
    readonly hasIdentities: boolean;
    readonly token: { readonly secret: string | undefined; readonly ownSecretFile: string };
  };
};

/** What the command line says; it wins over the file. */
export interface Overrides {
  readonly host?: string | undefined;
  readonly port?: string | undefined;
  /** `filesystem` or `s3`. */
  readonly storage?: string | undefined;
  /** The directory that holds both the store (`store/`) and the embedded database (`postgres/`). */
  readonly root?: string | undefined;
}

/** Reads a configuration file (none: all defaults). Throws ConfigurationError. */
export function loadConfig(file: string | undefined, overrides: Overrides = {}): Config {
  const text = file === undefined ? '' : readConfigFile(file);
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: true });
  const at = (offset: number | undefined): string => (offset === undefined ? `${file}` : `${file}:${lines.linePos(offset).line}`);
  const inText = (keys: readonly PropertyKey[], offset: number): string | undefined => {
    const node = document.getIn(keys, true);
    if (!isScalar(node) || !node.range) return undefined;
    const [start, end] = node.range;
    const { line, col } = lines.linePos(start + offsetInSource(node, text.slice(start, end), offset));
    return `${file}:${line}:${col}`;
  };
  const [syntaxError] = document.errors;
  if (syntaxError !== undefined) throw new ConfigurationError(`${at(syntaxError.pos[0])}: ${syntaxError.message.split('\n', 1)[0]}`);
  substituteEnvironment(document, at);
  const result = schema.safeParse(withOverrides((document.toJS() as unknown) ?? {}, overrides));
  if (!result.success) throw new ConfigurationError(describeIssue(result.error.issues[0], document, at, inText));
  const config = complete(result.data, overrides);
  const placeOf = (key: string): string => {
    const offset = offsetOf(document, key.split('.'));
    return offset === undefined ? '' : `${at(offset)}: `;
  };
  places.set(config, placeOf);
  return config;
}

/** Where in its file each configuration has its settings. */
const places = new WeakMap<Config, (key: string) => string>();

/** `config` was made of `source`'s settings. */
export function keepPlaces(config: Config, source: Config): void {
  const placeOf = places.get(source);
  if (placeOf !== undefined) places.set(config, placeOf);
}

/** What is wrong with a setting, as it turns out when it is used. */
export function faultAt(config: Config, key: string, message: string): ConfigurationError {
  return new ConfigurationError(`${places.get(config)?.(key) ?? ''}${key}: ${message}`);
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

/** `file:line: key: what is wrong`, with the column where it is a place in a text. Values are not repeated: they may be secrets. */
function describeIssue(
  issue: z.core.$ZodIssue | undefined,
  document: Document,
  at: (offset: number | undefined) => string,
  inText: (keys: readonly PropertyKey[], offset: number) => string | undefined,
): string {
  if (issue === undefined) return 'invalid configuration';
  const [unknownKey] = issue.code === 'unrecognized_keys' ? issue.keys : [];
  const keys = unknownKey === undefined ? [...issue.path] : [...issue.path, unknownKey];
  const message = unknownKey === undefined ? issue.message.replace(/^Invalid (input|option): /, '') : 'unknown setting';
  const name = keys.join('.') || 'the configuration';
  const place = issue.code === 'custom' ? (issue.params as { readonly offset?: number } | undefined)?.offset : undefined;
  const exactly = place === undefined ? undefined : inText(keys, place);
  if (exactly !== undefined) return `${exactly}: ${name}: ${message}`;
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

function complete(parsed: Parsed, { root, storage }: Overrides): Config {
  if (root === '') throw new ConfigurationError('--root: expected a directory');
  const directory = resolve(root ?? 'data');
  const dataDirectory = (root === undefined ? parsed.database.embedded.data_dir : undefined) ?? join(directory, 'postgres');
  const config: Config = {
    ...parsed,
    access: accessOf(parsed, join(dirname(dataDirectory), 'token.secret')),
    storage: {
      kind: storeKind(parsed, storage),
      s3: withSecret(parsed.storage.s3),
      fs: { ...parsed.storage.fs, root_dir: (root === undefined ? parsed.storage.fs.root_dir : undefined) ?? join(directory, 'store') },
    },
    database: {
      ...parsed.database,
      servers: serversOf(parsed),
      embedded: { data_dir: dataDirectory },
    },
    workers: { ...parsed.workers, threads: parsed.workers.threads ?? Math.max(2, availableParallelism()) },
  };
  refuseUnsafe(config);
  return deepFreeze(config);
}

function accessOf({ access, identity, ldap, oidc, server }: Parsed, ownSecretFile: string): Config['access'] {
  const { secret, secret_file: fromFile, external } = access.token;
  if (secret !== undefined && fromFile !== undefined)
    throw new ConfigurationError('access.token.secret: give one of access.token.secret and access.token.secret_file');
  if (external !== undefined && access.challenge === 'basic')
    throw new ConfigurationError('access.token.external: who is asked for a password is not led to it (access.challenge: bearer)');
  const hasPasswords = Object.keys(identity).length > 0 || access.htpasswd_file !== undefined || ldap !== undefined;
  const hasCertificates = server.tls?.client_ca_bundle !== undefined && access.certificate.id_from !== 'none';
  const hasIdentities = hasPasswords || hasCertificates || oidc.length > 0 || external !== undefined;
  return { ...access, hasIdentities, token: { ...access.token, secret: secret ?? fromFile, ownSecretFile } };
}

/** Nothing is open by accident, and nodes that share a registry share the keys of its tokens. */
export function refuseUnsafe({ server, access, database }: Config): void {
  if (!isLoopback(server.bind_address) && !access.hasIdentities && !access.anonymous) {
    throw new ConfigurationError(
      `server.bind_address: ${server.bind_address} is not a loopback address; it needs identities (identity, access.htpasswd_file, ldap, oidc, server.tls.client_ca_bundle), or access.anonymous: true where anybody may write`,
    );
  }
  const { secret, key_file: keyFile, external } = access.token;
  if (
    access.hasIdentities &&
    external === undefined &&
    access.challenge === 'bearer' &&
    database.servers.length > 0 &&
    secret === undefined &&
    keyFile === undefined
  ) {
    throw new ConfigurationError(
      'access.token.secret: nodes that share a database share the keys of their tokens: give all of them the same access.token.secret, secret_file or key_file, or set access.challenge: basic',
    );
  }
}

/** What `-s` says, else what the file configures. */
function storeKind({ storage: { fs, s3 } }: Parsed, asked: string | undefined): 'filesystem' | 's3' {
  if (asked === 's3' && s3 === undefined) throw new ConfigurationError('storage.s3.bucket: -s s3 needs a bucket in the configuration file');
  if (asked === 's3' || asked === 'filesystem') return asked;
  if (s3 !== undefined && fs.root_dir !== undefined)
    throw new ConfigurationError('storage: blobs are kept in storage.s3 or in storage.fs.root_dir, not in both (or -s has to say which)');
  return s3 === undefined ? 'filesystem' : 's3';
}

/** The file of a secret access key is read once, here. */
function withSecret(s3: Parsed['storage']['s3']): Parsed['storage']['s3'] {
  const file = s3?.credentials?.secret_access_key_file;
  if (s3?.credentials === undefined || file === undefined) return s3;
  return { ...s3, credentials: { ...s3.credentials, secret_access_key: readFileSync(file, 'utf8').trim() } };
}

function serversOf({ database: { url, urls, url_file: fromFile } }: Parsed): readonly string[] {
  const [servers = [], second] = [url === undefined ? undefined : [url], urls, fromFile].filter((given) => given !== undefined);
  if (second !== undefined) throw new ConfigurationError('database.url: give one of database.url, database.urls and database.url_file');
  return servers;
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

/** What child processes are given of the environment: not what the service manager told this one alone. */
export function childEnvironment(): NodeJS.ProcessEnv {
  const { NOTIFY_SOCKET: _socket, WATCHDOG_USEC: _usec, WATCHDOG_PID: _pid, ...environment } = process.env;
  return environment;
}

/** What a service manager told this process, see sd_notify(3) and sd_watchdog_enabled(3). */
export interface Supervision {
  /** A path, or an abstract name behind an `@`. */
  readonly notifySocket: string | undefined;
  /** Who says nothing for this long is killed. */
  readonly watchdogMs: number | undefined;
}

export function readSupervision(): Supervision {
  const { NOTIFY_SOCKET: notifySocket = '', WATCHDOG_USEC: usec = '', WATCHDOG_PID: pid = '' } = process.env;
  // A watchdog that was set for another process may have been inherited.
  const isOurs = pid === '' || pid === String(process.pid);
  const watchdogMs = isOurs && /^[1-9]\d{0,14}$/.test(usec) ? Number(usec) / 1000 : undefined;
  return { notifySocket: notifySocket === '' ? undefined : notifySocket, watchdogMs };
}
