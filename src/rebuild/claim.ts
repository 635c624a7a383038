// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * A rebuild's claim on its database: the time at which it began, as `cluster` says it. Another that begins takes it over, and the end of one gives it up: whoever slept
 * meanwhile writes nothing more.
 */
import type { ClientBase, Client } from 'pg';
import { sqlStateOf } from '../database/failures.js';
import { pausePoints } from '../database/pause-points.js';
import type { Database, Queryer } from '../database/pool.js';

/** It cannot be done, or go on, now; the message says why and what to do. */
export class RebuildRefused extends Error {}

/** The index is incomplete from now on, and only who has this claim writes to it. */
export async function takeClaim(client: ClientBase): Promise<string> {
  const { rows } = await client.query<{ claim: string }>(
    `UPDATE cluster SET rebuild_started_at = GREATEST(clock_timestamp(), rebuild_started_at + interval '1 microsecond') RETURNING rebuild_started_at::text AS claim`,
  );
  return rows[0]?.claim ?? '';
}

/** Until the end of the transaction nobody takes the claim over. Throws RebuildRefused. */
export async function holdClaim(queryer: Queryer, claim: string): Promise<void> {
  const { rowCount } = await queryer.query({
    name: 'hold-rebuild-claim',
    text: 'SELECT FROM cluster WHERE rebuild_started_at = $1::text::timestamptz FOR SHARE',
    values: [claim],
  });
  if (rowCount !== 1) throw new RebuildRefused('another rebuild of this database was begun, or came to its end, while this one slept');
}

/** A transaction of a rebuild. */
export async function inClaim<T>(client: ClientBase, claim: string, work: () => Promise<T>): Promise<T> {
  await client.query('BEGIN');
  try {
    await holdClaim(client, claim);
    await pausePoints.reached?.('rebuild.claimed');
    const result = await work();
    await client.query('COMMIT');
    return result;
  } catch (error) {
    await client.query('ROLLBACK').catch(() => undefined);
    throw error;
  }
}

/** As the writes' pool has it. */
const timeoutMs = 40_000;
/** What a crash takes away of it is restored again, since the progress goes with it. */
const loaderSettings = { synchronous_commit: 'off' };
const permissionDenied = '42501';

/**
 * A connection for who puts rows into the index by the thousands. Where the database lets it, it fires no triggers: those of foreign keys, whose rows it puts in order
 * itself, are a quarter of Postgres' work.
 */
export async function connectLoader(database: Database): Promise<Client> {
  try {
    return await database.connectAlone('rebuild', { ...loaderSettings, session_replication_role: 'replica' }, timeoutMs);
  } catch (error) {
    if (sqlStateOf(error) !== permissionDenied) throw error;
    return database.connectAlone('rebuild', loaderSettings, timeoutMs);
  }
}
