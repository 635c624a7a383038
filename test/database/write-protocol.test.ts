// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Interleavings of the write protocol's steps that no request can be timed for: the functions themselves, on two connections. */
import { randomUUID } from 'node:crypto';
import { Client } from 'pg';
import t from 'tap';
import { migrate } from '../../src/database/migrate.js';
import { freshDatabase } from '../support/postgres.js';

const node = randomUUID();
const tagPath = 'repositories/r/_tags/t/';
const [m, x] = ['\\x01aa', '\\x01bb'];

async function open(url: string): Promise<Client> {
  const client = new Client({ connectionString: url });
  await client.connect();
  return client;
}

async function one(client: Client, text: string, values: readonly unknown[]): Promise<string> {
  const { rows } = await client.query<{ v: string }>(text, [...values]);
  return rows[0]?.v ?? '';
}

const intend = (client: Client) => one(client, `SELECT intend($1, 'r', ARRAY[$2], NULL) AS v`, [node, `${tagPath}%`]);

function commitPush(client: Client, sequence: string, digest: string): Promise<unknown> {
  const text = `SELECT commit_manifest($1, $2, 'r', $3, 'm', '\\x7b7d', NULL, NULL, NULL, '{}', '{}', false, ARRAY['t'], $4, 'repositories/r/_tags/', ARRAY[$4 || '%'])`;
  return client.query(text, [node, sequence, digest, `repositories/r/_manifests/${digest.slice(2)}/`]);
}

/** For a lock, in this database. */
async function somebodyWaits(client: Client): Promise<void> {
  const waiting = `SELECT count(*)::text AS v FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`;
  while ((await one(client, waiting, [])) === '0') await client.query('SELECT pg_stat_clear_snapshot()');
}

const codeOf = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => 'done',
    (error: { code?: unknown }) => error.code,
  );

