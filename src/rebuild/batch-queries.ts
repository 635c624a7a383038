// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * Rows by the hundreds, in the order in which they refer to each other. All can be said twice: a rebuild that was interrupted says some again. A connection that fires no
 * triggers (claim.ts) does what those of garbage collection would have done.
 */
import { bytesToColumns, digestsToColumn, digestToColumn, namesToColumn, plainToColumn } from '../database/columns.js';
import type { Queryer } from '../database/pool.js';
import type { Digest } from '../oci/digest.js';
import { manifestPrefix } from '../storage/keys.js';
import type { RestoredLink, RestoredManifest, RestoredReferrer, RestoredTagEntry } from './read-group.js';

const firesNoTriggers = `current_setting('session_replication_role') = 'replica'`;

/** Ids by name; repositories that are not there are made. */
export type RepositoryIds = ReadonlyMap<string, string>;

export async function restoreRepositories(queryer: Queryer, names: readonly string[]): Promise<RepositoryIds> {
  const column = namesToColumn([...new Set(names)].sort());
  await queryer.query({
    name: 'restore-repositories',
    text: 'INSERT INTO repositories (name) SELECT name FROM unnest($1::text[]) name ON CONFLICT DO NOTHING',
    values: [column],
  });
  const { rows } = await queryer.query<[string, string]>({
    name: 'restored-repositories',
    text: 'SELECT r.name, r.id FROM unnest($1::text[]) n(name) JOIN repositories r ON r.name = n.name',
    values: [column],
    rowMode: 'array',
  });
  return new Map(rows);
}

/** One undamaged copy of a digest counts. */
export async function restoreBlobs(queryer: Queryer, links: readonly RestoredLink[]): Promise<void> {
  if (links.length === 0) return;
  await queryer.query({
    name: 'restore-blobs',
    // In the order of digests, since another part of the walk may be inserting the same.
    text: `INSERT INTO blobs (digest, uuid, size, key, damaged, damage_sequence, damage_marked)
           SELECT DISTINCT ON (digest, uuid) *, damage_sequence IS NOT NULL
           FROM unnest($1::bytea[], $2::uuid[], $3::bigint[], $4::text[], $5::boolean[], $6::bigint[]) b(digest, uuid, size, key, damaged, damage_sequence)
           ORDER BY digest, uuid ON CONFLICT DO NOTHING`,
    values: [
      digestsToColumn(links.map(({ digest }) => digest)),
      plainToColumn(links.map(({ uuid }) => uuid)),
      plainToColumn(links.map(({ size }) => size)),
      links.map(({ key }) => key ?? null),
      links.map(({ damaged }) => damaged),
      links.map(({ damageSequence }) => damageSequence ?? null),
    ],
  });
}

/** Links to another copy than the one that counts are kept apart until the end. */
export async function restoreLinks(queryer: Queryer, ids: RepositoryIds, links: readonly RestoredLink[]): Promise<void> {
  await queryer.query({
    name: 'restore-links',
    text: `WITH l AS (SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::uuid[], $4::bigint[]) l(repository_id, digest, uuid, sequence)),
           placed AS (
             INSERT INTO repository_blobs (repository_id, digest, uuid, sequence, due_at)
             SELECT l.repository_id, l.digest, l.uuid, l.sequence, (SELECT next_due()) FROM l
             JOIN LATERAL (SELECT FROM blobs b WHERE b.digest = l.digest AND b.uuid = l.uuid OFFSET 0) b ON true ON CONFLICT DO NOTHING
             RETURNING repository_id, digest, due_at
           ), queued AS (INSERT INTO gc_links (repository_id, digest, due) SELECT * FROM placed WHERE ${firesNoTriggers})
           INSERT INTO rebuild_second_copies (repository, digest, uuid, sequence)
           SELECT r.name, l.digest, l.uuid, l.sequence FROM l JOIN repositories r ON r.id = l.repository_id
           WHERE NOT EXISTS (SELECT FROM blobs b WHERE b.digest = l.digest AND b.uuid = l.uuid) ON CONFLICT DO NOTHING`,
    values: [
      plainToColumn(links.map(({ repository }) => ids.get(repository))),
      digestsToColumn(links.map(({ digest }) => digest)),
      plainToColumn(links.map(({ uuid }) => uuid)),
      plainToColumn(links.map(({ sequence }) => sequence)),
    ],
  });
}

export async function restoreTombstones(
  queryer: Queryer,
  ids: RepositoryIds,
  tombstones: readonly { readonly repository: string; readonly path: string; readonly sequence: bigint }[],
): Promise<void> {
  await queryer.query({
    name: 'restore-tombstones',
    text: `INSERT INTO tombstones (path, repository_id, sequence) SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[]) ON CONFLICT DO NOTHING`,
    values: [
      tombstones.map(({ path }) => path),
      plainToColumn(tombstones.map(({ repository }) => ids.get(repository))),
      plainToColumn(tombstones.map(({ sequence }) => sequence)),
    ],
  });
}

