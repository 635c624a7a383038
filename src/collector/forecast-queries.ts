// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { digestFromText } from '../database/columns.js';
import type { Queryer } from '../database/pool.js';
import { isReferenced, type Blob, type QueuedLink } from './link-queue-queries.js';
import type { ManifestRow, QueuedManifest } from './manifest-queue-queries.js';

/** Rows of the queue that are due, in the order of their ids. */
export async function listDueManifests(queryer: Queryer, after: string, limit: number): Promise<QueuedManifest[]> {
  const { rows } = await queryer.query<QueuedManifest>(
    `SELECT q.id, q.repository_id AS "repositoryId", r.name AS repository, q.digest FROM gc_manifests q JOIN repositories r ON r.id = q.repository_id
     WHERE q.due <= clock_timestamp() AND q.id > $1 ORDER BY q.id LIMIT $2`,
    [after, limit],
  );
  return rows;
}

export async function nameManifests(
  queryer: Queryer,
  manifests: readonly ManifestRow[],
): Promise<{ repository: string; digest: string }[]> {
  const { rows } = await queryer.query<{ repository: string; digest: string }>(
    'SELECT r.name AS repository, k.d::text AS digest FROM unnest($1::bigint[], $2::bytea[]) k (r, d) JOIN repositories r ON r.id = k.r',
    [manifests.map(({ repositoryId }) => repositoryId), manifests.map(({ digest }) => digest)],
  );
  return rows.map(({ repository, digest }) => ({ repository, digest: digestFromText(digest) }));
}

export interface DueLink extends Omit<QueuedLink, 'id'> {
  readonly repository: string;
  readonly digestName: string;
  readonly uuid: string;
}

/** Links that are dead, of a page of the queue; `last` is undefined after the last page. */
export async function listDueLinks(
  queryer: Queryer,
  after: string,
  limit: number,
): Promise<{ readonly rows: DueLink[]; readonly last: string | undefined }> {
  const { rows: queued } = await queryer.query<QueuedLink>(
    'SELECT id, repository_id AS "repositoryId", digest FROM gc_links WHERE due <= clock_timestamp() AND id > $1 ORDER BY id LIMIT $2',
    [after, limit],
  );
  const { rows } = await queryer.query<DueLink>(
    `SELECT rb.repository_id AS "repositoryId", r.name AS repository, rb.digest, rb.digest::text AS "digestName", rb.uuid
     FROM unnest($1::bigint[], $2::bytea[]) k (r, d) JOIN repository_blobs rb ON rb.repository_id = k.r AND rb.digest = k.d JOIN repositories r ON r.id = k.r
     WHERE rb.due_at <= clock_timestamp() AND NOT ${isReferenced}`,
    [queued.map(({ repositoryId }) => repositoryId), queued.map(({ digest }) => digest)],
  );
  return {
    rows: rows.map((row) => ({ ...row, digestName: digestFromText(row.digestName) })),
    last: queued.length < limit ? undefined : queued.at(-1)?.id,
  };
}

export async function listDueBlobs(queryer: Queryer): Promise<Blob[]> {
  const { rows } = await queryer.query<Blob>('SELECT DISTINCT digest, uuid FROM gc_blobs WHERE due <= clock_timestamp()');
  return rows;
}

/** Blobs with the repositories that link to them. */
export async function findLinksOfBlobs(
  queryer: Queryer,
  blobs: readonly Blob[],
): Promise<{ digest: Buffer; digestName: string; bytes: number; repositoryIds: string[] }[]> {
  const { rows } = await queryer.query<{ digest: Buffer; digestName: string; bytes: string; repositoryIds: string[] }>(
    `SELECT b.digest, b.digest::text AS "digestName", b.size AS bytes,
       ARRAY(SELECT rb.repository_id::text FROM repository_blobs rb WHERE rb.digest = b.digest AND rb.uuid = b.uuid) AS "repositoryIds"
     FROM unnest($1::bytea[], $2::uuid[]) k (d, u) JOIN blobs b ON b.digest = k.d AND b.uuid = k.u`,
    [blobs.map(({ digest }) => digest), blobs.map(({ uuid }) => uuid)],
  );
  return rows.map((row) => ({ ...row, digestName: digestFromText(row.digestName), bytes: Number(row.bytes) }));
}

export async function listDueTrash(queryer: Queryer, after: string, limit: number): Promise<string[]> {
  const { rows } = await queryer.query<{ key: string }>(
    'SELECT key FROM object_trash WHERE not_before <= clock_timestamp() AND key > $1 ORDER BY key LIMIT $2',
    [after, limit],
  );
  return rows.map(({ key }) => key);
}
