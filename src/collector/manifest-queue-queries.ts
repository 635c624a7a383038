// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * Manifests that cannot be reached from a root over index → child and subject → referrer. Roots are what a tag, a hold, a tag's recent history, its age, a pull or its
 * due time keeps.
 */
import type { Queryer } from '../database/pool.js';
import type { Lifetimes } from './lifetimes.js';

export interface QueuedManifest {
  /** Of the queue's row. */
  readonly id: string;
  readonly repositoryId: string;
  readonly repository: string;
  readonly digest: Buffer;
}

export type ManifestRow = Pick<QueuedManifest, 'repositoryId' | 'digest'>;

/** What keeps a manifest, as far as it can be seen from the manifests that were looked at together. */
export interface Liveness extends ManifestRow {
  readonly live: boolean;
  /** A tag points at it, or a hold: until a trigger tells that this has ended. */
  readonly rooted: boolean;
  /** Milliseconds that it is a root yet by its own times; at most a day is told, since settings may change. */
  readonly rootForMs: number;
  /** Something that was not looked at, or is not locked, refers to it. */
  readonly heldFromOutside: boolean;
}

/** More than this are not looked at together; whoever is held by what is left out waits. */
const mostTogether = 2000;
const dayMs = 86_400_000;

export async function claimManifests(transaction: Queryer, limit: number): Promise<QueuedManifest[]> {
  const { rows } = await transaction.query<QueuedManifest>({
    name: 'gc-claim-manifests',
    text: `SELECT q.id, q.repository_id AS "repositoryId", r.name AS repository, q.digest FROM gc_manifests q JOIN repositories r ON r.id = q.repository_id
           WHERE q.due <= clock_timestamp() ORDER BY q.due LIMIT $1 FOR UPDATE OF q SKIP LOCKED`,
    values: [limit],
  });
  return rows;
}

/** These manifests and all that they can be reached from. */
export async function findAncestors(queryer: Queryer, manifests: readonly ManifestRow[]): Promise<ManifestRow[]> {
  const { rows } = await queryer.query<ManifestRow>({
    name: 'gc-find-ancestors',
    text: `WITH RECURSIVE up (r, d) AS (
             SELECT r, d FROM unnest($1::bigint[], $2::bytea[]) k (r, d)
             UNION
             SELECT up.r, parent.d FROM up CROSS JOIN LATERAL (
               SELECT mc.manifest FROM manifest_children mc WHERE mc.repository_id = up.r AND mc.digest = up.d
               UNION ALL SELECT mr.manifest FROM missing_references mr WHERE mr.repository_id = up.r AND mr.digest = up.d AND mr.kind = 'manifest'
               UNION ALL SELECT m.subject FROM manifests m WHERE m.repository_id = up.r AND m.digest = up.d AND m.subject IS NOT NULL
             ) parent (d)
           ) SELECT r AS "repositoryId", d AS digest FROM up LIMIT ${mostTogether}`,
    values: columns(manifests),
  });
  return rows;
}

