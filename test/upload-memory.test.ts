// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Uploads to a bucket while all memory that there is for them is out: one buffer of 14 MiB, one of 1 MiB, and small ones. */
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import t, { type Test } from 'tap';
import type { HttpClient, OpenRequest } from './support/http-client.js';
import { parseExposition, valueOf } from './support/exposition.js';
import { freshDatabase } from './support/postgres.js';
import { startPostgresProxy } from './support/postgres-proxy.js';
import { s3Server, s3Settings, stopS3Servers, type S3Server } from './support/s3-server.js';
import type { StoreKind } from './support/stores.js';
import { temporaryDirectory } from './support/registry.js';
import {
  bytesOf,
  digestOf,
  openSession,
  pushBlob,
  startWireNode,
  stopWireNode,
  until,
  withDigest,
  type Engine,
} from './support/wire-suite.js';

const KiB = 1024;
const MiB = 1024 * KiB;

const server = await s3Server();
t.teardown(stopS3Servers);
const missing = 'missing' in server && `UPLOADS THAT WAIT FOR MEMORY ARE NOT TESTED: ${server.missing}`;
if (missing) console.error(missing);

const leastMemory = { memory_budget: '16MiB' };
const largeParts = { part_size: '14MiB' };

void t.test('what is kept of an upload that broke off while it waited is its own', { skip: missing }, async (t) => {
  const proxy = await startPostgresProxy((await freshDatabase()).url);
  const node = await startWireNode('uws', {
    database: { url: proxy.url },
    storage: { s3: await s3Settings(server as S3Server, largeParts) },
    uploads: leastMemory,
  });
  t.teardown(async () => {
    await stopWireNode(node);
    proxy.close();
  });
  const { client } = node;
  const large = await begin(client, 2 * MiB);
  await until('the largest buffer is out', async () => (await memory(client)).used >= 14 * MiB);
  const whole = bytesOf(3 * MiB, 'waiting');
  const waiting = await begin(client, 1 * MiB + 64 * KiB, whole);
  await until('one waits for it, with the one of 1 MiB full', async () => (await memory(client)).waiting === 1);
  const next = await begin(client, 512 * KiB);
  await until('one waits for that', async () => (await memory(client)).waiting === 2);

  const held = proxy.holdAt('reserve-object');
  waiting.request.destroy();
  const goOn = await held;
  large.request.destroy();
  await received(client, large.session);
  t.pass('the largest one is free while what was received is about to be stored');
  goOn();
  const kept = await received(client, waiting.session);
  t.equal(kept, MiB, 'all that was in the buffer is kept');
  const digest = digestOf(whole);
  const put = await client.send('PUT', withDigest(waiting.session, digest), { body: whole.subarray(kept) });
  t.equal(put.status, 201, 'the client goes on, and its digest is right');
  t.ok((await client.send('GET', `/v2/memory/blobs/${digest}`)).body.equals(whole), 'byte for byte');
  next.request.end();
  t.equal((await next.answer).status, 202, 'who waited goes on as well');
});

void t.test('who is slow does not keep what others wait for', { skip: missing }, async (t) => {
  const storage = { s3: await s3Settings(server as S3Server, largeParts) };
  const node = await startWireNode('uws', { storage, uploads: leastMemory, server: { idle_timeout: '2s' } });
  t.teardown(() => stopWireNode(node));
  const { client } = node;
  const slow = await begin(client, 2 * MiB);
  const trickle = setInterval(() => slow.request.write(bytesOf(1024)), 100);
  t.teardown(() => clearInterval(trickle));
  await until('the largest buffer is out', async () => (await memory(client)).used >= 14 * MiB);
  await pushBlob(client, 'memory', bytesOf(3 * MiB, 'quick'));
  t.pass('another one, which needs it, succeeds');
  t.ok((await received(client, slow.session)) >= 2 * MiB, 'what had come is kept');
});

for (const [engine, store] of [
  ['node', 'filesystem'],
  ['uws', 's3'],
] as const) {
  void t.test(`a worker that dies takes no memory away, ${store}`, { skip: store === 's3' && missing }, (t) =>
    dyingWorkers(t, engine, store),
  );
}

async function dyingWorkers(t: Test, engine: Engine, store: StoreKind): Promise<void> {
  const directory = await temporaryDirectory('dying-');
  const [hashing, sending] = [path.join(directory, 'hashing'), path.join(directory, 'sending')];
  const preload = path.resolve(import.meta.dirname, 'support/dying-worker.mjs');
  const settings = { uploads: leastMemory, log: { level: 'silent' } };
  const env = { DIE_HASHING: hashing, DIE_SENDING: sending };
  const node = await startWireNode(engine, settings, { store, env, nodeArguments: ['--import', preload] });
  t.teardown(() => stopWireNode(node));
  const { client } = node;
  const fails = async (at: string, method: string, where: string, body: Uint8Array): Promise<void> => {
    await writeFile(at, '');
    const { status } = await client.send(method, where, { body });
    t.strictSame([status, existsSync(at)], [500, false], `${method} of ${body.length} bytes, whose worker dies ${path.basename(at)}`);
    t.equal((await memory(client)).used, 0, 'its memory is back');
  };
  // In a bucket what is no more than a part is put by the main thread.
  const bytes = bytesOf(17 * MiB, 'dying');
  const target = `/v2/memory/blobs/uploads/?digest=${digestOf(bytes)}`;
  await fails(hashing, 'POST', target, bytes);
  if (store === 's3') {
    await fails(sending, 'POST', target, bytes);
    const kept = bytes.subarray(0, 300 * KiB);
    const session = await openSession(client, 'memory');
    t.equal((await client.send('PATCH', session, { body: kept })).status, 202, 'a chunk that is no part');
    await fails(hashing, 'PUT', withDigest(session, digestOf(bytes)), bytes.subarray(kept.length, 2 * MiB));
    t.equal(await received(client, session), kept.length, 'what was acknowledged is still there');
  }
  t.equal((await client.send('POST', target, { body: bytes })).status, 201, 'the next one succeeds');
  t.equal((await memory(client)).used, 0, 'and gives all back');
}

/** An upload that has sent so much, and stays open. */
async function begin(client: HttpClient, bytes: number, of?: Uint8Array): Promise<OpenRequest & { readonly session: string }> {
  const session = await openSession(client, 'memory');
  const open = client.open('PATCH', session, { 'Transfer-Encoding': 'chunked' });
  open.request.write((of ?? bytesOf(bytes, session)).subarray(0, bytes));
  return { ...open, session };
}

async function memory(client: HttpClient): Promise<{ readonly used: number; readonly waiting: number }> {
  const scrape = parseExposition((await client.send('GET', '/metrics')).body.toString(), 'text');
  const bytes = (state: string): number => valueOf(scrape, `registry_upload_buffer_bytes{state="${state}"}`);
  return { used: bytes('allocated') - bytes('free'), waiting: valueOf(scrape, 'registry_upload_buffer_waiting') };
}

/** How far a session has come, once nobody writes to it. */
function received(client: HttpClient, session: string): Promise<number> {
  return until('the session is free', async () => {
    const answer = await client.send('PATCH', session, { headers: { 'Content-Range': '9999999-9999999' }, body: 'x' });
    if (answer.body.toString().includes('another request')) return undefined;
    return Number(String(answer.headers.range).slice(2)) + 1;
  });
}
