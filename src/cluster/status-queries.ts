// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** How the cluster is, as the database knows it. */
import type { Queryer } from '../database/pool.js';

export interface ClusterCounts {
  readonly nodes: number;
  readonly pending: number;
  readonly trash: number;
  readonly sessions: number;
}

/** Counting more rows than this is not worth its time: a figure that stands here says "at least". */
export const mostCounted = 100_000;

export async function findCounts(queryer: Queryer): Promise<ClusterCounts | undefined> {
  const { rows } = await queryer.query<{ [Name in keyof ClusterCounts]: number }>({
    name: 'count-cluster',
    text: `SELECT (SELECT count(*)::int FROM nodes) AS nodes, (SELECT count(*)::int FROM pending_writes) AS pending,
                  (SELECT count(*)::int FROM (SELECT FROM object_trash LIMIT ${mostCounted}) t) AS trash,
                  (SELECT count(*)::int FROM (SELECT FROM upload_sessions LIMIT ${mostCounted}) s) AS sessions`,
  });
  return rows[0];
}

export interface NodeStatus {
  readonly id: string;
  readonly version: string;
  readonly startedAt: string;
  /** Since its last sign of life. */
  readonly silentSeconds: number;
  readonly alive: boolean;
  readonly leads: boolean;
}

/** Who holds the leader's lock leads: that connection holds its node's lock as well. */
export async function listNodes(queryer: Queryer): Promise<NodeStatus[]> {
  const { rows } = await queryer.query<[string, string, Date, number, boolean, boolean]>({
    name: 'list-nodes',
    text: `WITH locks AS MATERIALIZED (
             SELECT pid, classid, objid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND classid IN (4872101, 4872102)
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
           )
           SELECT id, version, started_at, EXTRACT(epoch FROM clock_timestamp() - heartbeat_at)::float8, node_lives(id), EXISTS (
             SELECT FROM locks own JOIN locks leader ON leader.pid = own.pid AND leader.classid = 4872101 AND leader.objid = 0
             WHERE own.classid = 4872102 AND own.objid = (hashtext(n.id::text)::bigint & 4294967295)::oid)
           FROM nodes n ORDER BY started_at, id`,
    rowMode: 'array',
  });
  return rows.map(([id, version, startedAt, silentSeconds, alive, leads]) => ({
    id,
    version,
    startedAt: startedAt.toISOString(),
    silentSeconds: Math.round(silentSeconds),
    alive,
    leads,
  }));
}

export interface IndexStatus {
  readonly cluster: string;
  readonly generation: string;
  readonly rebuilding: boolean;
  /** The store may hold more than the database. */
  readonly behind: boolean;
  readonly uploads: { readonly open: number; readonly receiving: number; readonly bytes: number };
}

export async function findIndexStatus(queryer: Queryer): Promise<IndexStatus> {
  const { rows } = await queryer.query<[string, string, boolean, boolean, number, number, number]>({
    name: 'find-index-status',
    text: `SELECT c.id, c.generation, c.rebuild_started_at IS NOT NULL, c.catch_up_due IS NOT NULL, u.open, u.receiving, u.bytes
           FROM cluster c, (SELECT count(*)::int AS open, (count(*) FILTER (WHERE lease_until > clock_timestamp()))::int AS receiving,
                                   COALESCE(sum(bytes_received), 0)::float8 AS bytes
                            FROM (SELECT lease_until, bytes_received FROM upload_sessions LIMIT ${mostCounted}) s) u`,
    rowMode: 'array',
  });
  const [row] = rows;
  if (row === undefined) throw new Error('the database has lost its table "cluster"');
  const [cluster, generation, rebuilding, behind, open, receiving, bytes] = row;
  return { cluster, generation, rebuilding, behind, uploads: { open, receiving, bytes } };
}
