// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What a Postgres server must be and allow, checked before anything of it is used. */
import type { Client, ClientConfig } from 'pg';
import { NotPrimary } from './failures.js';
import { processIdOf } from './session-settings.js';
import { connectTo, disconnect } from './single-client.js';

export interface Requirements {
  /** Of one node: all its pools, and what it holds besides. */
  readonly connections: number;
}

export interface Findings {
  /** No schema of ours yet. */
  readonly empty: boolean;
  /** What the operator should know, but can live with. */
  readonly warnings: readonly string[];
}

const oldestVersion = 140_000;
const check = { name: 'check', connectMs: 10_000, queryMs: 10_000 } as const;

/** Throws an Error whose message is one line for the operator. */
export async function checkServer(server: ClientConfig, { connections }: Requirements): Promise<Findings> {
  const first = await connectTo(server, check);
  let second: Client | undefined;
  try {
    second = await connectTo(server, check);
    const facts = await readFacts(first);
    const available = Math.min(facts.server_limit, ...[facts.database_limit, facts.role_limit].filter((limit) => limit >= 0));
    if (facts.version < oldestVersion)
      throw new Error(`the database server is Postgres ${facts.name}; ha-registry needs 14 or newer (database.url)`);
    if (facts.standby)
      throw new NotPrimary(
        'the database server is a standby or read-only, and no other was given that takes writes (database.url, database.urls)',
      );
    if (facts.synchronous_commit === 'off') {
      throw new Error(
        'the database has synchronous_commit = off: what clients were told is stored could be forgotten; set it to on (ALTER DATABASE … SET synchronous_commit = on)',
      );
    }
    if (connections > available) {
      throw new Error(
        `the database allows ${available} connections, and a node takes ${connections} (database.pool.reads + database.pool.writes + 4); raise max_connections, or lower the pools`,
      );
    }
    if (await sharesBackends(first, second, facts.backend)) {
      throw new Error(
        'a connection pooler in transaction mode stands before the database; locks that last for a session need session mode, or a direct connection (database.url)',
      );
    }
    const warnings: string[] = [];
    const nodes = facts.nodes + 1;
    if (connections * nodes > available) {
      warnings.push(
        `the database allows ${available} connections, but ${nodes} nodes may take ${connections} each, ${connections * nodes} in all: raise max_connections, or lower database.pool`,
      );
    }
    if (!facts.fsync) warnings.push('the database has fsync = off: a power cut may destroy it');
    return { empty: !facts.known, warnings };
  } finally {
    await Promise.all([disconnect(first), second === undefined ? undefined : disconnect(second)]);
  }
}

interface Facts {
  readonly version: number;
  readonly name: string;
  readonly standby: boolean;
  readonly synchronous_commit: string;
  readonly fsync: boolean;
  readonly server_limit: number;
  /** -1: none of its own. */
  readonly database_limit: number;
  readonly role_limit: number;
  readonly backend: number;
  readonly known: boolean;
  /** Other nodes that are there already. */
  readonly nodes: number;
}

async function readFacts(client: Client): Promise<Facts> {
  const { rows } = await client.query<Omit<Facts, 'nodes'>>(`
    SELECT current_setting('server_version_num')::int AS version, current_setting('server_version') AS name,
      pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on' AS standby,
      current_setting('synchronous_commit') AS synchronous_commit, current_setting('fsync')::boolean AS fsync,
      (SELECT sum(CASE WHEN name = 'max_connections' THEN setting::int ELSE -setting::int END)::int FROM pg_settings
        WHERE name IN ('max_connections', 'superuser_reserved_connections', 'reserved_connections')) AS server_limit,
      (SELECT datconnlimit FROM pg_database WHERE datname = current_database()) AS database_limit,
      (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user) AS role_limit,
      pg_backend_pid() AS backend, to_regclass('nodes') IS NOT NULL AND to_regclass('cluster') IS NOT NULL AS known`);
  const facts = rows[0] as Omit<Facts, 'nodes'>;
  if (!facts.known) return { ...facts, nodes: 0 };
  const { rows: counts } = await client.query<{ count: number }>(
    `SELECT count(*)::int AS count FROM nodes WHERE heartbeat_at > clock_timestamp() - interval '10 seconds'`,
  );
  return { ...facts, nodes: counts[0]?.count ?? 0 };
}

/** A pooler tells a client another process id than the server's own. One in transaction mode then gives the server connection that `first` has just used to `second`. */
async function sharesBackends(first: Client, second: Client, backend: number): Promise<boolean> {
  if (processIdOf(first) === backend) return false;
  await first.query('SELECT 1');
  await second.query('BEGIN');
  const { rows } = await second.query<{ backend: number }>('SELECT pg_backend_pid() AS backend');
  await second.query('ROLLBACK');
  const { rows: own } = await first.query<{ backend: number }>('SELECT pg_backend_pid() AS backend');
  return rows[0]?.backend === backend || rows[0]?.backend === own[0]?.backend;
}
