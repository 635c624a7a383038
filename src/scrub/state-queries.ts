// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { digestFromText } from '../database/columns.js';
import type { Queryer } from '../database/pool.js';
import type { Digest } from '../oci/digest.js';
import { walks } from './walk-queries.js';

export interface ScrubState {
  /** Counted up to a limit. */
  readonly damaged: number;
  readonly quarantined: number;
  /** Since the oldest check of a blob; undefined where there is no blob. */
  readonly oldestSeconds: number | undefined;
  /** Since when every entry has been compared, as an ISO time; undefined where that was never done to its end. */
  readonly comparedAt: string | undefined;
}

/** Counting more rows than this is not worth its time: a figure that stands here says "at least". */
const mostCounted = 10_000;

export async function findScrubState(queryer: Queryer): Promise<ScrubState> {
  const { rows } = await queryer.query<{ damaged: number; quarantined: number; oldest: number | null; compared: Date | null }>({
    name: 'find-scrub-state',
    text: `SELECT (SELECT count(*)::int FROM (SELECT FROM blobs WHERE damaged LIMIT ${mostCounted}) d) AS damaged,
                  (SELECT count(*)::int FROM (SELECT FROM quarantine LIMIT ${mostCounted}) q) AS quarantined,
                  (SELECT EXTRACT(epoch FROM clock_timestamp() - COALESCE(checked_at, created_at))::float8 FROM blobs
                   ORDER BY COALESCE(checked_at, created_at), digest, uuid LIMIT 1) AS oldest,
                  (SELECT min(begun_at) FROM scrub_walks HAVING count(*) = ${walks.length} AND count(completed_at) = ${walks.length}) AS compared`,
  });
  const [row] = rows;
  return {
    damaged: row?.damaged ?? 0,
    quarantined: row?.quarantined ?? 0,
    oldestSeconds: row?.oldest ?? undefined,
    comparedAt: row?.compared?.toISOString(),
  };
}

export interface DamagedBlob {
  readonly digest: Digest;
  readonly key: string;
  readonly reason: string | undefined;
  readonly since: string | undefined;
  /** The first of those that are linked to it. */
  readonly repositories: readonly string[];
}

/** With the repositories where a push heals it. */
export async function listDamaged(queryer: Queryer, limit: number): Promise<DamagedBlob[]> {
  const { rows } = await queryer.query<[string, string, string | null, Date | null, string[]]>({
    name: 'list-damaged',
    text: `SELECT b.digest::text, COALESCE(b.key, data_key(b.uuid)), b.damage, b.damaged_at,
             ARRAY(SELECT r.name FROM repository_blobs rb JOIN repositories r ON r.id = rb.repository_id
                   WHERE rb.digest = b.digest AND rb.uuid = b.uuid ORDER BY r.name LIMIT 10)
           FROM blobs b WHERE b.damaged ORDER BY b.digest, b.uuid LIMIT $1`,
    values: [limit],
    rowMode: 'array',
  });
  return rows.map(([digest, key, reason, since, repositories]) => ({
    digest: digestFromText(digest),
    key,
    reason: reason ?? undefined,
    since: since?.toISOString(),
    repositories,
  }));
}

/** Bytes of all blobs; looks at all rows. */
export async function findSize(queryer: Queryer): Promise<number> {
  const { rows } = await queryer.query<{ bytes: number }>('SELECT COALESCE(sum(size), 0)::float8 AS bytes FROM blobs');
  return rows[0]?.bytes ?? 0;
}
