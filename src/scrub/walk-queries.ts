// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** How far the walks have come; kept in the database, so that another node goes on where one ended. */
import type { Queryer } from '../database/pool.js';

/** `entries`: the store's entries beside the rows; the others: rows beside the store. */
export const walks = ['entries', 'link', 'manifest', 'tag', 'tombstone'] as const;
export type Walk = (typeof walks)[number];

export type WalkPosition = readonly string[];

/** Where the walk stands, which begins where its time has come; undefined while there is nothing to do. */
export async function beginWalk(queryer: Queryer, walk: Walk, cycleMs: number): Promise<WalkPosition | undefined> {
  await queryer.query({
    name: 'begin-walk',
    text: `INSERT INTO scrub_walks AS w (walk) VALUES ($1) ON CONFLICT (walk) DO UPDATE SET position = '{}', begun_at = clock_timestamp(), completed_at = NULL
           WHERE w.completed_at IS NOT NULL AND w.begun_at < clock_timestamp() - $2::float8 * interval '1 millisecond'`,
    values: [walk, cycleMs],
  });
  const { rows } = await queryer.query<{ position: string[] }>({
    name: 'find-walk',
    text: 'SELECT position FROM scrub_walks WHERE walk = $1 AND completed_at IS NULL',
    values: [walk],
  });
  return rows[0]?.position;
}

export async function saveWalk(queryer: Queryer, walk: Walk, position: WalkPosition): Promise<void> {
  await queryer.query({
    name: 'save-walk',
    text: 'UPDATE scrub_walks SET position = $2 WHERE walk = $1 AND completed_at IS NULL',
    values: [walk, position],
  });
}

export async function completeWalk(queryer: Queryer, walk: Walk): Promise<void> {
  await queryer.query({
    name: 'complete-walk',
    text: `UPDATE scrub_walks SET position = '{}', completed_at = clock_timestamp() WHERE walk = $1 AND completed_at IS NULL`,
    values: [walk],
  });
}

/** All walks were done from `begunAt` on. */
export async function recordWalks(queryer: Queryer, begunAt: string): Promise<void> {
  await queryer.query(
    `INSERT INTO scrub_walks (walk, begun_at, completed_at) SELECT walk, $2, clock_timestamp() FROM unnest($1::text[]) walk
     ON CONFLICT (walk) DO UPDATE SET position = '{}', begun_at = EXCLUDED.begun_at, completed_at = EXCLUDED.completed_at`,
    [walks, begunAt],
  );
}

/** Keys among these that a pending write or the trash accounts for. */
export async function listAccounted(
  queryer: Queryer,
  entries: readonly { readonly key: string; readonly sequence: bigint }[],
): Promise<string[]> {
  const { rows } = await queryer.query<{ key: string }>({
    name: 'list-accounted',
    text: `SELECT e.key FROM unnest($1::text[], $2::bigint[]) e(key, sequence)
           WHERE EXISTS (SELECT FROM object_trash t WHERE t.key = e.key) OR EXISTS (SELECT FROM pending_writes p WHERE p.sequence = e.sequence)`,
    values: [entries.map(({ key }) => key), entries.map(({ sequence }) => sequence.toString())],
  });
  return rows.map(({ key }) => key);
}
