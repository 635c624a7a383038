// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What a database that went back in time holds beside the store, and the steps that bring it forward. */
import type { PoolClient } from 'pg';
import { digestFromText, digestsToColumn, digestToColumn, namesToColumn } from '../database/columns.js';
import type { Queryer, ServerPool } from '../database/pool.js';
import type { Digest } from '../oci/digest.js';
import type { Tag } from '../oci/reference.js';
import type { RepositoryName } from '../oci/repository-name.js';
import type { KeyTemplate } from '../storage/keys.js';
import type { RestoredLink, RestoredTagEntry } from './read-group.js';

/** What the database has under a prefix. */
export interface Known {
  readonly row: bigint | undefined;
  /** A link's data. */
  readonly uuid: string | undefined;
  readonly tombstone: bigint | undefined;
}

export interface Place {
  readonly repository: RepositoryName;
  readonly digest: Digest;
  readonly prefix: string;
}

export async function listKnown(queryer: Queryer, kind: 'link' | 'manifest', places: readonly Place[]): Promise<Known[]> {
  const [table, uuid] = kind === 'link' ? ['repository_blobs', 'x.uuid'] : ['manifests', 'NULL'];
  const { rows } = await queryer.query<[string | null, string | null, string | null]>({
    name: `list-known-${kind}s`,
    text: `SELECT x.sequence, ${uuid}, t.sequence FROM unnest($1::text[], $2::bytea[], $3::text[]) WITH ORDINALITY k(name, digest, path, i)
           LEFT JOIN repositories r ON r.name = k.name LEFT JOIN ${table} x ON x.repository_id = r.id AND x.digest = k.digest
           LEFT JOIN tombstones t ON t.path = k.path ORDER BY k.i`,
    values: [
      namesToColumn(places.map(({ repository }) => repository)),
      digestsToColumn(places.map(({ digest }) => digest)),
      places.map(({ prefix }) => prefix),
    ],
    rowMode: 'array',
  });
  return rows.map(([row, data, tombstone]) => ({ row: sequenceOf(row), uuid: data ?? undefined, tombstone: sequenceOf(tombstone) }));
}

function sequenceOf(text: string | null): bigint | undefined {
  return text === null ? undefined : BigInt(text);
}

/** Indexes of the tag entries that are not in the history. */
export async function listUnknownTagEntries(
  queryer: Queryer,
  entries: readonly { readonly repository: RepositoryName; readonly tag: Tag; readonly sequence: bigint }[],
): Promise<number[]> {
  const { rows } = await queryer.query<[string]>({
    name: 'list-unknown-tag-entries',
    text: `SELECT k.i FROM unnest($1::text[], $2::text[], $3::bigint[]) WITH ORDINALITY k(name, tag, sequence, i) LEFT JOIN repositories r ON r.name = k.name
           WHERE NOT EXISTS (SELECT FROM tag_history h WHERE h.repository_id = r.id AND h.name = k.tag AND h.sequence = k.sequence) ORDER BY k.i`,
    values: [
      namesToColumn(entries.map(({ repository }) => repository)),
      namesToColumn(entries.map(({ tag }) => tag)),
      entries.map(({ sequence }) => sequence),
    ],
    rowMode: 'array',
  });
  return rows.map(([position]) => Number(position) - 1);
}

/** One walk at a time, so that who ends first does not end the others' rest. */
export interface HeldWalk {
  /** Aborts when another may walk: the connection that held the lock is gone. */
  readonly lost: AbortSignal;
  letGo(): void;
}

/** Undefined while another walks. A process that is frozen holds it no longer than `holdMs`. */
export async function holdWalk(pool: ServerPool): Promise<HeldWalk | undefined> {
  const client = await pool.connect();
  let held = false;
  try {
    const { rows } = await client.query<{ held: boolean }>('SELECT pg_try_advisory_lock($1) AS held', [walkLock]);
    held = rows[0]?.held === true;
    if (held) await client.query(`SET idle_session_timeout = '${holdMs}ms'`);
  } catch (error) {
    client.release(true);
    throw error;
  }
  if (!held) {
    client.release();
    return undefined;
  }
  const lost = new AbortController();
  const timer = setInterval(
    () => void client.query('SELECT').catch(() => lost.abort(new Error('the database gave up the connection that keeps other walks away'))),
    holdMs / 3,
  );
  return {
    lost: lost.signal,
    letGo() {
      clearInterval(timer);
      // The lock goes with the connection.
      client.release(true);
    },
  };
}

/** Any number of its own. */
const walkLock = 4_872_100_917;
const holdMs = 30_000;

/** Collection stops until `endCatchUp`, also when this process does not come that far. */
export async function beginCatchUp(queryer: Queryer, recorded: bigint): Promise<void> {
  await queryer.query(`UPDATE cluster SET gc_not_before = 'infinity'`);
  await passSequence(queryer, recorded);
}

export async function endCatchUp(queryer: Queryer): Promise<void> {
  await queryer.query('UPDATE cluster SET gc_not_before = next_due()');
}

