// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { digestFromText } from '../database/columns.js';
import type { Queryer } from '../database/pool.js';
import type { RepositoryName } from '../oci/repository-name.js';

/** Prefixes of what was deleted in a repository. */
export async function listDeletions(queryer: Queryer, repository: RepositoryName): Promise<Set<string>> {
  const { rows } = await queryer.query<{ path: string }>(
    'SELECT t.path FROM tombstones t JOIN repositories r ON r.id = t.repository_id WHERE r.name = $1',
    [repository],
  );
  return new Set(rows.map(({ path }) => path));
}

/** `tag digest` of all that its tags have ever pointed at here. */
export async function listPastTags(queryer: Queryer, repository: RepositoryName): Promise<Set<string>> {
  const { rows } = await queryer.query<{ name: string; digest: string }>(
    `SELECT DISTINCT h.name, h.digest::text FROM tag_history h JOIN repositories r ON r.id = h.repository_id WHERE r.name = $1 AND h.digest IS NOT NULL`,
    [repository],
  );
  return new Set(rows.map(({ name, digest }) => `${name} ${digestFromText(digest)}`));
}
