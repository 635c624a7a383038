// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * Links that no manifest names, and blobs without links. Each deletion is a pair: lock, then look in a new statement. One statement has one snapshot, taken before it
 * waits, so `DELETE … WHERE NOT EXISTS` would delete what a push that it waited for refers to.
 */
import type { Queryer } from '../database/pool.js';

export interface QueuedLink {
  /** Of the queue's row. */
  readonly id: string;
  readonly repositoryId: string;
  readonly digest: Buffer;
}

export interface QueuedBlob {
  readonly id: string;
  readonly digest: Buffer;
  readonly uuid: string;
}

export type Link = Pick<QueuedLink, 'repositoryId' | 'digest'>;
export type Blob = Pick<QueuedBlob, 'digest' | 'uuid'>;

export async function claimLinks(transaction: Queryer, limit: number): Promise<QueuedLink[]> {
  const { rows } = await transaction.query<QueuedLink>({
    name: 'gc-claim-links',
    text: `SELECT id, repository_id AS "repositoryId", digest FROM gc_links WHERE due <= clock_timestamp() ORDER BY due LIMIT $1 FOR UPDATE SKIP LOCKED`,
    values: [limit],
  });
  return rows;
}

/** What a push holds is skipped. */
export async function lockLinks(transaction: Queryer, links: readonly Link[]): Promise<Link[]> {
  const { rows } = await transaction.query<Link>({
    name: 'gc-lock-links',
    text: `SELECT rb.repository_id AS "repositoryId", rb.digest
           FROM (SELECT DISTINCT r, d FROM unnest($1::bigint[], $2::bytea[]) k (r, d)) k JOIN repository_blobs rb ON rb.repository_id = k.r AND rb.digest = k.d
           ORDER BY rb.repository_id, rb.digest FOR UPDATE OF rb SKIP LOCKED`,
    values: linkColumns(links),
  });
  return rows;
}

/** Of `rb`, really or as something that is missing. */
export const isReferenced = `(EXISTS (SELECT 1 FROM manifest_blobs mb WHERE mb.repository_id = rb.repository_id AND mb.digest = rb.digest)
  OR EXISTS (SELECT 1 FROM missing_references mr WHERE mr.repository_id = rb.repository_id AND mr.digest = rb.digest AND mr.kind = 'blob'))`;

/** Of links that are locked. A HEAD may have moved the time on before the lock was had, so it is looked at again. */
export async function deleteDeadLinks(transaction: Queryer, links: readonly Link[]): Promise<number> {
  const { rowCount } = await transaction.query({
    name: 'gc-delete-links',
    text: `DELETE FROM repository_blobs rb USING unnest($1::bigint[], $2::bytea[]) k (r, d)
           WHERE rb.repository_id = k.r AND rb.digest = k.d AND rb.due_at <= clock_timestamp() AND NOT ${isReferenced}`,
    values: linkColumns(links),
  });
  return rowCount ?? 0;
}

/** Deleted, gone or referenced: out of the queue, since a trigger brings it back. Not due yet: when it is. Skipped (their number is returned): a little later. */
export async function settleLinks(
  transaction: Queryer,
  claimed: readonly QueuedLink[],
  locked: readonly Link[],
  postponeMs: number,
): Promise<number> {
  const held = new Set(locked.map(linkKey));
  const { rows } = await transaction.query<{ locked: boolean }>({
    name: 'gc-settle-links',
    text: `WITH looked AS MATERIALIZED (
             SELECT k.id, k.locked, rb.due_at, rb.digest IS NULL OR k.locked AND ${isReferenced} AS settled
             FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::boolean[]) k (id, r, d, locked)
             LEFT JOIN repository_blobs rb ON rb.repository_id = k.r AND rb.digest = k.d
           ), gone AS (DELETE FROM gc_links q USING looked WHERE q.id = looked.id AND looked.settled)
           UPDATE gc_links q SET due = CASE WHEN looked.locked THEN looked.due_at ELSE clock_timestamp() + $5::float8 * interval '1 millisecond' END
           FROM looked WHERE q.id = looked.id AND NOT looked.settled RETURNING looked.locked`,
    values: [claimed.map(({ id }) => id), ...linkColumns(claimed), claimed.map((link) => held.has(linkKey(link))), postponeMs],
  });
  return rows.filter((row) => !row.locked).length;
}

