// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The state of a rebuild, which is kept in the database that is being rebuilt. */
import type { PoolClient } from 'pg';
import { digestFromText, digestToColumn } from '../database/columns.js';
import { sqlStateOf } from '../database/failures.js';
import type { Queryer } from '../database/pool.js';
import type { Digest } from '../oci/digest.js';
import type { RepositoryName } from '../oci/repository-name.js';
import { linkPrefix } from '../storage/keys.js';
import { RebuildRefused, takeClaim } from './claim.js';
import type { Finding } from './read-group.js';

/** lock_not_available, query_canceled. */
const waitsEnded: ReadonlySet<string> = new Set(['55P03', '57014']);
/** One at a time on a database; the number is any. */
const rebuildLock = 4_872_100_916;

export async function lockRebuild(client: PoolClient): Promise<boolean> {
  const { rows } = await client.query<{ locked: boolean }>('SELECT pg_try_advisory_lock($1) AS locked', [rebuildLock]);
  return rows[0]?.locked === true;
}

export async function unlockRebuild(client: PoolClient): Promise<void> {
  await client.query('SELECT pg_advisory_unlock($1)', [rebuildLock]);
}

export interface DatabaseState {
  /** Nodes that have given a sign of life within a minute. */
  readonly nodes: readonly string[];
  readonly isEmpty: boolean;
  readonly isRebuilding: boolean;
  /** It went with a store that had an owner. */
  readonly knowsStore: boolean;
}

/**
 * Marks the index as incomplete, provided that nobody uses it; `mayBegin` decides by what it is told. Nodes look for the mark after they have registered, so either we
 * see the node or it sees the mark. Returns the claim.
 */
export async function beginRebuild(client: PoolClient, mayBegin: (state: DatabaseState) => void, replace: boolean): Promise<string> {
  await client.query('BEGIN');
  try {
    // One that sleeps in a transaction holds its claim, until Postgres ends it (idle_in_transaction_session_timeout, 30 s).
    await client.query(`SET LOCAL lock_timeout = '35s'`);
    await client.query(`SET LOCAL statement_timeout = '38s'`);
    await client.query('LOCK TABLE nodes IN SHARE ROW EXCLUSIVE MODE');
    const nodes = await client.query<{ id: string }>(`SELECT id FROM nodes WHERE heartbeat_at > clock_timestamp() - interval '60 seconds'`);
    const state = await client.query<{ is_empty: boolean; is_rebuilding: boolean; knows_store: boolean }>(
      `SELECT NOT EXISTS (SELECT FROM repositories) AS is_empty, rebuild_started_at IS NOT NULL AS is_rebuilding, store_id IS NOT NULL AS knows_store
       FROM cluster`,
    );
    const [row] = state.rows;
    mayBegin({
      nodes: nodes.rows.map(({ id }) => id),
      isEmpty: row?.is_empty === true,
      isRebuilding: row?.is_rebuilding === true,
      knowsStore: row?.knows_store === true,
    });
    if (replace || row?.is_rebuilding !== true) {
      await client.query(
        `TRUNCATE repositories, blobs, repository_blobs, manifests, manifest_blobs, manifest_children, missing_references, tags, tag_history, tombstones,
                  upload_sessions, pending_writes, object_trash, gc_links, gc_manifests, gc_blobs, sweep_sightings, gc_runs, quarantine, rebuild_progress, rebuild_second_copies, repository_sizes, repository_size_deltas, nodes CASCADE`,
      );
    }
    const claim = await takeClaim(client);
    await client.query('COMMIT');
    return claim;
  } catch (error) {
    await client.query('ROLLBACK');
    if (!waitsEnded.has(sqlStateOf(error) ?? '')) throw error;
    throw new RebuildRefused('somebody holds a lock on the index, perhaps another rebuild that sleeps: try again in a minute', {
      cause: error,
    });
  }
}

export interface Counts {
  readonly repositories: number;
  readonly links: number;
  readonly manifests: number;
  readonly tags: number;
}

export interface ShardProgress {
  readonly position: string;
  readonly done: boolean;
  readonly counts: Counts;
}

export async function listProgress(queryer: Queryer): Promise<Map<string, ShardProgress>> {
  const { rows } = await queryer.query<ShardProgress & { shard: string }>('SELECT shard, position, done, counts FROM rebuild_progress');
  return new Map(rows.map((row) => [row.shard, row]));
}

export async function saveProgress(
  queryer: Queryer,
  shard: string,
  { position, done, counts, largestSequence }: ShardProgress & { readonly largestSequence: bigint },
): Promise<void> {
  await queryer.query({
    name: 'save-rebuild-progress',
    text: `INSERT INTO rebuild_progress AS p (shard, position, done, largest_sequence, counts) VALUES ($1, $2, $3, $4, $5)
           ON CONFLICT (shard) DO UPDATE SET position = EXCLUDED.position, done = EXCLUDED.done, counts = EXCLUDED.counts,
             largest_sequence = GREATEST(p.largest_sequence, EXCLUDED.largest_sequence)`,
    values: [shard, position, done, largestSequence, JSON.stringify(counts)],
  });
}

