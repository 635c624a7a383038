// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Socket } from 'node:net';
import { Pool, type ClientBase, type ClientConfig, type PoolClient } from 'pg';

/** A pool, or one connection that holds a transaction: whatever can run a statement. */
export type Queryer = Pick<Pool, 'query'> | Pick<ClientBase, 'query'>;

/** The pools of a node. Reads are batched, so few connections carry them; writes are kept at 16, past which locks on the nodes row cost a third. */
export interface Database {
  readonly reads: Pool;
  readonly writes: Pool;
  /** Gives up all connections: those that a network has forgotten would stay silent. */
  reconnect(): void;
  /** The collector's own: whatever it waits for, it waits briefly, and lets a push go first. */
  readonly collector: Pool;
  close(): Promise<void>;
}

/** What a read needs: where it reads, and where it moves on the time of what it found. */
export interface ReadPools {
  readonly reads: Queryer;
  readonly writes: Queryer;
}

export type Connection = string | { readonly host: string; readonly port: number; readonly user: string; readonly database: string };

const readConnections = 3;
const writeConnections = 16;
/** One for what is collected logically, one for the trash. */
const collectorConnections = 2;
/** Longer than any statement may take: a server that vanished without a word is given up. Who reads does not wait that long (availability.ts); this gives its connection up. */
const timeouts = {
  reads: { connectMs: 3_000, queryMs: 4_000 },
  writes: { connectMs: 10_000, queryMs: 40_000 },
  collector: { connectMs: 10_000, queryMs: 40_000 },
} as const;

/** After a lock is waited for this long the collector gives its batch up: long before Postgres (1 s) looks for a deadlock and might find the push at fault. */
const collectorOptions = '-c lock_timeout=200ms -c idle_in_transaction_session_timeout=10s';

/** Session settings of every connection: nothing may hold a lock for long, and a half-dead peer is noticed. */
const sessionOptions = [
  '-c statement_timeout=30s',
  '-c lock_timeout=10s',
  '-c idle_in_transaction_session_timeout=30s',
  '-c timezone=UTC',
  '-c jit=off',
  // Every statement here finds its rows by an index, and must do so also before a table has statistics: a scan chosen while it was empty stays until it is analyzed.
  '-c plan_cache_mode=force_generic_plan',
  '-c enable_seqscan=off',
  '-c enable_hashjoin=off',
  '-c enable_mergejoin=off',
].join(' ');

/** `gcDelayMs` is what next_due() adds (migrations/0009). */
export function openDatabase(connection: Connection, gcDelayMs: number, onError: (error: Error) => void): Database {
  let closing = false;
  // While closing, what is left of the connections may be cut: that is no loss.
  const onLoss = (error: Error): void => {
    if (!closing) onError(error);
  };
  const open = (max: number, name: keyof typeof timeouts, more = ''): Pool => {
    const pool = new Pool({
      ...clientOptions(connection),
      max,
      application_name: `ha-registry ${name}`,
      options: `${sessionOptions} -c ha_registry.gc_delay=${gcDelayMs}ms ${more}`,
      keepAlive: true,
      connectionTimeoutMillis: timeouts[name].connectMs,
      query_timeout: timeouts[name].queryMs,
      idleTimeoutMillis: 0,
    });
    // Without these listeners a Postgres that stops would end the process.
    pool.on('error', onLoss);
    pool.on('connect', (client) => {
      client.on('error', onLoss);
      clients.add(client);
    });
    pool.on('remove', (client) => clients.delete(client));
    return pool;
  };
  const clients = new Set<PoolClient>();
  const reads = open(readConnections, 'reads');
  const writes = open(writeConnections, 'writes');
  const collector = open(collectorConnections, 'collector', collectorOptions);
  return {
    reads,
    writes,
    reconnect() {
      // Without a goodbye, which nobody might take; the pools see that they are gone.
      for (const client of clients) (client as unknown as { connection: { stream: Socket } }).connection.stream.destroy();
    },
    collector,
    async close() {
      closing = true;
      await Promise.allSettled([reads.end(), writes.end(), collector.end()]);
    },
  };
}

/** For `pg`. On a socket of our own there is no TLS, whatever the environment says. */
export function clientOptions(connection: Connection): ClientConfig {
  return typeof connection === 'string' ? { connectionString: connection } : { ...connection, ssl: false };
}