void t.test('interleavings', async (t) => {
  const database = await freshDatabase();
  const { url } = database;
  await migrate(url);
  const [a, b] = [await open(url), await open(url)];
  t.teardown(async () => {
    await Promise.all([a.end(), b.end()]);
    await database.drop();
  });
  await a.query(`INSERT INTO nodes (id, version) VALUES ($1, 'test')`, [node]);
  await commitPush(a, await intend(a), m);

  await t.test('a tag that moved away while its old manifest was being deleted stays', async (t) => {
    const push = await intend(a);
    const deletion = await one(
      b,
      `SELECT sequence AS v FROM prepare_manifest_deletion($1, 'r', $2, 'm', 'repositories/r/_manifests/01aa/%.deleted', 'repositories/r/_tags/')`,
      [node, m],
    );
    await commitPush(a, push, x);
    const commit = b.query(
      `SELECT commit_manifest_deletion($1, $2, 'r', $3, 'repositories/r/_manifests/01aa/', ARRAY['t'], 'repositories/r/_tags/', '{}')`,
      [node, deletion, m],
    );
    t.equal(await codeOf(commit), 'HA001', 'the deletion starts again');
    t.equal(await one(a, 'SELECT digest::text AS v FROM tags', []), x, 'the tag is where the push put it');
  });

  await t.test('a push below a deletion of its tag starts again', async (t) => {
    const push = await intend(a);
    const deletion = await intend(b);
    await b.query('BEGIN');
    await b.query(`SELECT commit_tag_deletion($1, $2, 'r', 't', $3)`, [node, deletion, tagPath]);
    const pushed = codeOf(commitPush(a, push, m));
    await somebodyWaits(b);
    await b.query('COMMIT');
    t.equal(await pushed, 'HA001', 'the push starts again');
    t.equal(await one(a, 'SELECT count(*)::text AS v FROM tags', []), '0', 'the tag is gone, as the store says');
  });

  await t.test('a pending write is nobody’s to settle once its node was declared dead', async (t) => {
    const sequence = await intend(a);
    await a.query('DELETE FROM nodes');
    t.equal(await codeOf(a.query('SELECT abandon_own($1, $2, NULL)', [node, sequence])), 'HA000', 'the outcome is unknown');
    t.equal(await codeOf(commitPush(a, sequence, m)), 'HA000', 'and it cannot be committed');
  });

  await t.test('a node is not declared dead in the middle of its transaction, and commits nothing afterwards', async (t) => {
    const dead = `INSERT INTO nodes (id, version, protocol, heartbeat_at) VALUES ($1, 'test', 2, now() - interval '1 hour')`;
    const declared = 'SELECT count(*)::text AS v FROM delete_dead_nodes()';
    await a.query(dead, [node]);
    const sequence = await intend(a);
    await a.query('BEGIN');
    await commitPush(a, sequence, m);
    t.equal(await one(b, declared, []), '0', 'it waits for the next time');
    const leaving = b.query('DELETE FROM nodes WHERE id = $1', [node]);
    await somebodyWaits(a);
    await a.query('COMMIT');
    await leaving;
    t.equal(await one(a, 'SELECT count(*)::text AS v FROM tags', []), '1', 'what it has committed counts');

    await a.query(dead, [node]);
    const late = await intend(a);
    await b.query('BEGIN');
    t.equal(await one(b, declared, []), '1', 'now it is dead');
    const push = codeOf(commitPush(a, late, x));
    await somebodyWaits(b);
    await b.query('COMMIT');
    t.equal(await push, 'HA000', 'who waited for that sees it');
  });

  await t.test('an entry that was committed a moment before it is adopted stays', async (t) => {
    await a.query(`INSERT INTO nodes (id, version) VALUES ($1, 'test')`, [node]);
    const path = `repositories/r/_manifests/${m.slice(2)}/`;
    const sequence = await intend(a);
    await commitPush(a, sequence, m);
    await a.query('DELETE FROM object_trash; DELETE FROM pending_writes');
    const adopt = () => one(b, `SELECT adopt_entry($1, $2, 'r', ARRAY[$3 || '%']) AS v`, [node, sequence, path]).then(String);
    t.equal(await adopt(), 'true', 'nothing tells that it was committed');
    t.equal(await codeOf(commitPush(b, sequence, m)), 'done');
    t.strictSame((await a.query('SELECT key FROM object_trash')).rows, [], 'none of its keys is trashed');
    t.equal(await one(a, 'SELECT sequence::text AS v FROM manifests WHERE digest = $1', [m]), sequence);

    const uuid = randomUUID();
    const link = await intend(a);
    const linkPath = 'repositories/r/_blobs/sha256/02aa/';
    await a.query(`SELECT commit_link($1, $2, 'r', '\\x02aa', $3, $4, 3, NULL, NULL, $4)`, [node, link, linkPath, uuid]);
    t.equal(
      await one(b, `SELECT adopt_entry($1, $2, 'r', ARRAY[$3 || '%.' || $4]) AS v`, [node, link, linkPath, uuid]).then(String),
      'true',
    );
    await b.query(`SELECT commit_link($1, $2, 'r', '\\x02aa', $3, $4, 3, NULL, NULL, NULL)`, [node, link, linkPath, uuid]);
    t.strictSame((await a.query('SELECT key FROM object_trash')).rows, [], 'nor is that of a link');

    const deletion = await intend(a);
    const deleteTag = () => b.query(`SELECT commit_tag_deletion($1, $2, 'r', 't', $3)`, [node, deletion, tagPath]);
    await deleteTag();
    await one(b, `SELECT adopt_entry($1, $2, 'r', ARRAY[$3 || '%.deleted']) AS v`, [node, deletion, tagPath]);
    t.equal(await codeOf(deleteTag()), 'done', 'a tag is deleted twice');
  });

  await t.test('what is claimed to be deleted is not adopted, nor its data kept', async (t) => {
    const sequence = await intend(a);
    await a.query('DELETE FROM object_trash; DELETE FROM pending_writes');
    const [template, data] = ['repositories/r/_blobs/sha256/03/%.x', randomUUID()];
    const trash = (key: string) => a.query(`INSERT INTO object_trash (key, reason) VALUES (${key}, 'gc')`);
    await trash(`entry_key('${template}', ${sequence})`);
    await trash(`data_key('${data}')`);
    await a.query('SELECT claim_trash(10, $1)', ['1 minute']);
    t.equal(await one(b, `SELECT adopt_entry($1, $2, 'r', ARRAY[$3]) AS v`, [node, sequence, template]).then(String), 'false', 'the entry');
    t.equal(await codeOf(b.query('SELECT keep_data($1)', [data])), 'HA001', 'the data');
    t.equal((await a.query('SELECT FROM object_trash')).rowCount, 2, 'both are still to be deleted');
  });
});
