// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * The whole index, row by row, without what the store does not hold: ids, times of the database (`due_at`, `pushed_at`, `created_at`), and blobs that no link names,
 * which only wait for their collection.
 */
import { Client } from 'pg';

const tables: Readonly<Record<string, string>> = {
  repositories: 'SELECT name FROM repositories',
  blobs:
    'SELECT digest::text, uuid, size, damaged, key FROM blobs b WHERE EXISTS (SELECT FROM repository_blobs l WHERE l.digest = b.digest AND l.uuid = b.uuid)',
  repository_blobs:
    'SELECT r.name, t.digest::text, t.uuid, t.sequence FROM repository_blobs t JOIN repositories r ON r.id = t.repository_id',
  manifests: `SELECT r.name, t.digest::text, t.sequence, t.media_type, t.bytes::text, t.subject::text, t.artifact_type, t.annotations::text
              FROM manifests t JOIN repositories r ON r.id = t.repository_id`,
  manifest_blobs: 'SELECT r.name, t.manifest::text, t.digest::text FROM manifest_blobs t JOIN repositories r ON r.id = t.repository_id',
  manifest_children:
    'SELECT r.name, t.manifest::text, t.digest::text FROM manifest_children t JOIN repositories r ON r.id = t.repository_id',
  missing_references:
    'SELECT r.name, t.manifest::text, t.digest::text, t.kind FROM missing_references t JOIN repositories r ON r.id = t.repository_id',
  tags: 'SELECT r.name, t.name AS tag, t.digest::text, t.sequence FROM tags t JOIN repositories r ON r.id = t.repository_id',
  tag_history: 'SELECT r.name, t.name AS tag, t.sequence, t.digest::text FROM tag_history t JOIN repositories r ON r.id = t.repository_id',
  tombstones: 'SELECT r.name, t.path, t.sequence FROM tombstones t JOIN repositories r ON r.id = t.repository_id',
};

/** Each table's rows as sorted lines. */
export async function databaseState(url: string): Promise<Record<string, string[]>> {
  return withClient(url, async (client) => {
    const state: Record<string, string[]> = {};
    for (const [table, query] of Object.entries(tables)) {
      const { rows } = await client.query<unknown[]>({ text: query, rowMode: 'array' });
      state[table] = rows.map((row) => JSON.stringify(row)).sort();
    }
    return state;
  });
}

/** Rows that one state has and the other has not. */
export async function stateDifferences(url: string, before: Readonly<Record<string, readonly string[]>>): Promise<string[]> {
  const after = await databaseState(url);
  return Object.keys(tables).flatMap((table) => {
    const [old, now] = [new Set(before[table]), new Set(after[table])];
    const lost = [...old].filter((row) => !now.has(row)).map((row) => `- ${table} ${row}`);
    const more = [...now].filter((row) => !old.has(row)).map((row) => `+ ${table} ${row}`);
    return [...lost, ...more];
  });
}

/** When tags were pushed, moved and deleted. */
export async function tagTimes(url: string): Promise<Record<string, string>> {
  const rows = await rowsOf<{ key: string; at: Date }>(
    url,
    `SELECT r.name || ':' || h.name || ' ' || h.sequence AS key, h.at FROM tag_history h JOIN repositories r ON r.id = h.repository_id`,
  );
  return Object.fromEntries(rows.map(({ key, at }) => [key, at.toISOString()]));
}

export function rowsOf<Row extends object>(url: string, query: string, values: readonly unknown[] = []): Promise<Row[]> {
  return withClient(url, async (client) => (await client.query<Row>(query, [...values])).rows);
}

async function withClient<T>(url: string, use: (client: Client) => Promise<T>): Promise<T> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    return await use(client);
  } finally {
    await client.end();
  }
}
