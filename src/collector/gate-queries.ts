// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { sqlStateOf } from '../database/failures.js';
import type { Queryer } from '../database/pool.js';

/** What a node must speak for anything to be collected beside it. 1: moves times on before it says that something exists. 2: its manifests refer to their non-distributable layers. */
export const gcProtocol = 2;

/**
 * Why nothing may be collected now, or undefined. After the index was rebuilt, or was found to lag behind the store, nothing is until the walk is complete and a whole
 * delay has passed: what a client was promised before is not in its times.
 */
export async function findHindrance(queryer: Queryer): Promise<string | undefined> {
  const { rows } = await queryer.query<{ reason: string | null }>({
    name: 'gc-hindrance',
    text: `SELECT CASE
             WHEN EXISTS (SELECT 1 FROM nodes WHERE gc_protocol <> $1) THEN 'a node of another version is running'
             WHEN rebuild_started_at IS NOT NULL THEN 'the index is being rebuilt'
             WHEN catch_up_due IS NOT NULL OR gc_not_before = 'infinity' THEN 'the index lags behind the store'
             WHEN caught_up_at + gc_delay() > clock_timestamp() OR gc_not_before > clock_timestamp()
               THEN 'the index was rebuilt, or has caught up, less than gc.delay ago'
           END AS reason FROM cluster`,
    values: [gcProtocol],
  });
  return rows[0]?.reason ?? undefined;
}

/** While the index lacks what the store holds, nothing is deleted from the store either. */
export async function isComplete(queryer: Queryer): Promise<boolean> {
  const { rowCount } = await queryer.query({
    name: 'gc-is-complete',
    text: `SELECT FROM cluster WHERE rebuild_started_at IS NULL AND catch_up_due IS NULL AND gc_not_before IS DISTINCT FROM 'infinity'`,
  });
  return rowCount === 1;
}

/** The first statement of a transaction that collects: no other may commit for a node that was declared dead, and the triggers are told who deletes. */
export async function beginCollecting(transaction: Queryer, node: string): Promise<void> {
  await transaction.query({
    name: 'gc-begin',
    text: `SELECT hold_node($1), set_config('ha_registry.collecting', 'on', true)`,
    values: [node],
  });
}

/** Has Postgres plan anew for tables that have grown by much since it last looked. */
export async function refreshStatistics(queryer: Queryer): Promise<void> {
  try {
    await queryer.query({ name: 'refresh-statistics', text: 'SELECT refresh_statistics()' });
  } catch (error) {
    // It took longer than a statement may. What was analyzed by then counts.
    if (sqlStateOf(error) !== queryCanceled) throw error;
  }
}

const queryCanceled = '57014';
