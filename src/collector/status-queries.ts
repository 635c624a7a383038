// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Queryer } from '../database/pool.js';

/** How much waits. */
export interface CollectionStatus {
  /** Rows of the queues, due or not; counted up to a limit. */
  readonly manifests: number;
  readonly links: number;
  readonly blobs: number;
  /** Data objects in the trash, and their bytes. */
  readonly dataObjects: number;
  readonly dataBytes: number;
  /** By how many seconds the oldest row of a queue, and the oldest of the trash, is overdue. */
  readonly queueOverdueSeconds: number;
  readonly trashOverdueSeconds: number;
}

/** Counting more rows than this is not worth its time: a figure that stands here says "at least". */
export const mostCounted = 100_000;

export async function findStatus(queryer: Queryer): Promise<CollectionStatus> {
  const { rows } = await queryer.query<CollectionStatus>({
    name: 'gc-status',
    text: `SELECT ${count('gc_manifests')} AS manifests, ${count('gc_links')} AS links, ${count('gc_blobs')} AS blobs,
             t.objects AS "dataObjects", t.bytes AS "dataBytes",
             COALESCE(${overdue('LEAST((SELECT min(due) FROM gc_manifests), (SELECT min(due) FROM gc_links), (SELECT min(due) FROM gc_blobs))')}, 0) AS "queueOverdueSeconds",
             COALESCE(${overdue('(SELECT min(not_before) FROM object_trash)')}, 0) AS "trashOverdueSeconds"
           FROM (SELECT count(*)::int AS objects, COALESCE(sum(size), 0)::float8 AS bytes
                 FROM (SELECT size FROM object_trash WHERE kind = 'data' AND uuid IS NOT NULL LIMIT ${mostCounted}) d) t`,
  });
  return rows[0] as CollectionStatus;
}

function overdue(oldest: string): string {
  return `GREATEST(0, EXTRACT(epoch FROM clock_timestamp() - ${oldest}))::float8`;
}

function count(table: string): string {
  return `(SELECT count(*)::int FROM (SELECT FROM ${table} LIMIT ${mostCounted}) q)`;
}