/** New sequences are above `seen` from now on; never sets them back. */
export async function passSequence(queryer: Queryer, seen: bigint): Promise<void> {
  await queryer.query(`SELECT setval('entry_sequence', $1) FROM entry_sequence WHERE last_value < $1`, [seen]);
}

/** Makes an entry of the store pending in this node's name, within a transaction that goes on to commit it. False: it is another's to decide. */
export async function adoptEntry(
  client: PoolClient,
  node: string,
  sequence: bigint,
  repository: RepositoryName,
  templates: readonly KeyTemplate[],
): Promise<boolean> {
  const { rows } = await client.query<{ adopted: boolean }>('SELECT ensure_repository($3), adopt_entry($1, $2, $3, $4) AS adopted', [
    node,
    sequence,
    repository,
    templates,
  ]);
  return rows[0]?.adopted === true;
}

/** Makes the data a blob, and keeps it from the trash. False where the digest has an undamaged copy elsewhere. */
export async function adoptData(
  client: PoolClient,
  data: Pick<RestoredLink, 'digest' | 'uuid' | 'size' | 'key' | 'damaged' | 'damageSequence'>,
): Promise<boolean> {
  const digest = digestToColumn(data.digest);
  await client.query(
    `INSERT INTO blobs (digest, uuid, size, key, damaged, damage_sequence, damage_marked) VALUES ($1, $2, $3, $4, $5, $6::bigint, $6::bigint IS NOT NULL)
     ON CONFLICT DO NOTHING`,
    [digest, data.uuid, data.size, data.key ?? null, data.damaged, data.damageSequence ?? null],
  );
  await client.query('SELECT keep_data($1)', [data.uuid]);
  const { rowCount } = await client.query('SELECT FROM blobs WHERE digest = $1 AND uuid = $2', [digest, data.uuid]);
  return rowCount === 1;
}

/** False when the tag's manifest is not there. */
export async function adoptTag(
  client: PoolClient,
  node: string,
  entry: {
    readonly repository: RepositoryName;
    readonly tag: Tag;
    readonly prefix: string;
    readonly sequence: bigint;
    readonly at: Date | undefined;
  },
  digest: Digest,
): Promise<boolean> {
  const { rows } = await client.query<{ adopted: boolean }>('SELECT adopt_tag($1, $2, $3, $4, $5, $6, COALESCE($7, now())) AS adopted', [
    node,
    entry.sequence,
    entry.repository,
    entry.tag,
    digestToColumn(digest),
    entry.prefix,
    entry.at ?? null,
  ]);
  return rows[0]?.adopted === true;
}

/** An entry of a tag that has no manifest any more: it is history alone. */
export async function adoptPastTag(
  client: PoolClient,
  entry: { readonly repository: RepositoryName; readonly tag: Tag; readonly sequence: bigint; readonly at: Date | undefined },
  digest: Digest,
): Promise<void> {
  await client.query('SELECT settle($1)', [entry.sequence]);
  await client.query(
    `INSERT INTO tag_history (repository_id, name, sequence, digest, at) SELECT id, $2, $3, $4, COALESCE($5, now()) FROM repositories WHERE name = $1
     ON CONFLICT DO NOTHING`,
    [entry.repository, entry.tag, entry.sequence, digestToColumn(digest), entry.at ?? null],
  );
}

export async function listTagsOf(queryer: Queryer, repository: RepositoryName, digest: Digest): Promise<Tag[]> {
  const { rows } = await queryer.query<{ name: Tag }>(
    'SELECT t.name FROM tags t JOIN repositories r ON r.id = t.repository_id WHERE r.name = $1 AND t.digest = $2 ORDER BY t.name',
    [repository, digestToColumn(digest)],
  );
  return rows.map(({ name }) => name);
}

export async function dropLink(queryer: Queryer, node: string, { repository, digest }: Place, sequence: bigint): Promise<boolean> {
  return dropped(queryer, 'SELECT drop_link($1, $2, $3, $4) AS dropped', [node, repository, digestToColumn(digest), sequence]);
}

export async function dropManifest(queryer: Queryer, node: string, { repository, digest }: Place, sequence: bigint): Promise<boolean> {
  return dropped(queryer, 'SELECT drop_manifest($1, $2, $3, $4) AS dropped', [node, repository, digestToColumn(digest), sequence]);
}

export async function dropTagEntry(
  queryer: Queryer,
  node: string,
  entry: { readonly repository: RepositoryName; readonly tag: Tag; readonly prefix: string; readonly sequence: bigint },
): Promise<boolean> {
  return dropped(queryer, 'SELECT drop_tag_entry($1, $2, $3, $4, $5) AS dropped', [
    node,
    entry.repository,
    entry.tag,
    entry.prefix,
    entry.sequence,
  ]);
}

export async function dropTombstone(queryer: Queryer, path: string, sequence: bigint): Promise<void> {
  await queryer.query('DELETE FROM tombstones WHERE path = $1 AND sequence = $2', [path, sequence]);
}

