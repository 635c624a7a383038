// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The steps of the write protocol for an entry that is written again. Each commit fails with HA001 when its row is not as it was, or somebody else writes there. */
import { digestFromText, digestToColumn } from '../database/columns.js';
import type { Queryer } from '../database/pool.js';
import type { Digest } from '../oci/digest.js';
import type { Tag } from '../oci/reference.js';
import type { RepositoryName } from '../oci/repository-name.js';
import { linkPrefix, manifestPrefix, tagPrefix, type KeyTemplate } from '../storage/keys.js';

export interface Place {
  readonly repository: RepositoryName;
  readonly digest: Digest;
}

/** What was registered; `xid` is the transaction that did it. */
export interface Intent {
  readonly sequence: bigint;
  readonly xid: string;
}

/** Registers objects under a prefix that nobody else is writing to; HA001 where somebody is. */
export async function intendAlone(
  queryer: Queryer,
  node: string,
  repository: RepositoryName,
  prefix: string,
  templates: readonly KeyTemplate[],
): Promise<Intent> {
  const { rows } = await queryer.query<{ sequence: string; xid: string }>({
    name: 'intend-alone',
    text: 'SELECT sequence, xid::text FROM intend_alone($1, $2, $3, $4)',
    values: [node, repository, prefix, templates],
  });
  const { sequence, xid } = rows[0] as (typeof rows)[number];
  return { sequence: BigInt(sequence), xid };
}

/** The data of a link that still has this sequence. */
export async function findLinkAt(queryer: Queryer, { repository, digest }: Place, sequence: bigint): Promise<string | undefined> {
  const { rows } = await queryer.query<{ uuid: string }>({
    name: 'find-link-at',
    text: `SELECT rb.uuid FROM repository_blobs rb JOIN repositories r ON r.id = rb.repository_id
           WHERE r.name = $1 AND rb.digest = $2 AND rb.sequence = $3`,
    values: [repository, digestToColumn(digest), sequence],
  });
  return rows[0]?.uuid;
}

export async function commitRewrittenLink(
  queryer: Queryer,
  node: string,
  { sequence, xid }: Intent,
  { repository, digest }: Place,
  old: { readonly sequence: bigint; readonly uuid: string },
  uuid: string,
): Promise<void> {
  await queryer.query({
    name: 'commit-rewritten-link',
    text: 'SELECT commit_rewritten_link($1, $2, $3::text::xid8, $4, $5, $6, $7, $8, $9)',
    values: [node, sequence, xid, repository, digestToColumn(digest), linkPrefix(repository, digest), old.sequence, old.uuid, uuid],
  });
}

/** A manifest that still has this sequence. */
export async function findManifestAt(
  queryer: Queryer,
  { repository, digest }: Place,
  sequence: bigint,
): Promise<{ readonly mediaType: string; readonly bytes: Uint8Array } | undefined> {
  const { rows } = await queryer.query<[string, string]>({
    name: 'find-manifest-at',
    text: `SELECT m.media_type, encode(m.bytes, 'base64') FROM manifests m JOIN repositories r ON r.id = m.repository_id
           WHERE r.name = $1 AND m.digest = $2 AND m.sequence = $3`,
    values: [repository, digestToColumn(digest), sequence],
    rowMode: 'array',
  });
  const [row] = rows;
  return row && { mediaType: row[0], bytes: Buffer.from(row[1], 'base64') };
}

export async function commitRewrittenManifest(
  queryer: Queryer,
  node: string,
  { sequence, xid }: Intent,
  { repository, digest }: Place,
  old: bigint,
  superseded: readonly KeyTemplate[],
): Promise<void> {
  await queryer.query({
    name: 'commit-rewritten-manifest',
    text: 'SELECT commit_rewritten_manifest($1, $2, $3::text::xid8, $4, $5, $6, $7, $8)',
    values: [node, sequence, xid, repository, digestToColumn(digest), manifestPrefix(repository, digest), old, superseded],
  });
}

/** What a tag's newest entry says, provided that it still has this sequence; a null digest is a deletion. */
export async function findTagAt(
  queryer: Queryer,
  repository: RepositoryName,
  tag: Tag,
  sequence: bigint,
): Promise<{ readonly digest: Digest | undefined; readonly at: Date } | undefined> {
  const { rows } = await queryer.query<[string | null, Date]>({
    name: 'find-tag-at',
    text: `SELECT h.digest::text, h.at FROM tag_history h JOIN repositories r ON r.id = h.repository_id
           WHERE r.name = $1 AND h.name = $2 AND h.sequence = $3
             AND (EXISTS (SELECT FROM tags t WHERE t.repository_id = r.id AND t.name = h.name AND t.sequence = h.sequence)
               OR EXISTS (SELECT FROM tombstones d WHERE d.path = $4 AND d.sequence = h.sequence))`,
    values: [repository, tag, sequence, tagPrefix(repository, tag)],
    rowMode: 'array',
  });
  const [row] = rows;
  return row && { digest: row[0] === null ? undefined : digestFromText(row[0]), at: row[1] };
}

export async function commitRewrittenTag(
  queryer: Queryer,
  node: string,
  { sequence, xid }: Intent,
  repository: RepositoryName,
  tag: Tag,
  old: bigint,
  digest: Digest | undefined,
): Promise<void> {
  await queryer.query({
    name: 'commit-rewritten-tag',
    text: 'SELECT commit_rewritten_tag($1, $2, $3::text::xid8, $4, $5, $6, $7, $8)',
    values: [node, sequence, xid, repository, tag, tagPrefix(repository, tag), old, digest === undefined ? null : digestToColumn(digest)],
  });
}

/** Whether something is deleted by an entry of this sequence. */
export async function isTombstone(queryer: Queryer, path: string, sequence: bigint): Promise<boolean> {
  const { rowCount } = await queryer.query('SELECT FROM tombstones WHERE path = $1 AND sequence = $2', [path, sequence]);
  return rowCount === 1;
}

/** The deletion of a link or a manifest. */
export async function commitRewrittenDeletion(
  queryer: Queryer,
  node: string,
  { sequence, xid }: Intent,
  { repository, digest }: Place,
  prefix: string,
  old: bigint,
): Promise<void> {
  await queryer.query({
    name: 'commit-rewritten-deletion',
    text: 'SELECT commit_rewritten_deletion($1, $2, $3::text::xid8, $4, $5, $6, $7)',
    values: [node, sequence, xid, repository, digestToColumn(digest), prefix, old],
  });
}
