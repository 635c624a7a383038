// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Pool } from 'pg';
import { isConnectionLoss, isDiskFull, isTransient, sqlStateOf } from '../database/failures.js';
import { operationSeconds, type Metrics } from './metrics.js';
import type { Tracer } from './tracer.js';

/** What is looked at of a pool. */
export interface ObservedPool {
  query: Pool['query'];
  readonly totalCount: number;
  readonly idleCount: number;
  readonly waitingCount: number;
}

/** Times what goes through `pool.query`, with the wait for a connection, and tells how the pools stand. */
export function observePools(pools: Readonly<Record<string, ObservedPool>>, metrics: Metrics, tracer: Tracer | undefined): void {
  const seconds = metrics.histogram(
    'registry_database_query_seconds',
    'Time of queries, with the wait for a connection. One query of the pool `reads` answers many requests.',
    ['pool'],
    operationSeconds,
  );
  const errors = metrics.counter(
    'registry_database_errors_total',
    'Queries that failed: connection (lost or refused), conflict (tried again), timeout, disk_full, other.',
    ['pool', 'cause'],
  );
  for (const [name, pool] of Object.entries(pools)) {
    const ofPool = seconds.with(name);
    const query = pool.query.bind(pool) as unknown as (...args: unknown[]) => Promise<unknown>;
    const timed = async (args: unknown[]): Promise<unknown> => {
      const since = performance.now();
      try {
        return await query(...args);
      } catch (error) {
        errors.with(name, causeOf(error)).add();
        throw error;
      } finally {
        ofPool.observe((performance.now() - since) / 1000);
      }
    };
    const observed = (...args: unknown[]): Promise<unknown> =>
      tracer === undefined
        ? timed(args)
        : tracer.span(`query ${statementOf(args[0])}`, { 'db.system.name': 'postgresql' }, () => timed(args));
    pool.query = observed as unknown as typeof pool.query;
  }
  const read = (of: (pool: ObservedPool) => number) => () =>
    Object.entries(pools).map(([name, pool]) => ({ labels: { pool: name }, value: of(pool) }));
  metrics.gauge(
    'registry_database_connections',
    'Open connections.',
    read((pool) => pool.totalCount),
  );
  metrics.gauge(
    'registry_database_connections_idle',
    'Open connections that nobody uses.',
    read((pool) => pool.idleCount),
  );
  metrics.gauge(
    'registry_database_waiting',
    'Queries that wait for a connection.',
    read((pool) => pool.waitingCount),
  );
}

function causeOf(error: unknown): string {
  if (isConnectionLoss(error)) return 'connection';
  if (isDiskFull(error)) return 'disk_full';
  if (isTransient(error)) return 'conflict';
  return sqlStateOf(error) === '57014' ? 'timeout' : 'other';
}

/** The name of a prepared statement; others are the rare ones. */
function statementOf(query: unknown): string {
  return typeof query === 'object' && query !== null && 'name' in query && typeof query.name === 'string' ? query.name : 'unnamed';
}