/** A tag whose newest entry was dropped points at the next one again. */
export async function resetTag(
  queryer: Queryer,
  node: string,
  entry: Pick<RestoredTagEntry, 'repository' | 'tag' | 'prefix' | 'sequence' | 'at'>,
  digest: Digest,
): Promise<void> {
  const { repository, tag, prefix, sequence, at } = entry;
  const values = [node, repository, tag, prefix, digestToColumn(digest), sequence, at ?? null];
  await queryer.query('SELECT reset_tag($1, $2, $3, $4, $5, $6, $7)', values);
}

/** When it was, as its entry says. */
export async function setTagTime(
  queryer: Queryer,
  {
    repository,
    tag,
    sequence,
    at,
  }: { readonly repository: RepositoryName; readonly tag: Tag; readonly sequence: bigint; readonly at: Date | undefined },
): Promise<void> {
  await queryer.query(
    `UPDATE tag_history h SET at = COALESCE($4, h.at) FROM repositories r WHERE r.name = $1 AND h.repository_id = r.id AND h.name = $2 AND h.sequence = $3`,
    [repository, tag, sequence, at ?? null],
  );
}

async function dropped(queryer: Queryer, text: string, values: unknown[]): Promise<boolean> {
  const { rows } = await queryer.query<{ dropped: boolean }>(text, values);
  return rows[0]?.dropped === true;
}

/** A row that an entry of the store stands for. */
export type IndexedEntry = Readonly<{ repository: RepositoryName; sequence: bigint }> &
  (
    | Readonly<{ kind: 'link'; digest: Digest; uuid: string }>
    | Readonly<{ kind: 'manifest'; digest: Digest }>
    | Readonly<{ kind: 'tag'; tag: Tag; digest: Digest | undefined }>
    | Readonly<{ kind: 'tombstone'; path: string }>
  );

const pageRows = 1000;
type Page = [id: string, name: string, place: string, sequence: string, extra: string | null];

const indexedTables = {
  link: `SELECT t.repository_id, r.name, t.digest::text, t.sequence, t.uuid FROM repository_blobs t JOIN repositories r ON r.id = t.repository_id
         WHERE (t.repository_id, t.digest) > ($1, $2::bytea) ORDER BY t.repository_id, t.digest LIMIT ${pageRows}`,
  manifest: `SELECT t.repository_id, r.name, t.digest::text, t.sequence, NULL FROM manifests t JOIN repositories r ON r.id = t.repository_id
             WHERE (t.repository_id, t.digest) > ($1, $2::bytea) ORDER BY t.repository_id, t.digest LIMIT ${pageRows}`,
  tag: `SELECT t.repository_id, r.name, t.name, t.sequence, t.digest::text FROM tag_history t JOIN repositories r ON r.id = t.repository_id
        WHERE (t.repository_id, t.name, t.sequence) > ($1, $2, $3) ORDER BY t.repository_id, t.name, t.sequence LIMIT ${pageRows}`,
  tombstone: `SELECT t.repository_id, r.name, t.path, t.sequence, NULL FROM tombstones t JOIN repositories r ON r.id = t.repository_id
              WHERE t.path > $2 AND $1::bigint IS NOT NULL ORDER BY t.path LIMIT ${pageRows}`,
} as const;

/** Where a page ends: a repository's id, a place in it, a sequence. */
export type IndexPosition = readonly [string, string, string];

export interface IndexPage {
  readonly rows: readonly IndexedEntry[];
  readonly position: IndexPosition;
}

/** All rows that stand for entries, page by page; from where an earlier walk ended. */
export async function* listIndexed(queryer: Queryer, kind: IndexedEntry['kind'], begin?: IndexPosition): AsyncGenerator<IndexPage> {
  let after = begin ?? firstIndexed(kind, '0');
  for (;;) {
    const values = kind === 'tag' ? [...after] : after.slice(0, 2);
    const { rows } = await queryer.query<Page>({ text: indexedTables[kind], values, rowMode: 'array' });
    const last = rows.at(-1);
    if (last === undefined) return;
    after = [last[0], last[2], last[3]];
    yield { rows: rows.map((row) => indexedEntry(kind, row)), position: after };
  }
}

/** Before all rows of this repository, and of those with a larger id. */
export function firstIndexed(kind: IndexedEntry['kind'], repositoryId: string): IndexPosition {
  return [repositoryId, kind === 'link' || kind === 'manifest' ? '\\x' : '', '0'];
}

function indexedEntry(kind: IndexedEntry['kind'], [, name, place, text, extra]: Page): IndexedEntry {
  const common = { repository: name as RepositoryName, sequence: BigInt(text) };
  switch (kind) {
    case 'link':
      return { ...common, kind, digest: digestFromText(place), uuid: extra ?? '' };
    case 'manifest':
      return { ...common, kind, digest: digestFromText(place) };
    case 'tag':
      return { ...common, kind, tag: place as Tag, digest: extra === null ? undefined : digestFromText(extra) };
    case 'tombstone':
      return { ...common, kind, path: place };
  }
}
