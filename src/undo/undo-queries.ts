// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { digestFromText, digestToColumn } from '../database/columns.js';
import type { Queryer } from '../database/pool.js';
import type { Digest } from '../oci/digest.js';
import type { Tag } from '../oci/reference.js';
import type { RepositoryName } from '../oci/repository-name.js';
import { tagPrefix } from '../storage/keys.js';

export interface TagChange {
  /** Newer changes have higher ones. */
  readonly sequence: bigint;
  readonly at: Date;
  /** What the tag points at since then; undefined when it was deleted. */
  readonly digest: Digest | undefined;
  /** What it pointed at before; undefined when there was no such tag. */
  readonly before: Digest | undefined;
  /** The manifest is here, or can come back. */
  readonly restorable: boolean;
}

/** Newest first, at most `limit`, those below the sequence `below`. */
export async function listTagChanges(
  queryer: Queryer,
  repository: RepositoryName,
  tag: Tag,
  below: bigint,
  limit: number,
): Promise<TagChange[]> {
  const { rows } = await queryer.query<{
    sequence: string;
    at: Date;
    digest: string | null;
    before: string | null;
    restorable: boolean;
  }>({
    name: 'list-tag-changes',
    text: `SELECT h.sequence, h.at, h.digest::text, previous.digest::text AS before,
             EXISTS (SELECT 1 FROM manifests m WHERE m.repository_id = h.repository_id AND m.digest = h.digest)
               OR EXISTS (SELECT 1 FROM deleted_manifests d WHERE d.repository_id = h.repository_id AND d.digest = h.digest AND d.keep_until > clock_timestamp()) AS restorable
           FROM repositories r JOIN tag_history h ON h.repository_id = r.id
           LEFT JOIN LATERAL (SELECT p.digest FROM tag_history p WHERE p.repository_id = h.repository_id AND p.name = h.name AND p.sequence < h.sequence
                              ORDER BY p.sequence DESC LIMIT 1) previous ON true
           WHERE r.name = $1 AND h.name = $2 AND h.sequence < $3 ORDER BY h.sequence DESC LIMIT $4`,
    values: [repository, tag, below, limit],
  });
  return rows.map((row) => ({
    sequence: BigInt(row.sequence),
    at: row.at,
    digest: digestOf(row.digest),
    before: digestOf(row.before),
    restorable: row.restorable,
  }));
}

/** What the tag points at now. */
export async function findTagged(queryer: Queryer, repository: RepositoryName, tag: Tag): Promise<Digest | undefined> {
  const { rows } = await queryer.query<{ digest: string }>({
    name: 'find-tagged',
    text: 'SELECT t.digest::text FROM tags t JOIN repositories r ON r.id = t.repository_id WHERE r.name = $1 AND t.name = $2',
    values: [repository, tag],
  });
  return digestOf(rows[0]?.digest ?? null);
}

/** The tag's newest change that is not later than `at`, which has milliseconds. */
export async function findChangeAt(
  queryer: Queryer,
  repository: RepositoryName,
  tag: Tag,
  at: Date,
): Promise<{ readonly digest: Digest | undefined } | undefined> {
  const { rows } = await queryer.query<{ digest: string | null }>({
    name: 'find-tag-change-at',
    text: `SELECT h.digest::text FROM repositories r JOIN tag_history h ON h.repository_id = r.id
           WHERE r.name = $1 AND h.name = $2 AND date_trunc('milliseconds', h.at) <= $3 ORDER BY h.sequence DESC LIMIT 1`,
    values: [repository, tag, at],
  });
  return rows[0] && { digest: digestOf(rows[0].digest) };
}

