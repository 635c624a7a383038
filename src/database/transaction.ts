// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { PoolClient } from 'pg';
import { isConnectionLoss } from './failures.js';
import type { ServerPool } from './pool.js';

/**
 * Runs statements in one transaction, each of which sees what was committed before it (READ COMMITTED, whatever the server's default is): who locks in one statement
 * and looks in the next sees what was committed while it waited.
 */
export async function inTransaction<T>(pool: ServerPool, work: (transaction: PoolClient) => Promise<T>): Promise<T> {
  const client = await pool.connect();
  let failure: Error | undefined;
  try {
    await client.query('BEGIN ISOLATION LEVEL READ COMMITTED');
    const result = await work(client);
    await client.query('COMMIT');
    return result;
  } catch (error) {
    // A server that has vanished would not answer that either, for as long again.
    if (isConnectionLoss(error)) failure = error as Error;
    else await client.query('ROLLBACK').catch((lost: Error) => (failure = lost));
    throw error;
  } finally {
    // A connection that cannot even roll back is not used again.
    client.release(failure);
  }
}
