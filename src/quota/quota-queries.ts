// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Queryer } from '../database/pool.js';
import type { RepositoryName } from '../oci/repository-name.js';

/** Bytes that a repository holds; whoever asks first has them counted from then on. */
export async function findRepositorySize(queryer: Queryer, repository: RepositoryName): Promise<number> {
  const { rows } = await queryer.query<[string]>({
    name: 'find-repository-size',
    text: 'SELECT repository_size($1)',
    values: [repository],
    rowMode: 'array',
  });
  return Number(rows[0]?.[0] ?? 0);
}

/** Bytes that unfinished uploads hold, by repository: one look at all of them, so that beginning an upload costs no index. */
export async function listPendingBytes(queryer: Queryer): Promise<Map<string, number>> {
  const { rows } = await queryer.query<[repository: string, bytes: string]>({
    name: 'list-pending-bytes',
    text: 'SELECT repository, sum(bytes_received) FROM upload_sessions WHERE bytes_received > 0 GROUP BY repository',
    rowMode: 'array',
  });
  return new Map(rows.map(([repository, bytes]) => [repository, Number(bytes)]));
}

/** Returns how many repositories had something to fold. */
export async function foldSizes(queryer: Queryer, limit: number): Promise<number> {
  const { rows } = await queryer.query<{ folded: number }>({
    name: 'fold-sizes',
    text: 'SELECT fold_sizes($1) AS folded',
    values: [limit],
  });
  return rows[0]?.folded ?? 0;
}

/** Ids of repositories whose bytes are to be summed again. */
export async function listSizesToRecount(queryer: Queryer, ageMs: number, limit: number): Promise<string[]> {
  const { rows } = await queryer.query<[string]>({
    name: 'list-sizes-to-recount',
    text: `SELECT sizes_to_recount($1 * interval '1 millisecond', $2)`,
    values: [ageMs, limit],
    rowMode: 'array',
  });
  return rows.map(([id]) => id);
}

export async function recountSize(queryer: Queryer, repositoryId: string): Promise<void> {
  await queryer.query({ name: 'recount-size', text: 'SELECT recount_size($1)', values: [repositoryId] });
}

export interface RepositorySize {
  readonly id: string;
  readonly repository: RepositoryName;
  readonly bytes: number;
}

/** Those that are counted. */
export async function listRepositorySizes(queryer: Queryer): Promise<RepositorySize[]> {
  const { rows } = await queryer.query<{ id: string; repository: RepositoryName; bytes: string }>({
    name: 'list-repository-sizes',
    text: `SELECT s.repository_id AS id, r.name AS repository, known_size(s.repository_id) AS bytes
           FROM repository_sizes s JOIN repositories r ON r.id = s.repository_id`,
  });
  return rows.map(({ id, repository, bytes }) => ({ id, repository, bytes: Number(bytes) }));
}

/** They are not counted any more. */
export async function deleteSizes(queryer: Queryer, ids: readonly string[]): Promise<void> {
  await queryer.query({
    name: 'delete-sizes',
    text: 'DELETE FROM repository_sizes WHERE repository_id = ANY ($1::bigint[])',
    values: [ids],
  });
}
