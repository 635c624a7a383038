// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What of a new configuration a running node takes over, and what waits for its next start. */
import { keepPlaces, refuseUnsafe, type Config } from './config.js';

/** Sections and settings that may change while the node runs. */
const live: readonly string[] = [
  'access',
  'identity',
  'ldap',
  'oidc',
  'repository',
  'limits',
  'quota',
  'server.tls',
  'server.trusted_proxies',
  'server.external_url',
  'log.level',
];

/** Worked out of others, which are told instead. */
const derived: readonly string[] = ['database.servers', 'storage.kind'];

export interface LiveChange {
  /** What holds from now on. */
  readonly config: Config;
  /** Settings that differ and were left as they are. */
  readonly waiting: readonly string[];
}

/** Throws ConfigurationError where what would hold then may not be. */
export function takeOver(running: Config, next: Config): LiveChange {
  // A listener speaks TLS or it does not.
  const hasSameScheme = (running.server.tls === undefined) === (next.server.tls === undefined);
  const mayChange = new Set(hasSameScheme ? live : live.filter((key) => key !== 'server.tls'));
  const config = merge(running, next, '', mayChange) as Config;
  refuseUnsafe(config);
  keepPlaces(config, next);
  return { config, waiting: differences(config, next, '').filter((key) => !derived.includes(key)) };
}

type Section = Readonly<Record<string, unknown>>;

function isSection(value: unknown): value is Section {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function keysOf(some: Section, others: Section): string[] {
  return [...new Set([...Object.keys(some), ...Object.keys(others)])];
}

function below(path: string, key: string): string {
  return path === '' ? key : `${path}.${key}`;
}

function merge(running: unknown, next: unknown, path: string, mayChange: ReadonlySet<string>): unknown {
  if (mayChange.has(path)) return next;
  if (!isSection(running) || !isSection(next)) return running;
  return Object.fromEntries(keysOf(running, next).map((key) => [key, merge(running[key], next[key], below(path, key), mayChange)]));
}

function differences(some: unknown, others: unknown, path: string): string[] {
  if (isSection(some) && isSection(others))
    return keysOf(some, others).flatMap((key) => differences(some[key], others[key], below(path, key)));
  return JSON.stringify(some) === JSON.stringify(others) ? [] : [path];
}
