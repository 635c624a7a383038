// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** How far the stored manifests have been looked through for optional blobs. */
import { digestsToColumn } from '../database/columns.js';
import type { Queryer } from '../database/pool.js';
import type { Digest } from '../oci/digest.js';
import { mediaTypes } from '../oci/manifest.js';
import type { ManifestRow } from './manifest-queue-queries.js';

export interface WalkPlace extends ManifestRow {
  readonly round: number;
}

export interface WalkedManifest extends ManifestRow {
  /** Its bytes have the word; they say themselves whether that names a layer. */
  readonly mayHaveOptional: boolean;
}

/** Everything up to here has been looked at; undefined once all has. */
export async function findOptionalWalk(queryer: Queryer): Promise<WalkPlace | undefined> {
  const { rows } = await queryer.query<WalkPlace>({
    name: 'find-optional-walk',
    text: 'SELECT round, repository_id AS "repositoryId", digest FROM optional_walk WHERE NOT done',
  });
  return rows[0];
}

export async function isOptionalWalkDone(queryer: Queryer): Promise<boolean> {
  return (await findOptionalWalk(queryer)) === undefined;
}

/** The next ones in the order of their keys. Manifests are large, so only Postgres looks at all of them. */
export async function listManifestsAfter(
  queryer: Queryer,
  { repositoryId, digest }: ManifestRow,
  limit: number,
): Promise<WalkedManifest[]> {
  const { rows } = await queryer.query<WalkedManifest>({
    name: 'list-manifests-after',
    text: `SELECT repository_id AS "repositoryId", digest, media_type = ANY ($4)
             AND (position('nondistributable'::bytea IN bytes) > 0 OR position('rootfs.foreign'::bytea IN bytes) > 0) AS "mayHaveOptional"
           FROM manifests WHERE (repository_id, digest) > ($1, $2) ORDER BY repository_id, digest LIMIT $3`,
    values: [repositoryId, digest, limit, [mediaTypes.ociManifest, mediaTypes.dockerManifest]],
  });
  return rows;
}

export async function findManifestOf(
  queryer: Queryer,
  { repositoryId, digest }: ManifestRow,
): Promise<{ readonly mediaType: string; readonly bytes: Uint8Array } | undefined> {
  const { rows } = await queryer.query<[string, string]>({
    name: 'find-manifest-of',
    text: `SELECT media_type, convert_from(bytes, 'UTF8') FROM manifests WHERE repository_id = $1 AND digest = $2`,
    values: [repositoryId, digest],
    rowMode: 'array',
  });
  return rows[0] && { mediaType: rows[0][0], bytes: Buffer.from(rows[0][1], 'utf8') };
}

export async function referToOptional(
  queryer: Queryer,
  node: string,
  { repositoryId, digest }: ManifestRow,
  optional: readonly Digest[],
): Promise<void> {
  await queryer.query({
    name: 'refer-to-optional',
    text: 'SELECT refer_to_optional($1, $2, $3, $4)',
    values: [node, repositoryId, digest, digestsToColumn(optional)],
  });
}

/** Nothing, where somebody else has moved it, or has begun it anew. Without `to` it is done. */
export async function moveOptionalWalk(queryer: Queryer, from: WalkPlace, to: ManifestRow | undefined): Promise<void> {
  await queryer.query({
    name: 'move-optional-walk',
    text: `UPDATE optional_walk SET repository_id = COALESCE($4, repository_id), digest = COALESCE($5, digest), done = $4::bigint IS NULL
           WHERE NOT done AND round = $1 AND repository_id = $2 AND digest = $3`,
    values: [from.round, from.repositoryId, from.digest, to?.repositoryId ?? null, to?.digest ?? null],
  });
}
