// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Queryer } from '../database/pool.js';

/** Longer than a call of 1000 deletions takes; whoever claimed and died is succeeded after it. */
const lease = '5 minutes';

/** Whether anything may be there to claim. */
export async function isTrashDue(queryer: Queryer): Promise<boolean> {
  const { rowCount } = await queryer.query({
    name: 'is-trash-due',
    text: 'SELECT FROM object_trash WHERE not_before <= clock_timestamp() AND (lease_until IS NULL OR lease_until <= clock_timestamp()) LIMIT 1',
  });
  return rowCount === 1;
}

/** Keys whose time has come, oldest first, which nobody else is deleting. */
export async function claimTrash(queryer: Queryer, limit: number): Promise<string[]> {
  const { rows } = await queryer.query<[string]>({
    name: 'claim-trash',
    text: 'SELECT claim_trash($1, $2)',
    values: [limit, lease],
    rowMode: 'array',
  });
  return rows.map(([key]) => key);
}

/** What was deleted is forgotten, or waits for its second deletion; what failed is tried again in a minute. Tells how much data that was collected are gone now. */
export async function finishTrash(
  queryer: Queryer,
  deleted: readonly string[],
  failed: readonly string[],
): Promise<{ readonly objects: number; readonly bytes: number }> {
  const { rows } = await queryer.query<{ objects: string; bytes: string }>({
    name: 'finish-trash',
    text: 'SELECT objects, bytes FROM finish_trash($1, $2)',
    values: [deleted, failed],
  });
  return { objects: Number(rows[0]?.objects ?? 0), bytes: Number(rows[0]?.bytes ?? 0) };
}

/** Starts the time of data whose links are all gone from the store, where finishTrash overlooked it. Returns how many rows it has dealt with, of links or of data. */
export async function advanceTrash(queryer: Queryer, limit: number): Promise<number> {
  const { rows } = await queryer.query<{ count: number }>({
    name: 'advance-trash',
    text: 'SELECT advance_trash($1) AS count',
    values: [limit],
  });
  return rows[0]?.count ?? 0;
}
