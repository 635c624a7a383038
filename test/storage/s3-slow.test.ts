// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** An S3 server that is slow, silent or busy, but not gone. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import t, { type Test } from 'tap';
import type { BlobStore } from '../../src/storage/blob-store.js';
import { usualLimits, type S3Limits } from '../../src/storage/s3-client.js';
import { openS3Store } from '../../src/storage/s3-store.js';
import { HashClock } from '../../src/worker/hash-clock.js';
import { openSender } from '../../src/worker/part-sender.js';
import { openWorkerPool } from '../../src/worker/worker-pool.js';
import { startS3Proxy, type S3Proxy, type SeenRequest } from '../support/s3-proxy.js';
import { s3Server, stopS3Servers, type S3Server } from '../support/s3-server.js';
import { signalled } from '../http/engine-stage.js';
import { noise, read } from './objects.js';
import { settingsFor, writeWhole } from './s3-stage.js';

const MiB = 1024 * 1024;
const sending = { mostSockets: 8, connectMs: 3_000, idleMs: 2_000 };
const workers = openWorkerPool({ threads: 1, hash: 'auto', clock: new HashClock(), sending });
t.teardown(() => workers.close());
t.teardown(stopS3Servers);

const server = await s3Server();
const missing = 'missing' in server && `SLOW S3 IS NOT TESTED: ${server.missing}`;
if (missing) console.error(missing);

const isOneOfMany = ({ method, url }: SeenRequest): boolean => method === 'PUT' && url.includes('many/');
const completes = ({ method, url }: SeenRequest): boolean => method === 'POST' && url.includes('uploadId');
const isLarge = ({ method, url }: SeenRequest): boolean => method === 'PUT' && url.includes('slow/large');

async function proxied(changes: Partial<S3Limits> = {}): Promise<{ readonly store: BlobStore; readonly proxy: S3Proxy }> {
  const proxy = await startS3Proxy((server as S3Server).endpoint);
  t.teardown(() => proxy.close());
  const settings = await settingsFor(server as S3Server, { endpoint: proxy.endpoint });
  return { store: await openS3Store(settings, workers, { ...usualLimits, ...changes }), proxy };
}

void t.test('clients that read slowly, as many as there may be requests at once', { skip: missing }, async (t) => {
  const mostRequests = 4;
  const { store, proxy } = await proxied({ mostRequests });
  await store.put('read/slowly', noise(MiB));
  proxy.fault = ({ headers }) => (headers.range === undefined ? 'pass' : 'headOnly');
  const open = await Promise.all(Array.from({ length: mostRequests }, () => store.open('read/slowly', 0, MiB)));
  t.equal(await store.size('read/slowly'), MiB, 'hold up no other request');
  open.push(await store.open('read/slowly', 0, MiB));
  t.pass('nor another stream');
  for (const source of open) source.close();
});

void t.test('more requests than are sent at once', { skip: missing }, async (t) => {
  const { store, proxy } = await proxied({ mostRequests: 2 });
  const keys = Array.from({ length: 5 }, (_, index) => `many/${index}`);
  const each = <T>(request: (key: string) => Promise<T>): Promise<T[]> => Promise.all(keys.map((key) => request(key)));
  const held = signalled();
  proxy.fault = (seen) => (isOneOfMany(seen) ? { after: held.promise } : 'pass');
  const puts = each((key) => store.put(key, Buffer.from('x')));
  await proxy.arrived(isOneOfMany, 2);
  // Another client of the store goes to the server and back; the other puts would be there by then.
  await t.rejects(store.open('many/absent', 0, 1));
  t.equal(proxy.seen.filter(isOneOfMany).length, 2, 'the others wait');
  held.resolve();
  await puts;
  await each((key) => store.size(key));
  await each((key) => store.get(key));
  await each((key) => store.get(`${key}/absent`));
  await each((key) => store.list(key));
  await each((key) => store.begin(key));
  await each((key) => store.delete([key]));
  t.pass('and each gives its turn to the next one');
});

void t.test('a request whose turn does not come', { skip: missing }, async (t) => {
  const { store, proxy } = await proxied({ mostRequests: 1, retryForMs: 500 });
  const held = signalled();
  proxy.fault = ({ url }) => (url.includes('turn/one') ? { after: held.promise } : 'pass');
  const put = store.put('turn/one', Buffer.from('x'));
  await proxy.arrived(({ url }) => url.includes('turn/one'), 1);
  await t.rejects(store.size('turn/one'), { code: 'UNAVAILABLE' }, 'is refused for a while');
  held.resolve();
  await put;
  t.equal(await store.size('turn/one'), 1, 'and leaves no gap');
});

void t.test('a part that the server is silent about is sent again', { skip: missing }, async (t) => {
  // As long as an attempt takes to fail, all other requests would have been given up.
  const { store, proxy } = await proxied({ retryForMs: sending.idleMs / 2, retryPartsForMs: 60_000 });
  let hangs = 1;
  proxy.fault = ({ url }) => (url.includes('partNumber') && hangs-- > 0 ? 'hang' : 'pass');
  const bytes = noise(1000);
  await writeWhole(store, 'silent/data', bytes);
  t.ok((await read(store, 'silent/data', 0, bytes.length)).equals(bytes), 'whole');
  t.ok(usualLimits.retryPartsForMs > 2 * usualLimits.retryForMs, 'by default, too');
});

void t.test('what takes its time is not cut', { skip: missing }, async (t) => {
  const shortMs = 2_000;
  const { store, proxy } = await proxied({ answerMs: shortMs, idleMs: shortMs });
  proxy.fault = (seen) => (completes(seen) || isLarge(seen) ? { after: delay(shortMs * 1.5) } : 'pass');
  await writeWhole(store, 'slow/data', noise(1000));
  t.equal(proxy.seen.filter(completes).length, 1, 'the completing of parts, in which the server may say nothing');
  // What the kernel takes of the body is all that moves.
  const { store: patient, proxy: other } = await proxied({ answerMs: shortMs });
  other.fault = proxy.fault;
  await patient.put('slow/large', noise(5 * MiB));
  t.equal(other.seen.filter(isLarge).length, 1, 'nor a request with a large body');
});

/** A port where the kernel takes no connection any more, as behind a firewall that drops packets. */
async function fullPort(t: Test): Promise<number> {
  const listening = new Worker(
    `const { parentPort } = require('node:worker_threads');
     const server = require('node:net').createServer().listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
       parentPort.postMessage(server.address().port);
       Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
     });`,
    { eval: true },
  );
  t.teardown(() => listening.terminate());
  const [port] = (await once(listening, 'message')) as [number];
  for (;;) {
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => undefined);
    t.teardown(() => socket.destroy());
    // Loopback connects at once, or not at all.
    if ((await Promise.race([once(socket, 'connect'), delay(1_000)])) === undefined) return port;
  }
}

void t.test('a server that takes no connection', { skip: process.platform !== 'linux' && 'only Linux drops them' }, async (t) => {
  const port = await fullPort(t);
  const send = openSender({ mostSockets: 1, connectMs: 300, idleMs: 60_000 });
  const sent = await send({ url: `http://127.0.0.1:${port}/`, method: 'PUT', headers: {}, buffer: new ArrayBuffer(10), length: 10 });
  t.equal(sent.failure?.code, 'ETIMEDOUT', 'is not waited for');
  t.equal(sent.buffer.byteLength, 10, 'and the buffer comes home');
});
