// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { digestFromText } from '../database/columns.js';
import type { Queryer } from '../database/pool.js';
import type { Digest } from '../oci/digest.js';
import type { Tag } from '../oci/reference.js';
import type { RepositoryName } from '../oci/repository-name.js';

interface Place {
  readonly repositoryId: string;
  readonly repository: RepositoryName;
  readonly sequence: bigint;
  /** As far as the database tells. */
  readonly due: boolean;
}

export interface PastEntry extends Place {
  readonly tag: Tag;
  /** Undefined: the tag was deleted then. */
  readonly digest: Digest | undefined;
}

export interface Deletion extends Place {
  readonly path: string;
}

const windows = `windows AS MATERIALIZED (
  SELECT id, name, clock_timestamp() - undo_window(id) AS begun FROM repositories WHERE id IN (SELECT repository_id FROM page)
)`;

/** The next rows of the history of all tags, oldest first for each; due are those after which another came, before the undo window began. */
export async function listPastEntries(queryer: Queryer, after: PastEntry | undefined, limit: number): Promise<PastEntry[]> {
  const { rows } = await queryer.query<[string, RepositoryName, Tag, string, string | null, boolean]>({
    name: 'list-past-entries',
    text: `WITH page AS MATERIALIZED (
             SELECT * FROM tag_history WHERE (repository_id, name, sequence) > ($1, $2, $3) ORDER BY repository_id, name, sequence LIMIT $4
           ), ${windows}
           SELECT p.repository_id, w.name, p.name, p.sequence, p.digest::text, COALESCE(p.at < w.begun AND next.at < w.begun, false)
           FROM page p JOIN windows w ON w.id = p.repository_id
           LEFT JOIN LATERAL (SELECT n.at FROM tag_history n WHERE n.repository_id = p.repository_id AND n.name = p.name AND n.sequence > p.sequence
                              ORDER BY n.sequence LIMIT 1) next ON true
           ORDER BY p.repository_id, p.name, p.sequence`,
    values: [after?.repositoryId ?? '0', after?.tag ?? '', after?.sequence ?? 0n, limit],
    rowMode: 'array',
  });
  return rows.map(([repositoryId, repository, tag, sequence, digest, due]) => ({
    repositoryId,
    repository,
    tag,
    sequence: BigInt(sequence),
    digest: digest === null ? undefined : digestFromText(digest),
    due,
  }));
}

/** The next deletions that hide what they deleted; due are those from before the undo window below which nothing is pending, nor on its way out. */
export async function listDeletions(queryer: Queryer, after: string, limit: number): Promise<Deletion[]> {
  const { rows } = await queryer.query<[string, RepositoryName, string, string, boolean]>({
    name: 'list-old-deletions',
    text: `WITH page AS MATERIALIZED (SELECT * FROM tombstones WHERE path > $1 ORDER BY path LIMIT $2), ${windows}
           SELECT p.repository_id, w.name, p.path, p.sequence, p.at < w.begun AND may_prune_deletion(w.name, w.id, p.path, p.sequence)
           FROM page p JOIN windows w ON w.id = p.repository_id ORDER BY p.path`,
    values: [after, limit],
    rowMode: 'array',
  });
  return rows.map(([repositoryId, repository, path, sequence, due]) => ({
    repositoryId,
    repository,
    path,
    sequence: BigInt(sequence),
    due,
  }));
}

/** Rows go and keys into the trash, those that still may. Returns how many. */
export async function pruneHistory(
  queryer: Queryer,
  node: string,
  { repositoryId, tag, path, sequences }: { repositoryId: string; tag: Tag; path: string; sequences: readonly bigint[] },
): Promise<number> {
  const { rows } = await queryer.query<{ count: number }>({
    name: 'prune-history',
    text: 'SELECT prune_history($1, $2, $3, $4, $5) AS count',
    values: [node, repositoryId, tag, path, sequences],
  });
  return rows[0]?.count ?? 0;
}

export async function pruneDeletion(
  queryer: Queryer,
  node: string,
  { repository, repositoryId, path, sequence }: Omit<Deletion, 'due'>,
): Promise<boolean> {
  const { rows } = await queryer.query<{ pruned: boolean }>({
    name: 'prune-deletion',
    text: 'SELECT prune_deletion($1, $2, $3, $4, $5) AS pruned',
    values: [node, repository, repositoryId, path, sequence],
  });
  return rows[0]?.pruned === true;
}