export async function quarantine(queryer: Queryer, findings: readonly Finding[]): Promise<void> {
  await queryer.query({
    name: 'quarantine',
    text: `INSERT INTO quarantine (key, reason) SELECT * FROM unnest($1::text[], $2::text[]) ON CONFLICT DO NOTHING`,
    values: [findings.map(({ key }) => key), findings.map(({ reason }) => reason)],
  });
}

export async function listQuarantine(queryer: Queryer, limit: number): Promise<Finding[]> {
  const { rows } = await queryer.query<Finding>('SELECT key, reason FROM quarantine ORDER BY key LIMIT $1', [limit]);
  return rows;
}

/** No sequence that stands in the store, or that a node may have drawn and not yet written, is drawn again. */
export async function jumpSequence(queryer: Queryer, recorded: bigint, margin: bigint): Promise<bigint> {
  const { rows } = await queryer.query<{ value: string }>(
    `SELECT setval('entry_sequence', GREATEST((SELECT last_value FROM entry_sequence), $1::bigint,
       $2::bigint + COALESCE((SELECT max(largest_sequence) FROM rebuild_progress), 0))) AS value`,
    [recorded, margin],
  );
  return BigInt(rows[0]?.value ?? 0);
}

export interface SecondCopy {
  readonly repository: RepositoryName;
  readonly digest: Digest;
  readonly uuid: string;
  readonly sequence: bigint;
  /** The copy that counts. */
  readonly first: { readonly uuid: string; readonly key: string | null };
}

export async function listSecondCopies(queryer: Queryer, limit: number): Promise<SecondCopy[]> {
  const { rows } = await queryer.query<[RepositoryName, string, string, string, string, string | null]>({
    name: 'list-second-copies',
    text: `SELECT s.repository, s.digest::text, s.uuid, s.sequence, b.uuid, b.key FROM rebuild_second_copies s
           JOIN blobs b ON b.digest = s.digest AND NOT b.damaged ORDER BY s.repository, s.digest LIMIT $1`,
    values: [limit],
    rowMode: 'array',
  });
  return rows.map(([repository, digest, uuid, sequence, first, key]) => ({
    repository,
    digest: digestFromText(digest),
    uuid,
    sequence: BigInt(sequence),
    first: { uuid: first, key },
  }));
}

export async function drawSequence(queryer: Queryer): Promise<bigint> {
  const { rows } = await queryer.query<{ value: string }>(`SELECT nextval('entry_sequence') AS value`);
  return BigInt(rows[0]?.value ?? 0);
}

/** The link to the first copy is written under `sequence`; the entry to the second goes to the trash. */
export async function replaceSecondCopy(
  queryer: Queryer,
  { repository, digest, uuid, sequence, first }: SecondCopy,
  by: bigint,
): Promise<void> {
  await queryer.query({
    name: 'replace-second-copy',
    text: `WITH gone AS (DELETE FROM rebuild_second_copies WHERE repository = $1 AND digest = $2),
           link AS (
             INSERT INTO repository_blobs (repository_id, digest, uuid, sequence, due_at) SELECT id, $2, $3, $4, next_due() FROM repositories WHERE name = $1
             ON CONFLICT DO NOTHING RETURNING repository_id
           ), old AS (
             INSERT INTO object_trash (key, reason, not_before) SELECT entry_key($5 || '%.' || $6, $7), 'superseded', next_due() ON CONFLICT DO NOTHING
           ) SELECT repository_id FROM link`,
    values: [repository, digestToColumn(digest), first.uuid, by, linkPrefix(repository, digest), uuid, sequence],
  });
}

/** References that were missing only since their link was a second copy. */
export async function restoreArrivedBlobs(queryer: Queryer, repository: RepositoryName, digest: Digest): Promise<void> {
  await queryer.query({
    name: 'restore-arrived-blobs',
    text: `WITH arrived AS (
             DELETE FROM missing_references r USING repositories p WHERE p.name = $1 AND r.repository_id = p.id AND r.digest = $2 AND r.kind = 'blob'
             RETURNING r.repository_id, r.manifest
           ) INSERT INTO manifest_blobs (repository_id, manifest, digest) SELECT repository_id, manifest, $2 FROM arrived ON CONFLICT DO NOTHING`,
    values: [repository, digestToColumn(digest)],
  });
}

/** The index is complete; collection waits for as long as what was just pushed does. Returns the cluster's id: the one given, which the store is marked with. Its generation is above the
 * store's, so that this database counts and those before it do not. */
export async function finishRebuild(queryer: Queryer, clusterId: string | undefined, generation: bigint): Promise<string> {
  const { rows } = await queryer.query<{ id: string }>(
    `UPDATE cluster SET id = COALESCE($1, id), generation = GREATEST(generation, $2::bigint) + 1, store_id = NULL, catch_up_due = NULL, rebuild_started_at = NULL, gc_not_before = next_due() RETURNING id`,
    [clusterId, generation],
  );
  return rows[0]?.id ?? '';
}

export async function forgetProgress(queryer: Queryer): Promise<void> {
  await queryer.query('TRUNCATE rebuild_progress');
}

export async function isRebuilding(queryer: Queryer): Promise<boolean> {
  const { rows } = await queryer.query<{ is_rebuilding: boolean }>('SELECT rebuild_started_at IS NOT NULL AS is_rebuilding FROM cluster');
  return rows[0]?.is_rebuilding === true;
}
