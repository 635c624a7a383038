// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What an upload survives: a statement that Postgres gives up, the end of its node, a copy that takes longer than a lease. */
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'pg';
import t, { type Test } from 'tap';
import type { HttpClient } from './support/http-client.js';
import { freshDatabase } from './support/postgres.js';
import { startPostgresProxy } from './support/postgres-proxy.js';
import { temporaryDirectory } from './support/registry.js';
import {
  bytesOf,
  dataObjects,
  digestOf,
  engines,
  openSession,
  startWireNode,
  stopWireNode,
  until,
  withDigest,
} from './support/wire-suite.js';
import { idOf } from './nodes/stage.js';

const MiB = 1024 * 1024;

t.jobs = 2;

interface Stage {
  readonly url: string;
  readonly database: Client;
}

async function setStage(t: Test): Promise<Stage> {
  const { url } = await freshDatabase();
  return { url, database: await connect(t, url) };
}

async function connect(t: Test, url: string): Promise<Client> {
  const client = new Client({ connectionString: url });
  await client.connect();
  t.teardown(() => client.end());
  return client;
}

void t.test('a checkpoint that Postgres gives up costs the upload nothing', { buffered: true }, async (t) => {
  const { url, database } = await setStage(t);
  // Of its own: within a transaction who waits for what stays as it was seen first.
  const locks = await connect(t, url);
  const node = await startWireNode('uws', { database: { url } });
  t.teardown(() => stopWireNode(node));
  const { client } = node;
  // The first checkpoint comes after 64 MiB, or after 10 s.
  const bytes = bytesOf(70 * MiB, 'checkpoint');
  const session = await openSession(client, 'survives');
  const patch = client.open('PATCH', session, { 'Transfer-Encoding': 'chunked' });
  patch.request.write(bytes.subarray(0, 1));
  await busy(client, session);
  await locks.query('BEGIN');
  await locks.query('SELECT FROM upload_sessions WHERE id = $1 FOR UPDATE', [idOf(session)]);
  patch.request.write(bytes.subarray(1, -1));
  const waiting = async (): Promise<number | undefined> => {
    const { rows } = await database.query<{ pid: number }>(
      `SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%save_upload%'`,
    );
    return rows[0]?.pid;
  };
  const pid = await until('the checkpoint waits for a lock', waiting);
  await database.query('SELECT pg_cancel_backend($1)', [pid]);
  await until('it is given up', async () => (await waiting()) !== pid);
  await locks.query('ROLLBACK');
  t.equal((await client.send('GET', session)).headers.range, '0-0', 'it has noted nothing');
  patch.request.end(bytes.subarray(-1));
  const answer = await patch.answer;
  t.strictSame([answer.status, answer.headers.range], [202, `0-${bytes.length - 1}`], 'all bytes are taken');
  t.equal((await client.send('PUT', withDigest(session, digestOf(bytes)), { body: '' })).status, 201, 'and their digest is right');
});

for (const engine of engines) {
  void t.test(`${engine}: what a node has received when it is told to end is noted`, { buffered: true }, async (t) => {
    const { url, database } = await setStage(t);
    const proxy = await startPostgresProxy(url);
    const node = await startWireNode(engine, { database: { url: proxy.url }, server: { drain_timeout: '10ms' } });
    t.teardown(() => proxy.close());
    const session = await openSession(node.client, 'ends');
    const patch = node.client.open('PATCH', session, { 'Content-Length': String(MiB) });
    patch.request.write(bytesOf(300_000));
    await until('some of it has arrived', async () => (await dataObjects(node)).size > 0);
    const held = proxy.holdAt('save-upload');
    const ended = node.stop();
    const goOn = await held;
    const isThere = async (): Promise<boolean> => (await database.query('SELECT FROM nodes')).rows.length === 1;
    // A node that did not wait for it would be gone by then.
    for (const end = Date.now() + 1_000; Date.now() < end && (await isThere());) await sleep(20);
    const stayed = await isThere();
    goOn();
    t.equal(await ended, 0, 'the node ends');
    t.ok(stayed, 'it was still one of the cluster when it noted it');
    const { rows } = await database.query<{ received: string; held: boolean }>(
      'SELECT bytes_received AS received, lease_until IS NOT NULL AS held FROM upload_sessions WHERE id = $1',
      [idOf(session)],
    );
    const received = Number(rows[0]?.received);
    t.ok(received >= 64 * 1024 && received <= 300_000, `${received} bytes are kept`);
    t.equal(rows[0]?.held, false, 'and whoever goes on need not wait');
    node.client.close();
  });
}

void t.test('who copies what another writer has stored keeps the session meanwhile', { buffered: true }, async (t) => {
  const { url, database } = await setStage(t);
  const files = await temporaryDirectory('hold-');
  const preload = path.resolve(import.meta.dirname, 'support/hold-at.mjs');
  const env = { HOLD_AT: 'upload.adopted', HOLD_FILES: files };
  const node = await startWireNode('node', { database: { url } }, { env, nodeArguments: ['--import', preload] });
  t.teardown(() => stopWireNode(node));
  const { client } = node;
  const bytes = bytesOf(400_000, 'copied');
  const session = await openSession(client, 'copies');
  t.equal((await client.send('PATCH', session, { body: bytes.subarray(0, 300_000) })).status, 202, 'begun');
  await database.query('UPDATE upload_sessions SET node = gen_random_uuid(), lease_until = now() WHERE id = $1', [idOf(session)]);
  const patch = client.send('PATCH', session, { body: bytes.subarray(300_000) });
  const copied = path.join(files, 'upload.adopted');
  await until('the copy is made', () => existsSync(copied));
  await database.query(`UPDATE upload_sessions SET lease_until = now() + interval '25 seconds' WHERE id = $1`, [idOf(session)]);
  await until('its lease is renewed', async () => {
    const { rows } = await database.query(`SELECT FROM upload_sessions WHERE id = $1 AND lease_until > now() + interval '25 seconds'`, [
      idOf(session),
    ]);
    return rows.length > 0;
  });
  t.pass('its lease is renewed while it copies');
  await rm(copied);
  t.equal((await patch).status, 202, 'it goes on with the copy');
  t.equal((await client.send('PUT', withDigest(session, digestOf(bytes)), { body: '' })).status, 201, 'and its digest is right');
});

/** Resolves when somebody writes to a session. */
async function busy(client: HttpClient, session: string): Promise<void> {
  await until('somebody writes to the session', async () => {
    const answer = await client.send('PATCH', session, { headers: { 'Content-Range': '9999999-9999999' }, body: 'x' });
    return answer.body.toString().includes('another request');
  });
}