export async function restoreManifests(queryer: Queryer, ids: RepositoryIds, manifests: readonly RestoredManifest[]): Promise<void> {
  const repositories = plainToColumn(manifests.map(({ repository }) => ids.get(repository)));
  const digests = digestsToColumn(manifests.map(({ digest }) => digest));
  const { bytes, starts, lengths } = bytesToColumns(manifests.map((manifest) => manifest.bytes));
  await queryer.query({
    name: 'restore-manifests',
    text: `WITH placed AS (
             INSERT INTO manifests (repository_id, digest, sequence, media_type, bytes, subject, artifact_type, annotations, due_at)
             SELECT repository_id, digest, sequence, media_type, substring($5::bytea FROM start FOR length), subject, artifact_type, annotations::jsonb, (SELECT next_due())
             FROM unnest($1::bigint[], $2::bytea[], $3::bigint[], $4::text[], $6::int[], $7::int[], $8::bytea[], $9::text[], $10::text[])
               m(repository_id, digest, sequence, media_type, start, length, subject, artifact_type, annotations) ON CONFLICT DO NOTHING
             RETURNING repository_id, digest, due_at
           ) INSERT INTO gc_manifests (repository_id, digest, due) SELECT * FROM placed WHERE ${firesNoTriggers}`,
    values: [
      repositories,
      digests,
      plainToColumn(manifests.map(({ sequence }) => sequence)),
      manifests.map(({ manifest }) => manifest.mediaType),
      bytes,
      starts,
      lengths,
      manifests.map(({ manifest }) => (manifest.subject === undefined ? null : digestToColumn(manifest.subject))),
      manifests.map(({ manifest }) => manifest.artifactType ?? null),
      manifests.map(({ manifest }) => (manifest.annotations === undefined ? null : JSON.stringify(manifest.annotations))),
    ],
  });
  await restoreReferences(queryer, ids, manifests, 'blob');
  await restoreReferences(queryer, ids, manifests, 'manifest');
  await queryer.query({
    name: 'restore-arrivals',
    text: `WITH arrived AS (
             DELETE FROM missing_references r USING unnest($1::bigint[], $2::bytea[]) m(repository_id, digest)
             WHERE r.repository_id = m.repository_id AND r.digest = m.digest AND r.kind = 'manifest' RETURNING r.repository_id, r.manifest, r.digest
           ) INSERT INTO manifest_children (repository_id, manifest, digest) SELECT * FROM arrived ON CONFLICT DO NOTHING`,
    values: [repositories, digests],
  });
}

const references = {
  blob: { table: 'manifest_blobs', target: 'repository_blobs' },
  manifest: { table: 'manifest_children', target: 'manifests' },
} as const;

/** What is referred to and is not there is missing: the manifest was allowed to come without it, it is optional, or its entry did not fit. */
async function restoreReferences(
  queryer: Queryer,
  ids: RepositoryIds,
  manifests: readonly RestoredManifest[],
  kind: 'blob' | 'manifest',
): Promise<void> {
  const rows = manifests.flatMap(({ repository, digest, manifest }) =>
    (kind === 'blob' ? [...manifest.blobs, ...manifest.optionalBlobs] : manifest.children).map((reference) => ({
      repository: ids.get(repository),
      digest,
      reference,
    })),
  );
  if (rows.length === 0) return;
  const { table, target } = references[kind];
  await queryer.query({
    name: `restore-${kind}-references`,
    text: `WITH r AS MATERIALIZED (
             SELECT r.*, EXISTS (SELECT FROM ${target} t WHERE t.repository_id = r.repository_id AND t.digest = r.digest) AS there
             FROM unnest($1::bigint[], $2::bytea[], $3::bytea[]) r(repository_id, manifest, digest)
           ), placed AS (
             INSERT INTO ${table} (repository_id, manifest, digest) SELECT repository_id, manifest, digest FROM r WHERE there ON CONFLICT DO NOTHING
           )
           INSERT INTO missing_references (repository_id, manifest, digest, kind) SELECT repository_id, manifest, digest, '${kind}' FROM r WHERE NOT there
           ON CONFLICT DO NOTHING`,
    values: [
      rows.map(({ repository }) => repository),
      digestsToColumn(rows.map(({ digest }) => digest)),
      digestsToColumn(rows.map(({ reference }) => reference)),
    ],
  });
}