/** The newest manifest that the tag pointed at, other than the one that it points at now. */
export async function findFormerlyTagged(
  queryer: Queryer,
  repository: RepositoryName,
  tag: Tag,
  now: Digest | undefined,
): Promise<Digest | undefined> {
  const { rows } = await queryer.query<{ digest: string }>({
    name: 'find-formerly-tagged',
    text: `SELECT h.digest::text FROM repositories r JOIN tag_history h ON h.repository_id = r.id
           WHERE r.name = $1 AND h.name = $2 AND h.digest IS NOT NULL AND h.digest IS DISTINCT FROM $3::bytea ORDER BY h.sequence DESC LIMIT 1`,
    values: [repository, tag, now === undefined ? null : digestToColumn(now)],
  });
  return digestOf(rows[0]?.digest ?? null);
}

export async function everPointedAt(queryer: Queryer, repository: RepositoryName, tag: Tag, digest: Digest): Promise<boolean> {
  const { rows } = await queryer.query({
    name: 'ever-pointed-at',
    text: 'SELECT 1 FROM repositories r JOIN tag_history h ON h.repository_id = r.id WHERE r.name = $1 AND h.name = $2 AND h.digest = $3 LIMIT 1',
    values: [repository, tag, digestToColumn(digest)],
  });
  return rows.length > 0;
}

export interface KeptManifest {
  readonly mediaType: string;
  readonly bytes: Buffer;
  readonly deleted: boolean;
  /** Those that went when it was deleted last, and were not set again since: it may have come back without them. */
  readonly tags: readonly Tag[];
}

/**
 * A manifest that is here, or was deleted and can still come back. A tag went with it when its last change before its deletion had pointed at the manifest: sequences do
 * not tell, since the entry of a deletion that the store had lost is written again under another (scrub/rewrite-entries.ts).
 */
export async function findKeptManifest(queryer: Queryer, repository: RepositoryName, digest: Digest): Promise<KeptManifest | undefined> {
  const { rows } = await queryer.query<{ media_type: string; text: string; deleted: boolean; tags: Tag[] }>({
    name: 'find-kept-manifest',
    text: `SELECT k.media_type, convert_from(k.bytes, 'UTF8') AS text, k.deleted,
             ARRAY(SELECT tag FROM deleted_manifests d CROSS JOIN unnest(d.tags) tag JOIN tombstones t ON t.path = $3 || tag || '/' AND (
                     SELECT h.digest = d.digest AND h.sequence < d.sequence FROM tag_history h
                     WHERE h.repository_id = r.id AND h.name = tag AND h.sequence < t.sequence ORDER BY h.sequence DESC LIMIT 1
                   ) WHERE d.repository_id = r.id AND d.digest = $2 AND d.keep_until > clock_timestamp() ORDER BY 1) AS tags
           FROM repositories r CROSS JOIN LATERAL (
             SELECT m.media_type, m.bytes, false AS deleted FROM manifests m WHERE m.repository_id = r.id AND m.digest = $2
             UNION ALL
             SELECT d.media_type, d.bytes, true FROM deleted_manifests d WHERE d.repository_id = r.id AND d.digest = $2 AND d.keep_until > clock_timestamp()
           ) k WHERE r.name = $1 ORDER BY k.deleted LIMIT 1`,
    values: [repository, digestToColumn(digest), tagPrefix(repository, '')],
  });
  const [row] = rows;
  if (row === undefined) return undefined;
  return { mediaType: row.media_type, bytes: Buffer.from(row.text, 'utf8'), deleted: row.deleted, tags: row.tags };
}

/** Forgets deleted manifests that cannot come back any more; at most `limit`, and how many those were. */
export async function forgetDeletedManifests(queryer: Queryer, limit: number): Promise<number> {
  const { rowCount } = await queryer.query({
    name: 'forget-deleted-manifests',
    text: `WITH due AS (SELECT repository_id, digest FROM deleted_manifests WHERE keep_until <= clock_timestamp() ORDER BY keep_until LIMIT $1 FOR UPDATE SKIP LOCKED)
           DELETE FROM deleted_manifests d USING due WHERE d.repository_id = due.repository_id AND d.digest = due.digest`,
    values: [limit],
  });
  return rowCount ?? 0;
}

function digestOf(text: string | null): Digest | undefined {
  return text === null ? undefined : digestFromText(text);
}
