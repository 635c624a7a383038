// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Queryer } from '../database/pool.js';

/** Names after `last` in the order of their bytes, at most `limit`. */
export async function listRepositories(reads: Queryer, last: string, limit: number): Promise<string[]> {
  const { rows } = await reads.query<[string]>({
    name: 'list-repositories',
    text: 'SELECT name FROM repositories WHERE name > $1 ORDER BY name LIMIT $2',
    values: [last, limit],
    rowMode: 'array',
  });
  return rows.map(([name]) => name);
}
