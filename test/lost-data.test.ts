// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** A pull that finds the data of a blob gone, or cut short: from then on nobody is told that it exists, and a push heals it. A store that only fails has lost nothing. */
import { mkdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import t, { type Test } from 'tap';
import { bareBucket, bareDirectory, type BareStore } from './support/bare-store.js';
import { rowsOf } from './support/database-state.js';
import { errorCode, HttpClient } from './support/http-client.js';
import { freshDatabase } from './support/postgres.js';
import { quickDirectory, startRegistry, type RunningRegistry } from './support/registry.js';
import { startS3Proxy, type S3Proxy } from './support/s3-proxy.js';
import { s3Server, s3Settings, stopS3Servers } from './support/s3-server.js';
import { missingStore } from './support/stores.js';
import { bytesOf, digestOf, engines, pushBlob, until, type Engine } from './support/wire-suite.js';

t.jobs = 2;
t.teardown(stopS3Servers);

interface Place {
  readonly node: RunningRegistry;
  readonly client: HttpClient;
  readonly url: string;
  readonly store: BareStore;
  /** On S3, in front of it. */
  readonly proxy: S3Proxy | undefined;
}

async function startPlace(t: Test, engine: Engine, kind: 'filesystem' | 's3'): Promise<Place> {
  const { url } = await freshDatabase();
  const root = await quickDirectory('lost-');
  const s3 = kind === 's3' ? await startS3(t) : undefined;
  const config = {
    server: { engine },
    database: { url },
    workers: { threads: 1 },
    scrub: { enabled: false, cycle: '1s' }, // The data that a pull found lost are looked at as often.
    log: { level: 'warn' },
    ...(s3 === undefined ? {} : { storage: { s3: s3.settings } }),
  };
  const node = await startRegistry({ root, config });
  const client = new HttpClient(node.port);
  t.teardown(async () => {
    client.close();
    const code = await node.stop();
    if (code !== 0) throw new Error(`the node exited with ${code}\n${node.log()}`);
  });
  return { node, client, url, store: s3?.store ?? bareDirectory(path.join(root, 'store')), proxy: s3?.proxy };
}

async function startS3(t: Test): Promise<{ readonly settings: object; readonly store: BareStore; readonly proxy: S3Proxy }> {
  const server = await s3Server();
  if ('missing' in server) throw new Error(server.missing);
  const proxy = await startS3Proxy(server.endpoint);
  t.teardown(() => proxy.close());
  const settings = await s3Settings(server, { endpoint: proxy.endpoint });
  return { settings, store: bareBucket(server, settings.bucket), proxy };
}

const blob = (bytes: Uint8Array | string, repository = 'one'): string => `/v2/${repository}/blobs/${digestOf(bytes)}`;

async function dataOf({ url }: Place, bytes: Uint8Array): Promise<string> {
  const rows = await rowsOf<{ key: string }>(url, 'SELECT data_key(uuid) AS key FROM blobs WHERE size = $1 AND NOT damaged', [
    bytes.length,
  ]);
  return rows[0]?.key ?? '';
}

const damaged = ({ url }: Place): Promise<object[]> => rowsOf(url, 'SELECT digest FROM blobs WHERE damaged');

async function heals(t: Test, { client }: Place, bytes: Uint8Array): Promise<void> {
  t.equal((await client.send('HEAD', blob(bytes))).status, 404, 'who pushes is told that it is not there');
  await pushBlob(client, 'one', bytes);
  t.ok((await client.send('GET', blob(bytes))).body.equals(bytes), 'and heals it');
}

async function losesSome(t: Test, place: Place, isStreamed: boolean): Promise<void> {
  const { client, store, node } = place;
  const gone = bytesOf(50_000, 'gone');
  await pushBlob(client, 'one', gone);
  await client.send('POST', `/v2/two/blobs/uploads/?mount=${digestOf(gone)}&from=one`, { body: '' });
  const key = await dataOf(place, gone);
  await store.remove(key);
  t.equal((await client.send('HEAD', blob(gone))).status, 200, 'nobody knows yet');
  const pulls = await Promise.all(Array.from({ length: 8 }, () => client.send('GET', blob(gone))));
  for (const pull of pulls) t.strictSame([pull.status, errorCode(pull)], [404, 'BLOB_UNKNOWN'], 'a pull is refused');
  t.match(JSON.parse(pulls[0]?.body.toString() ?? ''), { errors: [{ detail: { digest: digestOf(gone), damaged: true } }] }, 'and says why');
  t.equal((await client.send('GET', blob(gone, 'two'))).status, 404, 'in all repositories');
  const told = node
    .log()
    .split('\n')
    .filter((line) => line.includes(digestOf(gone)));
  t.equal(told.length, 1, 'it is told once');
  t.match(JSON.parse(told[0] ?? '{}'), {
    level: /error|50/,
    key,
    digest: digestOf(gone),
    msg: /^a pull found: the object of .* is missing$/,
  });
  t.equal((await store.list(/^cluster\/damaged\//)).length, 1, 'marked in the store, too');
  await heals(t, place, gone);
  await until('healed in the other repository', async () => (await client.send('GET', blob(gone, 'two'))).status === 200);

  const short = bytesOf(60_000, 'short');
  await pushBlob(client, 'one', short);
  await store.write(await dataOf(place, short), short.subarray(0, 1000));
  const ranged = await client.send('GET', blob(short), { headers: { Range: 'bytes=100-199' } });
  t.ok(ranged.body.equals(short.subarray(100, 200)), 'what is there of a short one is served');
  const pull = await client.send('GET', blob(short));
  t.strictSame([pull.status, errorCode(pull)], [404, 'BLOB_UNKNOWN'], 'the whole is refused');
  await heals(t, place, short);

  const long = bytesOf(3_000_000, 'long');
  await pushBlob(client, 'one', long);
  await store.write(await dataOf(place, long), long.subarray(0, 2_500_000));
  if (isStreamed) await t.rejects(client.send('GET', blob(long)), 'what was begun is broken off');
  else t.equal((await client.send('GET', blob(long))).status, 404);
  await heals(t, place, long);
  t.notMatch(node.log(), /a reply failed|request failed/, 'no fault of ours');
}

const kept = bytesOf(70_000, 'kept');

/** A store that loses data for longer than two looks take. */
async function comesBack(t: Test, { client }: Place, lose: () => Promise<void>, bringBack: () => Promise<void>): Promise<void> {
  await lose();
  t.equal((await client.send('GET', blob(kept))).status, 404, 'lost for now');
  await bringBack();
  await until('it is there again', async () => (await client.send('HEAD', blob(kept))).status === 200);
  t.ok((await client.send('GET', blob(kept))).body.equals(kept), 'without a push');
}

/** A pull that fails, of a blob that is there. */
async function keeps(t: Test, place: Place, status: number, code: string, what: string): Promise<void> {
  const pull = await place.client.send('GET', blob(kept));
  t.strictSame([pull.status, errorCode(pull)], [status, code], what);
  t.strictSame(await damaged(place), [], 'nothing is marked');
}

for (const engine of engines) {
  void t.test(`${engine} on a directory`, { buffered: true }, async (t) => {
    const place = await startPlace(t, engine, 'filesystem');
    await losesSome(t, place, true);
    await pushBlob(place.client, 'one', kept);
    await until('all are healed', async () => (await damaged(place)).length === 0);
    const store = path.join(place.node.root, 'store');
    const data = path.join(store, await dataOf(place, kept));
    await comesBack(
      t,
      place,
      () => rename(data, `${data}.away`),
      () => rename(`${data}.away`, data),
    );
    await rename(store, `${store}.away`);
    await mkdir(store);
    await keeps(t, place, 503, 'UNAVAILABLE', 'a directory that is not mounted');
    await rm(store, { recursive: true });
    await rename(`${store}.away`, store);
    t.ok((await place.client.send('GET', blob(kept))).body.equals(kept), 'served again');
  });

  void t.test(`${engine} on S3`, { buffered: true }, async (t) => {
    const missing = await missingStore('s3');
    if (missing !== false) return t.plan(0, missing);
    const place = await startPlace(t, engine, 's3');
    await losesSome(t, place, false);
    await pushBlob(place.client, 'one', kept);
    await until('all are healed', async () => (await damaged(place)).length === 0);
    const key = await dataOf(place, kept);
    const { proxy } = place;
    if (proxy === undefined) throw new Error('no proxy');
    const absent = { refuse: 404, code: 'NoSuchKey' };
    proxy.fault = ({ method, url }) => (method === 'GET' && url.includes(key) ? { refuse: 403, code: 'AccessDenied' } : 'pass');
    await keeps(t, place, 500, 'UNKNOWN', 'access that is denied');
    proxy.fault = ({ method, url }) => (method === 'GET' && url.includes(key) ? absent : 'pass');
    await keeps(t, place, 500, 'UNKNOWN', 'an object that only a GET does not find');
    let looks = 0;
    proxy.fault = ({ method, url }) => (url.includes(key) && (method === 'GET' || ++looks === 1) ? absent : 'pass');
    await keeps(t, place, 500, 'UNKNOWN', 'one that is back at the second look');
    t.equal(looks, 2, 'there were two');
    proxy.fault = ({ url }) => (url.includes(key) || url.includes('cluster/nodes/') ? absent : 'pass');
    await keeps(t, place, 503, 'UNAVAILABLE', 'a bucket that is another');
    const answer = (fault: typeof proxy.fault) => () => {
      proxy.fault = fault;
      return Promise.resolve();
    };
    await answer(() => 'pass')();
    t.ok((await place.client.send('GET', blob(kept))).body.equals(kept), 'served again');
    await comesBack(
      t,
      place,
      answer(({ url }) => (url.includes(key) ? absent : 'pass')),
      answer(() => 'pass'),
    );
  });
}
