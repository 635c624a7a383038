// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Queryer } from '../database/pool.js';

/** Takes away what a dead node left pending, so that no commit of it can succeed, and hands its keys to the trash. */
export async function abandonExpiredWrite(queryer: Queryer, sequence: bigint): Promise<void> {
  await queryer.query({
    name: 'abandon-expired-write',
    text: `SELECT abandon($1, 'expired', now() + interval '1 day')`,
    values: [sequence],
  });
}

/** Takes a write of our own away. False when it was committed. Fails with HA000 when nobody can tell, since the node was declared dead meanwhile. */
export async function abandonOwnWrite(queryer: Queryer, node: string, sequence: bigint, mayLandLate: boolean): Promise<boolean> {
  const { rows } = await queryer.query<{ abandoned: boolean }>({
    name: 'abandon-own-write',
    text: `SELECT abandon_own($1, $2, CASE WHEN $3 THEN now() + interval '1 day' END) AS abandoned`,
    values: [node, sequence, mayLandLate],
  });
  return rows[0]?.abandoned === true;
}

export interface ExpiredWrite {
  readonly sequence: bigint;
  readonly repository: string;
  readonly deletion: PendingDeletion | undefined;
}

export type PendingDeletion =
  | { readonly tag: string; readonly body?: string }
  | { readonly manifest: string; readonly tags: readonly string[]; readonly body?: string }
  | { readonly blob: string };

/**
 * Pending writes whose node is gone, or whose node said that it does not know how the commit ended; oldest first. Those of an earlier generation of the database may have
 * been committed in it, and acknowledged: the walk over the store decides.
 */
export async function listExpiredWrites(queryer: Queryer, limit: number): Promise<ExpiredWrite[]> {
  const { rows } = await queryer.query<{ sequence: string; repository: string; deletion: PendingDeletion | null }>({
    name: 'list-expired-writes',
    text: `SELECT sequence, repository, deletion FROM pending_writes p
           WHERE (outcome_unknown OR NOT EXISTS (SELECT 1 FROM nodes n WHERE n.id = p.node))
             AND generation >= (SELECT COALESCE(catch_up_due, 0) FROM cluster) ORDER BY sequence LIMIT $1`,
    values: [limit],
  });
  return rows.map((row) => ({ sequence: BigInt(row.sequence), repository: row.repository, deletion: row.deletion ?? undefined }));
}

/** Gives up this node's pending writes that it does not know of (any more): an answer was lost on its way. */
export async function setOutcomeUnknown(queryer: Queryer, node: string, active: readonly bigint[]): Promise<void> {
  await queryer.query({
    name: 'set-outcome-unknown',
    text: `UPDATE pending_writes SET outcome_unknown = true
           WHERE node = $1 AND NOT outcome_unknown AND created_at < now() - interval '2 minutes' AND sequence <> ALL ($2::bigint[])`,
    values: [node, active],
  });
}

/** After the objects are deleted: forgets them, or waits for the second deletion of those that a late write may bring back. */
export async function deleteTrash(queryer: Queryer, keys: readonly string[]): Promise<void> {
  await queryer.query({
    name: 'delete-trash',
    text: `WITH due AS (SELECT key, repeat_at FROM object_trash WHERE key = ANY ($1) AND not_before <= clock_timestamp() ORDER BY key FOR UPDATE),
                once AS (DELETE FROM object_trash t USING due WHERE t.key = due.key AND due.repeat_at IS NULL)
           UPDATE object_trash t SET not_before = t.repeat_at, repeat_at = NULL FROM due WHERE t.key = due.key AND due.repeat_at IS NOT NULL`,
    values: [keys],
  });
}
