// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Queryer } from '../database/pool.js';

/** Begins a job that is not for every round; false when it was begun less than `interval` ago, by whatever node. */
export async function beginJob(queryer: Queryer, job: string, interval: string): Promise<boolean> {
  const { rowCount } = await queryer.query({
    name: 'begin-job',
    text: `INSERT INTO gc_runs AS g (job, begun_at) VALUES ($1, clock_timestamp())
           ON CONFLICT (job) DO UPDATE SET begun_at = EXCLUDED.begun_at WHERE g.begun_at < clock_timestamp() - $2::interval`,
    values: [job, interval],
  });
  return rowCount === 1;
}

const isUnknown = `NOT EXISTS (SELECT 1 FROM blobs b WHERE b.uuid = k.uuid) AND NOT EXISTS (SELECT 1 FROM upload_sessions s WHERE s.data_uuid = k.uuid)
  AND NOT EXISTS (SELECT 1 FROM object_trash t WHERE t.key = data_key(k.uuid))`;

/** Notes which of these data objects nothing names. */
export async function noteUnknownData(queryer: Queryer, uuids: readonly string[]): Promise<void> {
  await queryer.query({
    name: 'note-unknown-data',
    text: `INSERT INTO sweep_sightings (uuid) SELECT k.uuid FROM unnest($1::uuid[]) k (uuid) WHERE ${isUnknown}
           ON CONFLICT (uuid) DO UPDATE SET last_seen_at = clock_timestamp()`,
    values: [uuids],
  });
}

/** What was not seen again since `interval` is forgotten. */
export async function forgetSightings(queryer: Queryer, interval: string): Promise<void> {
  await queryer.query({
    name: 'forget-sightings',
    text: 'DELETE FROM sweep_sightings WHERE last_seen_at < clock_timestamp() - $1::interval',
    values: [interval],
  });
}

/** Seen for at least `interval`, and seen again just now. */
export async function listSuspects(queryer: Queryer, interval: string, limit: number): Promise<string[]> {
  const { rows } = await queryer.query<{ uuid: string }>({
    name: 'list-suspects',
    text: 'SELECT uuid FROM sweep_sightings WHERE last_seen_at - first_seen_at >= $1::interval ORDER BY uuid LIMIT $2',
    values: [interval, limit],
  });
  return rows.map(({ uuid }) => uuid);
}

export async function clearSightings(queryer: Queryer, uuids: readonly string[]): Promise<void> {
  await queryer.query({ name: 'clear-sightings', text: 'DELETE FROM sweep_sightings WHERE uuid = ANY ($1::uuid[])', values: [uuids] });
}

/** Into the trash, unless something has come to name them. */
export async function trashOrphans(queryer: Queryer, uuids: readonly string[]): Promise<number> {
  const { rowCount } = await queryer.query({
    name: 'trash-orphans',
    text: `INSERT INTO object_trash (key, reason) SELECT data_key(k.uuid), 'orphan' FROM unnest($1::uuid[]) k (uuid) WHERE ${isUnknown} ON CONFLICT DO NOTHING`,
    values: [uuids],
  });
  return rowCount ?? 0;
}