export async function restoreTagHistory(queryer: Queryer, ids: RepositoryIds, entries: readonly RestoredTagEntry[]): Promise<void> {
  await queryer.query({
    name: 'restore-tag-history',
    text: `INSERT INTO tag_history (repository_id, name, sequence, digest, at)
           SELECT repository_id, name, sequence, digest, COALESCE(at, now())
           FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bytea[], $5::timestamptz[]) h(repository_id, name, sequence, digest, at) ON CONFLICT DO NOTHING`,
    values: tagColumns(ids, entries),
  });
}

/** A tag that points at no manifest, with the sequence under which that was deleted, if it was. */
export interface Dangling {
  readonly index: number;
  readonly deletedAs: bigint | undefined;
}

export async function restoreTags(queryer: Queryer, ids: RepositoryIds, tags: readonly RestoredTagEntry[]): Promise<Dangling[]> {
  const { rows } = await queryer.query<[string, string | null]>({
    name: 'restore-tags',
    text: `WITH t AS MATERIALIZED (
             SELECT t.*, EXISTS (SELECT FROM manifests m WHERE m.repository_id = t.repository_id AND m.digest = t.digest) AS there
             FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bytea[], $5::timestamptz[], $6::text[])
               WITH ORDINALITY t(repository_id, name, sequence, digest, at, path, i)
           ), placed AS (
             INSERT INTO tags (repository_id, name, sequence, digest, updated_at)
             SELECT repository_id, name, sequence, digest, COALESCE(at, now()) FROM t WHERE there ON CONFLICT DO NOTHING
           )
           SELECT t.i, d.sequence FROM t LEFT JOIN tombstones d ON d.path = t.path WHERE NOT there`,
    values: [...tagColumns(ids, tags), tags.map(({ repository, digest }) => manifestPrefix(repository, digest as Digest))],
    rowMode: 'array',
  });
  return rows.map(([position, sequence]) => ({
    index: Number(position) - 1,
    deletedAs: sequence === null ? undefined : BigInt(sequence),
  }));
}

function tagColumns(ids: RepositoryIds, entries: readonly RestoredTagEntry[]): unknown[] {
  return [
    plainToColumn(entries.map(({ repository }) => ids.get(repository))),
    namesToColumn(entries.map(({ tag }) => tag)),
    plainToColumn(entries.map(({ sequence }) => sequence)),
    entries.map(({ digest }) => (digest === undefined ? null : digestToColumn(digest))),
    entries.map(({ at }) => at?.toISOString() ?? null),
  ];
}

/** A referrer's entry whose manifest is not there under that sequence. */
export interface StrayReferrer {
  readonly index: number;
  /** A later push or deletion of the manifest left it behind. */
  readonly superseded: boolean;
}

export async function listStrayReferrers(
  queryer: Queryer,
  ids: RepositoryIds,
  referrers: readonly RestoredReferrer[],
): Promise<StrayReferrer[]> {
  const { rows } = await queryer.query<[string, boolean]>({
    name: 'stray-referrers',
    text: `SELECT r.i, GREATEST(m.sequence, d.sequence) > r.sequence IS TRUE
           FROM unnest($1::bigint[], $2::bytea[], $3::bytea[], $4::bigint[], $5::text[]) WITH ORDINALITY r(repository_id, subject, digest, sequence, path, i)
           LEFT JOIN manifests m ON m.repository_id = r.repository_id AND m.digest = r.digest LEFT JOIN tombstones d ON d.path = r.path
           WHERE m.sequence IS DISTINCT FROM r.sequence OR m.subject IS DISTINCT FROM r.subject`,
    values: [
      plainToColumn(referrers.map(({ repository }) => ids.get(repository))),
      digestsToColumn(referrers.map(({ subject }) => subject)),
      digestsToColumn(referrers.map(({ digest }) => digest)),
      plainToColumn(referrers.map(({ sequence }) => sequence)),
      referrers.map(({ repository, digest }) => manifestPrefix(repository, digest)),
    ],
    rowMode: 'array',
  });
  return rows.map(([position, superseded]) => ({ index: Number(position) - 1, superseded }));
}

/** Not before a day has passed: until then somebody may still look at what the rebuild made of them. A trigger tells links apart, so it fires from here to the transaction's end. */
export async function restoreTrash(queryer: Queryer, keys: readonly string[]): Promise<void> {
  await queryer.query(`SELECT set_config('session_replication_role', 'origin', true) WHERE ${firesNoTriggers}`);
  await queryer.query({
    name: 'restore-trash',
    text: `INSERT INTO object_trash (key, reason, not_before) SELECT key, 'superseded', next_due() FROM unnest($1::text[]) key ON CONFLICT DO NOTHING`,
    values: [keys],
  });
}