export async function claimBlobs(transaction: Queryer, limit: number): Promise<QueuedBlob[]> {
  const { rows } = await transaction.query<QueuedBlob>({
    name: 'gc-claim-blobs',
    text: `SELECT id, digest, uuid FROM gc_blobs WHERE due <= clock_timestamp() ORDER BY due LIMIT $1 FOR UPDATE SKIP LOCKED`,
    values: [limit],
  });
  return rows;
}

export async function lockBlobs(transaction: Queryer, blobs: readonly Blob[]): Promise<Blob[]> {
  const { rows } = await transaction.query<Blob>({
    name: 'gc-lock-blobs',
    text: `SELECT b.digest, b.uuid FROM (SELECT DISTINCT d, u FROM unnest($1::bytea[], $2::uuid[]) k (d, u)) k JOIN blobs b ON b.digest = k.d AND b.uuid = k.u
           ORDER BY b.digest, b.uuid FOR UPDATE OF b SKIP LOCKED`,
    values: blobColumns(blobs),
  });
  return rows;
}

export async function deleteDeadBlobs(transaction: Queryer, blobs: readonly Blob[]): Promise<number> {
  const { rowCount } = await transaction.query({
    name: 'gc-delete-blobs',
    text: `DELETE FROM blobs b USING unnest($1::bytea[], $2::uuid[]) k (d, u)
           WHERE b.digest = k.d AND b.uuid = k.u AND NOT EXISTS (SELECT 1 FROM repository_blobs rb WHERE rb.digest = b.digest AND rb.uuid = b.uuid)`,
    values: blobColumns(blobs),
  });
  return rowCount ?? 0;
}

/** Whatever was locked is decided: it is gone, or a link has come. What was skipped is looked at again a little later; their number is returned. */
export async function settleBlobs(
  transaction: Queryer,
  claimed: readonly QueuedBlob[],
  locked: readonly Blob[],
  postponeMs: number,
): Promise<number> {
  const held = new Set(locked.map(blobKey));
  const { rowCount } = await transaction.query({
    name: 'gc-settle-blobs',
    text: `WITH looked AS MATERIALIZED (
             SELECT k.id, k.locked OR b.digest IS NULL AS settled FROM unnest($1::bigint[], $2::bytea[], $3::uuid[], $4::boolean[]) k (id, d, u, locked)
             LEFT JOIN blobs b ON b.digest = k.d AND b.uuid = k.u
           ), gone AS (DELETE FROM gc_blobs q USING looked WHERE q.id = looked.id AND looked.settled)
           UPDATE gc_blobs q SET due = clock_timestamp() + $5::float8 * interval '1 millisecond' FROM looked WHERE q.id = looked.id AND NOT looked.settled`,
    values: [claimed.map(({ id }) => id), ...blobColumns(claimed), claimed.map((blob) => held.has(blobKey(blob))), postponeMs],
  });
  return rowCount ?? 0;
}

function linkKey({ repositoryId, digest }: Link): string {
  return `${repositoryId} ${digest.toString('hex')}`;
}

function blobKey({ digest, uuid }: Blob): string {
  return `${digest.toString('hex')} ${uuid}`;
}

function linkColumns(links: readonly Link[]): [string[], Buffer[]] {
  return [links.map(({ repositoryId }) => repositoryId), links.map(({ digest }) => digest)];
}

function blobColumns(blobs: readonly Blob[]): [Buffer[], string[]] {
  return [blobs.map(({ digest }) => digest), blobs.map(({ uuid }) => uuid)];
}
