// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { digestToColumn } from '../database/columns.js';
import type { Queryer } from '../database/pool.js';
import type { Digest } from '../oci/digest.js';

/** Which database answers, and how far it is. */
export interface DatabaseFacts {
  readonly generation: bigint;
  /** What a restore or a failover changes: the server's identity, the database's, and the timeline of its log. */
  readonly fingerprint: string;
  /** When the server was started: afterwards it may serve other data than before under the same fingerprint. */
  readonly startedAt: string;
  /** The highest sequence that it has given out. */
  readonly sequence: bigint;
  /** A standby, or synchronous_commit is off: nothing may be written through it. */
  readonly unfit: string | undefined;
}

export async function findFacts(queryer: Queryer): Promise<DatabaseFacts> {
  const { rows } = await queryer.query<Record<'generation' | 'fingerprint' | 'started_at' | 'sequence', string> & { unfit: string | null }>(
    {
      name: 'find-facts',
      text: `SELECT c.generation, s.last_value - CASE WHEN s.is_called THEN 0 ELSE 1 END AS sequence, extract(epoch FROM pg_postmaster_start_time())::text AS started_at,
             concat_ws('/', (SELECT system_identifier FROM pg_control_system()), (SELECT oid FROM pg_database WHERE datname = current_database()),
               CASE WHEN pg_is_in_recovery() THEN 'standby' ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END) AS fingerprint,
             CASE WHEN pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on' THEN 'it takes no writes'
                  WHEN current_setting('synchronous_commit') = 'off' THEN 'it has synchronous_commit = off' END AS unfit
           FROM cluster c, entry_sequence s`,
    },
  );
  const [row] = rows;
  if (row === undefined) throw new Error('the database has lost its table "cluster"');
  return {
    generation: BigInt(row.generation),
    fingerprint: row.fingerprint,
    startedAt: row.started_at,
    sequence: BigInt(row.sequence),
    unfit: row.unfit ?? undefined,
  };
}

/** Sequences begin above `past` from now on; returns the highest that may have been given out. */
export async function jumpSequence(queryer: Queryer, past: bigint): Promise<bigint> {
  const { rows } = await queryer.query<{ sequence: string }>('SELECT jump_sequence($1) AS sequence', [past]);
  return BigInt(rows[0]?.sequence ?? 0);
}

/** The highest sequence given out, which is durable when this returns. */
export async function recordHighWater(queryer: Queryer): Promise<bigint> {
  const { rows } = await queryer.query<{ sequence: string }>('SELECT record_high_water() AS sequence');
  return BigInt(rows[0]?.sequence ?? 0);
}

/** Begins the generation after `from`, and notes that the store must be walked. Nothing, when another node did. */
export async function beginGeneration(queryer: Queryer, from: bigint): Promise<void> {
  await queryer.query('SELECT begin_generation($1)', [from]);
}

export async function isNode(queryer: Queryer, node: string): Promise<boolean> {
  const { rowCount } = await queryer.query('SELECT FROM nodes WHERE id = $1', [node]);
  return rowCount === 1;
}

/** The node has verified what it remembers, for this generation. */
export async function setNodeGeneration(queryer: Queryer, node: string, generation: bigint): Promise<void> {
  await queryer.query('UPDATE nodes SET generation = $2 WHERE id = $1', [node, generation]);
}

/** Whether nodes ended without a word before the server was started, and none was heard since: then it may be an older copy of itself that was started. */
export async function endedBeforeServer(queryer: Queryer): Promise<boolean> {
  const { rows } = await queryer.query<{ ended: boolean }>('SELECT max(heartbeat_at) < pg_postmaster_start_time() AS ended FROM nodes');
  return rows[0]?.ended === true;
}

