// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** A database that a version without garbage collection has filled, and goes on to fill. */
import { readdir, readFile } from 'node:fs/promises';
import { Client } from 'pg';
import t from 'tap';
import { migrate } from '../../src/database/migrate.js';
import { freshDatabase } from '../support/postgres.js';

const migrations = new URL('../../src/database/migrations/', import.meta.url);
const firstOfCollection = 21;

const digest = (byte: string): string => `\\x01${byte.repeat(32)}`;
const uuid = (last: string): string => `00000000-0000-7000-8000-00000000000${last}`;
const prefix = (byte: string): string => `repositories/old/a/_blobs/sha256/${byte.repeat(32)}/`;

void t.test('what was there before is collected as well, and what the version before does still works', async (t) => {
  const { url } = await freshDatabase();
  const client = new Client({ connectionString: url });
  await client.connect();
  t.teardown(() => client.end());
  await client.query(
    'CREATE TABLE schema_migrations (number integer PRIMARY KEY, name text NOT NULL, breaking boolean NOT NULL, applied_at timestamptz DEFAULT now())',
  );
  for (const name of (await readdir(migrations)).filter((file) => file.endsWith('.sql')).sort()) {
    const number = Number(name.slice(0, 4));
    if (number >= firstOfCollection) continue;
    await client.query(await readFile(new URL(name, migrations), 'utf8'));
    await client.query('INSERT INTO schema_migrations VALUES ($1, $2, false)', [number, name]);
  }
  const node = '00000000-0000-4000-8000-000000000001';
  await client.query(`INSERT INTO nodes (id, version, gc_protocol) VALUES ($1, 'before', 0)`, [node]);
  const upload = async (byte: string, last: string): Promise<void> => {
    const { rows } = await client.query<{ sequence: string; uuid: string }>('SELECT * FROM prepare_link($1, $2, $3, $4, $5, NULL)', [
      node,
      'old/a',
      digest(byte),
      `${prefix(byte)}%.@`,
      uuid(last),
    ]);
    await client.query('SELECT commit_link($1, $2, $3, $4, $5, $6, 3, NULL, NULL, $6)', [
      node,
      rows[0]?.sequence,
      'old/a',
      digest(byte),
      prefix(byte),
      rows[0]?.uuid,
    ]);
  };
  const pushManifest = async (byte: string, blobs: readonly string[], tag: string): Promise<void> => {
    const path = `repositories/old/a/_manifests/sha256/${byte.repeat(32)}/`;
    const columns = blobs.map(digest);
    const { rows } = await client.query<{ sequence: string }>(
      `SELECT * FROM prepare_manifest($1, 'old/a', $2, $3, $4, '{}', false, $5, 'x')`,
      [node, digest(byte), [tag], columns, [`${path}%`]],
    );
    await client.query(
      `SELECT commit_manifest($1, $2, 'old/a', $3, 'x', '{}', NULL, NULL, NULL, $4, '{}', false, $5, $6, 'repositories/old/a/_tags/', $7)`,
      [node, rows[0]?.sequence, digest(byte), columns, [tag], path, [`${path}%`]],
    );
  };
  const queued = async (table: string): Promise<number> =>
    Number((await client.query<{ count: string }>(`SELECT count(*) FROM ${table}`)).rows[0]?.count);

  await upload('aa', '1');
  await upload('bb', '2');
  await pushManifest('cc', ['aa'], 'v1');
  await client.query(`INSERT INTO blobs (digest, uuid, size) VALUES ($1, $2, 3)`, [digest('dd'), uuid('3')]);

  await migrate(url);
  t.strictSame([await queued('gc_links'), await queued('gc_manifests'), await queued('gc_blobs')], [2, 1, 1], 'each is queued once');
  await migrate(url);
  t.equal(await queued('gc_links'), 2, 'and only once');

  await upload('ee', '4');
  await pushManifest('ff', ['aa', 'ee'], 'v1');
  t.strictSame([await queued('gc_links'), await queued('gc_manifests')], [3, 3], 'what it writes is queued, and what its tag left');
  await client.query(
    `SELECT prepare_manifest_deletion($1, 'old/a', $2, 'm', 'repositories/old/a/_manifests/x/%.deleted', 'repositories/old/a/_tags/')`,
    [node, digest('ff')],
  );
  const { rows } = await client.query<{ sequence: string }>('SELECT sequence FROM pending_writes');
  const path = `repositories/old/a/_manifests/sha256/${'ff'.repeat(32)}/`;
  await client.query(`SELECT commit_manifest_deletion($1, $2, 'old/a', $3, $4, '{v1}', 'repositories/old/a/_tags/', $5)`, [
    node,
    rows[0]?.sequence,
    digest('ff'),
    path,
    [`${path}%`],
  ]);
  const { rows: trashed } = await client.query<{ reason: string }>('SELECT reason FROM object_trash');
  t.strictSame(trashed, [{ reason: 'deleted' }], 'its deletion names the object once');
  t.ok((await queued('gc_links')) > 3, 'and what it referred to is looked at');
  const { rowCount } = await client.query('SELECT FROM repository_blobs WHERE due_at > now()');
  t.equal(rowCount, 3, 'in its time');
});