/** One statement, and so one snapshot: a tag that moves from a manifest into its own history is seen in the one or the other. Manifests that do not exist are left out. */
export async function lookAt(
  queryer: Queryer,
  manifests: readonly ManifestRow[],
  lifetimes: ReadonlyMap<string, Lifetimes>,
): Promise<Liveness[]> {
  const each = manifests.map(({ repositoryId }) => lifetimes.get(repositoryId));
  const { rows } = await queryer.query<Liveness>({
    name: 'gc-look-at-manifests',
    text: `WITH RECURSIVE node AS MATERIALIZED (
             SELECT m.repository_id AS r, m.digest AS d, m.subject,
               EXISTS (SELECT 1 FROM tags t WHERE t.repository_id = m.repository_id AND t.digest = m.digest)
                 OR EXISTS (SELECT 1 FROM manifest_holds h WHERE h.repository_id = m.repository_id AND h.digest = m.digest) AS rooted,
               GREATEST(m.due_at, m.pushed_at + k.untagged * interval '1 millisecond', m.pulled_at + k.pulled * interval '1 millisecond',
                 CASE WHEN k.untagged IS NULL THEN 'infinity'::timestamptz END,
                 (SELECT max(COALESCE(next.at, h.at)) FROM tag_history h LEFT JOIN LATERAL (
                    SELECT n.at FROM tag_history n WHERE n.repository_id = h.repository_id AND n.name = h.name AND n.sequence > h.sequence ORDER BY n.sequence LIMIT 1
                  ) next ON true WHERE h.repository_id = m.repository_id AND h.digest = m.digest) + k.undo * interval '1 millisecond') AS root_until
             FROM (SELECT DISTINCT r, d, untagged, undo, pulled
                   FROM unnest($1::bigint[], $2::bytea[], $3::float8[], $4::float8[], $5::float8[]) k (r, d, untagged, undo, pulled)) k
             JOIN manifests m ON m.repository_id = k.r AND m.digest = k.d
           ), edge AS MATERIALIZED (
             SELECT e.r, e.parent, e.child, p.d IS NULL AS outside FROM (
               SELECT n.r, mc.manifest AS parent, n.d AS child FROM node n JOIN manifest_children mc ON mc.repository_id = n.r AND mc.digest = n.d
               UNION ALL
               SELECT n.r, mr.manifest, n.d FROM node n JOIN missing_references mr ON mr.repository_id = n.r AND mr.digest = n.d AND mr.kind = 'manifest'
               UNION ALL
               SELECT n.r, n.subject, n.d FROM node n JOIN manifests s ON s.repository_id = n.r AND s.digest = n.subject
             ) e LEFT JOIN node p ON p.r = e.r AND p.d = e.parent WHERE e.parent <> e.child
           ), live (r, d) AS (
             (SELECT r, d FROM node WHERE rooted OR root_until > clock_timestamp() UNION ALL SELECT r, child FROM edge WHERE outside)
             UNION
             SELECT e.r, e.child FROM live l JOIN edge e ON e.r = l.r AND e.parent = l.d
           )
           SELECT n.r AS "repositoryId", n.d AS digest, n.rooted,
             EXISTS (SELECT 1 FROM live l WHERE l.r = n.r AND l.d = n.d) AS live,
             EXISTS (SELECT 1 FROM edge e WHERE e.r = n.r AND e.child = n.d AND e.outside) AS "heldFromOutside",
             (EXTRACT(epoch FROM LEAST(n.root_until, clock_timestamp() + interval '1 day') - clock_timestamp()) * 1000)::float8 AS "rootForMs"
           FROM node n`,
    values: [
      ...columns(manifests),
      each.map((own) => (own === undefined || own.untaggedAfterMs === Infinity ? null : own.untaggedAfterMs)),
      each.map((own) => own?.undoWindowMs ?? dayMs),
      each.map((own) => own?.keepPulledMs ?? dayMs),
    ],
  });
  return rows;
}

/** What a push holds is skipped. */
export async function lockManifests(transaction: Queryer, manifests: readonly ManifestRow[]): Promise<ManifestRow[]> {
  const { rows } = await transaction.query<ManifestRow>({
    name: 'gc-lock-manifests',
    text: `SELECT m.repository_id AS "repositoryId", m.digest
           FROM (SELECT DISTINCT r, d FROM unnest($1::bigint[], $2::bytea[]) k (r, d)) k JOIN manifests m ON m.repository_id = k.r AND m.digest = k.d
           ORDER BY m.repository_id, m.digest FOR UPDATE OF m SKIP LOCKED`,
    values: columns(manifests),
  });
  return rows;
}

/**
 * What manifests that go refer to is let go first, all of it at once: what they list is given its time, and members of a cycle do not hold each other. The times of
 * their own were looked at under the same lock, before this.
 */
export async function deleteReferences(transaction: Queryer, manifests: readonly ManifestRow[]): Promise<void> {
  for (const table of ['manifest_blobs', 'manifest_children', 'missing_references']) {
    await transaction.query({
      name: `gc-delete-${table}`,
      text: `DELETE FROM ${table} t USING unnest($1::bigint[], $2::bytea[]) k (r, d) WHERE t.repository_id = k.r AND t.manifest = k.d`,
      values: columns(manifests),
    });
  }
}

export async function deleteManifests(transaction: Queryer, manifests: readonly ManifestRow[]): Promise<void> {
  await transaction.query({
    name: 'gc-delete-manifests',
    text: 'DELETE FROM manifests m USING unnest($1::bigint[], $2::bytea[]) k (r, d) WHERE m.repository_id = k.r AND m.digest = k.d',
    values: columns(manifests),
  });
}

/** Takes rows out of the queue (undefined), or has them looked at again after so many milliseconds. */
export async function settleManifests(
  transaction: Queryer,
  rows: readonly { readonly id: string; readonly againMs: number | undefined }[],
): Promise<void> {
  await transaction.query({
    name: 'gc-settle-manifests',
    text: `WITH looked AS MATERIALIZED (SELECT id, again FROM unnest($1::bigint[], $2::float8[]) k (id, again)),
                gone AS (DELETE FROM gc_manifests q USING looked WHERE q.id = looked.id AND looked.again IS NULL)
           UPDATE gc_manifests q SET due = clock_timestamp() + looked.again * interval '1 millisecond' FROM looked WHERE q.id = looked.id AND looked.again IS NOT NULL`,
    values: [rows.map(({ id }) => id), rows.map(({ againMs }) => againMs ?? null)],
  });
}

function columns(manifests: readonly ManifestRow[]): [string[], Buffer[]] {
  return [manifests.map(({ repositoryId }) => repositoryId), manifests.map(({ digest }) => digest)];
}