/** Those of the ids that have no row. A node that left, or was declared dead, has taken its mark along. */
export async function listUnknownNodes(queryer: Queryer, ids: readonly string[]): Promise<string[]> {
  const { rows } = await queryer.query<{ id: string }>(
    'SELECT marked.id FROM unnest($1::uuid[]) marked (id) WHERE NOT EXISTS (SELECT FROM nodes n WHERE n.id = marked.id)',
    [ids],
  );
  return rows.map(({ id }) => id);
}

/** How many nodes that live have yet to verify what they remember. */
export async function countUnverified(queryer: Queryer, generation: bigint): Promise<number> {
  const { rows } = await queryer.query<{ count: number }>(
    'SELECT count(*)::int AS count FROM nodes WHERE generation < $1 AND node_lives(id)',
    [generation],
  );
  return rows[0]?.count ?? 0;
}

/** The present generation, when the store may hold more than the database and was not walked since; else undefined. */
export async function findCatchUp(queryer: Queryer): Promise<bigint | undefined> {
  const { rows } = await queryer.query<{ generation: string }>('SELECT generation FROM cluster WHERE catch_up_due IS NOT NULL');
  const [row] = rows;
  return row === undefined ? undefined : BigInt(row.generation);
}

/** After the walk that began in `generation`. False when the database has changed since: then another walk is due. */
export async function setCaughtUp(queryer: Queryer, generation: bigint): Promise<boolean> {
  const { rowCount } = await queryer.query(
    'UPDATE cluster SET catch_up_due = NULL, caught_up_at = clock_timestamp() WHERE generation = $1 AND catch_up_due IS NOT NULL',
    [generation],
  );
  return rowCount === 1;
}

/** An entry of the store as far as its name tells. */
export interface EntryClaim {
  readonly repository: string;
  readonly prefix: string;
  readonly sequence: bigint;
  readonly digest: Digest | undefined;
  readonly tag: string | undefined;
  readonly isManifest: boolean;
}

/** Indexes of the entries that the database knows neither themselves nor a newer one of. */
export async function listUnknownEntries(queryer: Queryer, entries: readonly EntryClaim[]): Promise<number[]> {
  const { rows } = await queryer.query<{ position: number }>({
    name: 'list-unknown-entries',
    text: 'SELECT unknown_entries($1, $2, $3, $4, $5, $6) AS position',
    values: [
      entries.map((entry) => entry.repository),
      entries.map((entry) => entry.prefix),
      entries.map(({ digest }) => (digest === undefined ? null : digestToColumn(digest))),
      entries.map((entry) => entry.tag ?? null),
      entries.map((entry) => entry.isManifest),
      entries.map((entry) => entry.sequence.toString()),
    ],
  });
  return rows.map(({ position }) => position - 1);
}

/** Makes a lost write pending again in this node's name; nothing deletes its objects or `data` from now on. */
export async function adoptWrite(
  queryer: Queryer,
  node: string,
  write: {
    readonly sequence: bigint;
    readonly repository: string;
    readonly templates: readonly string[];
    readonly data: readonly string[];
  },
): Promise<void> {
  await queryer.query('SELECT adopt_write($1, $2, $3, $4, $5)', [node, write.sequence, write.repository, write.templates, write.data]);
}

/** The data that count for the digest: these, unless there are others. */
export async function adoptBlob(queryer: Queryer, digest: Digest, uuid: string, size: number): Promise<string> {
  const { rows } = await queryer.query<{ uuid: string }>('SELECT adopt_blob($1, $2, $3) AS uuid', [digestToColumn(digest), uuid, size]);
  return rows[0]?.uuid ?? uuid;
}

/** Whether the manifest's row is of this very entry: its commit is not to be repeated. */
export async function isManifestEntry(queryer: Queryer, repository: string, digest: Digest, sequence: bigint): Promise<boolean> {
  const { rowCount } = await queryer.query(
    'SELECT FROM manifests m JOIN repositories r ON r.id = m.repository_id WHERE r.name = $1 AND m.digest = $2 AND m.sequence = $3',
    [repository, digestToColumn(digest), sequence],
  );
  return rowCount === 1;
}
