// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Uploads that one node begins and another goes on with, also when the first one lost Postgres at a bad moment. */
import { rename } from 'node:fs/promises';
import path from 'node:path';
import { ListMultipartUploadsCommand, ListObjectsV2Command, ListPartsCommand, type S3Client } from '@aws-sdk/client-s3';
import type { Client } from 'pg';
import t, { type Test } from 'tap';
import { errorCode, type HttpClient } from '../support/http-client.js';
import { startPostgresProxy } from '../support/postgres-proxy.js';
import { quickDirectory } from '../support/registry.js';
import { s3Server, s3Settings, stopS3Servers, type S3Server } from '../support/s3-server.js';
import { bytesOf, digestOf, openSession, until, withDigest } from '../support/wire-suite.js';
import { dataUuid, idOf, setStage, type Stage } from './stage.js';

const KiB = 1024;
const MiB = 1024 * KiB;

const server = await s3Server();
t.teardown(stopS3Servers);
const missing = 'missing' in server && `UPLOADS BETWEEN NODES ON S3 ARE NOT TESTED: ${server.missing}`;
if (missing) console.error(missing);

t.jobs = 2;

void t.test('on a shared directory', { buffered: true }, async (t) => {
  const root = await quickDirectory('nodes-');
  const stage = await setStage(t, {}, { root });
  const dataFile = async (session: string): Promise<string> => {
    const uuid = await dataUuid(stage.database, session);
    return path.join(root, 'store/data', uuid.slice(-2), uuid);
  };
  await suite(t, stage, dataFile);
});

void t.test('on a bucket', { buffered: true, skip: missing }, async (t) => {
  const s3 = await s3Settings(server as S3Server, { prefix: 'registry/' });
  await suite(t, await setStage(t, { s3 }));
});

for (const [what, more] of [
  ['parts of any size', {}],
  ['parts of equal size', { equal_parts: true }],
] as const) {
  void t.test(`what is left in the bucket, ${what}`, { buffered: true, skip: missing }, async (t) => {
    const s3 = await s3Settings(server as S3Server, more);
    await nothingStays(
      t,
      await setStage(t, { s3 }, { settings: { uploads: { expire_after: '2s' } } }),
      (server as S3Server).client,
      s3.bucket,
    );
  });
}

void t.test('a node that dies before it has noted what it began in the bucket', { buffered: true, skip: missing }, async (t) => {
  const s3 = await s3Settings(server as S3Server);
  await unknownUpload(t, await setStage(t, { s3 }), (server as S3Server).client, s3.bucket);
});

/** Where one of them takes over data, the file of a session's. */
type DataFile = (session: string) => Promise<string>;

async function suite(t: Test, stage: Stage, dataFile?: DataFile): Promise<void> {
  const [a, b] = await Promise.all([stage.start(), stage.start()]);
  t.teardown(async () => {
    for (const { client } of [a, b]) client.close();
    const codes = await Promise.all([a.stop(), b.stop()]);
    if (codes.some((code) => code !== 0)) throw new Error(`the nodes ended with ${codes.join(', ')}\n${a.log()}${b.log()}`);
  });
  await t.test('whole blobs', (t) => wholeBlobs(t, a.client, b.client));
  await t.test('chunks of all sizes, at the one node and the other', (t) => chunks(t, a.client, b.client));
  await t.test('two writers at once', (t) => twoWriters(t, a.client, b.client));
  await t.test('a commit that fails', (t) => failedCommit(t, stage, b.client));
  if (dataFile !== undefined) await t.test('a take-over that fails', (t) => failedTakeOver(t, stage.database, dataFile, b.client));
}

async function wholeBlobs(t: Test, a: HttpClient, b: HttpClient): Promise<void> {
  for (const size of [0, 1, 64 * KiB + 1, 5 * MiB - 1, 5 * MiB, 5 * MiB + 1, 100 * MiB]) {
    const bytes = bytesOf(size, `whole ${size}`);
    const digest = digestOf(bytes);
    const session = await openSession(a, 'whole/put');
    const put = await b.send('PUT', withDigest(session, digest), { body: bytes });
    t.equal(put.status, 201, `${size} bytes: POST on A, PUT on B`);
    t.ok((await a.send('GET', `/v2/whole/put/blobs/${digest}`)).body.equals(bytes), 'read from A, byte for byte');
    const sha512 = digestOf(bytes, 'sha512');
    const post = await a.send('POST', `/v2/whole/post/blobs/uploads/?digest=${sha512}`, { body: bytes, chunked: size % 2 === 0 });
    t.equal(post.status, 201, 'POST on A, by its sha512');
    t.ok((await b.send('GET', `/v2/whole/post/blobs/${sha512}`)).body.equals(bytes), 'read from B, byte for byte');
  }
}

async function chunks(t: Test, a: HttpClient, b: HttpClient): Promise<void> {
  const sizes = [1, MiB, 5 * MiB - 1, 1, 1, 5 * MiB, 0, 5 * MiB + 1, 3 * MiB, 64 * KiB, 64 * KiB + 1, 64 * MiB, 7];
  for (const algorithm of ['sha256', 'sha512'] as const) {
    const whole = bytesOf(
      sizes.reduce((sum, size) => sum + size, 0),
      `chunks ${algorithm}`,
    );
    const session = await openSession(a, 'chunks');
    let at = 0;
    for (const [index, size] of sizes.entries()) {
      const client = index % 2 === 0 ? b : a;
      const chunk = whole.subarray(at, (at += size));
      const answer = await client.send('PATCH', session, { body: chunk, chunked: index % 3 === 0 });
      t.strictSame([answer.status, answer.headers.range], [202, `0-${at - 1}`], `${size} bytes more`);
      const asked = await (client === a ? b : a).send('GET', session);
      if (asked.headers.range !== `0-${at - 1}`) t.fail(`the other node says ${asked.headers.range}`);
    }
    const digest = digestOf(whole, algorithm);
    t.equal((await b.send('PUT', withDigest(session, digest), { body: '' })).status, 201, `PUT on B, ${algorithm}`);
    t.ok((await a.send('GET', `/v2/chunks/blobs/${digest}`)).body.equals(whole), 'read from A, byte for byte');
  }
}

async function twoWriters(t: Test, a: HttpClient, b: HttpClient): Promise<void> {
  const bytes = bytesOf(6 * MiB, 'two writers');
  const session = await openSession(a, 'writers');
  t.equal((await b.send('PATCH', session, { body: bytes.subarray(0, 1000) })).status, 202, 'begun on B');
  const first = a.open('PATCH', session, { 'Content-Length': String(bytes.length - 1000) });
  first.request.write(bytes.subarray(1000, 2000));
  const refused = await until('A has the session', async () => {
    const answer = await b.send('PATCH', session, { headers: { 'Content-Range': '1001-1001' }, body: 'x' });
    return answer.body.toString().includes('another request') ? answer : undefined;
  });
  const truth = { range: '0-999', location: session };
  t.strictSame([refused.status, errorCode(refused)], [416, 'RANGE_INVALID'], 'a PATCH on B');
  t.match(refused.headers, truth, 'is told where the upload stands');
  const put = await b.send('PUT', withDigest(session, digestOf(bytes)), { body: bytes.subarray(1000) });
  t.strictSame([put.status, errorCode(put)], [416, 'RANGE_INVALID'], 'a PUT on B');
  t.match(put.headers, truth, 'is told the same');
  first.request.end(bytes.subarray(2000));
  t.equal((await first.answer).status, 202, 'A is not disturbed');
  t.equal((await b.send('PUT', withDigest(session, digestOf(bytes)), { body: '' })).status, 201, 'B finishes what A received');
}

/** The data of a commit that failed are named by an entry that may be in the store: other bytes must not come under their key. */
async function failedCommit(t: Test, stage: Stage, other: HttpClient): Promise<void> {
  const proxy = await startPostgresProxy(stage.databaseUrl);
  const node = await stage.start(proxy.url);
  t.teardown(async () => {
    node.client.close();
    await node.stop();
    proxy.close();
  });
  for (const size of [2000, 300 * KiB, 6 * MiB]) {
    const bytes = bytesOf(2 * size, `failed ${size}`);
    const begun = bytes.subarray(0, size);
    const session = await openSession(node.client, 'failed');
    const first = await dataUuid(stage.database, session);
    const cut = proxy.cutAt('commit-link');
    const refused = await node.client.send('PUT', withDigest(session, digestOf(begun)), { body: begun });
    const sendLate = await cut;
    t.strictSame([refused.status, errorCode(refused)], [503, 'UNAVAILABLE'], `${size} bytes whose commit is lost`);
    t.match(refused.headers, { 'retry-after': /^\d+$/ }, 'come back later');
    sendLate();
    const asked = await other.send('GET', session);
    t.equal(asked.headers.range, `0-${size - 1}`, 'all of them were received');
    const more = await other.send('PATCH', session, { body: bytes.subarray(size) });
    if (more.status === 416) {
      // Where nothing can be appended to what is stored, it can be completed.
      t.equal((await other.send('PUT', withDigest(session, digestOf(begun)), { body: '' })).status, 201, 'it is completed as it is');
      t.equal(await blobUuid(stage.database, digestOf(begun)), first, 'with the same data');
      continue;
    }
    t.equal(more.status, 202, 'the client appends');
    const digest = digestOf(bytes);
    t.equal((await other.send('PUT', withDigest(session, digest), { body: '' })).status, 201, 'and finishes');
    t.not(await blobUuid(stage.database, digest), first, 'the data have another key');
    t.ok((await node.client.send('GET', `/v2/failed/blobs/${digest}`)).body.equals(bytes), 'byte for byte');
    t.equal((await node.client.send('HEAD', `/v2/failed/blobs/${digestOf(begun)}`)).status, 404, 'the late commit did nothing');
    const { rows } = await stage.database.query(`SELECT reason FROM object_trash WHERE key LIKE '%' || $1`, [first]);
    t.equal(rows.length, 1, 'the first data are in the trash, for a second time, too');
  }

  const bytes = bytesOf(70_000, 'again');
  const session = await openSession(node.client, 'failed');
  const cut = proxy.cutAt('commit-link');
  const target = withDigest(session, digestOf(bytes));
  t.equal((await node.client.send('PUT', target, { body: bytes })).status, 503, 'once more');
  await cut;
  t.equal((await other.send('PUT', target, { body: '' })).status, 201, 'the client only tries again');
  t.ok((await other.send('GET', `/v2/failed/blobs/${digestOf(bytes)}`)).body.equals(bytes), 'byte for byte');
}

/** The new writer gives the session back: the next one does not wait for a lease. */
async function failedTakeOver(t: Test, database: Client, dataFile: DataFile, b: HttpClient): Promise<void> {
  const session = await openSession(b, 'takeover');
  const bytes = bytesOf(400 * KiB, 'take-over');
  t.equal((await b.send('PATCH', session, { body: bytes.subarray(0, 300 * KiB) })).status, 202, 'begun');
  await database.query('UPDATE upload_sessions SET node = gen_random_uuid(), lease_until = now() WHERE id = $1', [idOf(session)]);
  const file = await dataFile(session);
  await rename(file, `${file}.away`);
  for (const attempt of ['first', 'second']) {
    t.equal(
      (await b.send('PATCH', session, { body: bytes.subarray(300 * KiB) })).status,
      500,
      `the ${attempt} take-over cannot read the data`,
    );
  }
  await rename(`${file}.away`, file);
  t.equal((await b.send('PATCH', session, { body: bytes.subarray(300 * KiB) })).status, 202, 'the third can, at once');
  t.equal((await b.send('PUT', withDigest(session, digestOf(bytes)), { body: '' })).status, 201, 'finished');
}

/** Uploads that end in any way but with a blob leave no object and no part in the bucket. */
async function nothingStays(t: Test, stage: Stage, s3: S3Client, Bucket: string): Promise<void> {
  const node = await stage.start();
  t.teardown(async () => {
    node.client.close();
    await node.stop();
  });
  const { client } = node;
  const begin = async (...sizes: number[]): Promise<string> => {
    const session = await openSession(client, 'left');
    for (const size of sizes) {
      const { status } = await client.send('PATCH', session, { body: bytesOf(size, session) });
      if (status !== 202) throw new Error(`PATCH of ${size} bytes: ${status}`);
    }
    return session;
  };
  const keys = async (prefix: string): Promise<string[]> => {
    const { Contents = [] } = await s3.send(new ListObjectsV2Command({ Bucket, Prefix: prefix }));
    return Contents.map(({ Key = '' }) => Key);
  };
  const multipart = async (): Promise<number> => (await s3.send(new ListMultipartUploadsCommand({ Bucket }))).Uploads?.length ?? 0;

  const cancelled = await begin(17 * MiB, 200 * KiB);
  t.equal(await multipart(), 1, 'a multipart upload');
  // And, for a few seconds, the one of the first chunk, whose bytes it has as well.
  t.ok((await keys('uploads/')).length > 0, 'a tail');
  t.equal((await client.send('DELETE', cancelled)).status, 204, 'cancelled');
  const wrong = await begin(9 * MiB, 70_000);
  t.equal((await client.send('PUT', withDigest(wrong, digestOf('other')), { body: '' })).status, 400, 'a wrong digest');
  const late = await begin(9 * MiB, 70_001);
  t.equal(
    (await client.send('PUT', withDigest(late, digestOf('other', 'sha512')), { body: '' })).status,
    400,
    'a wrong digest of another algorithm',
  );
  await begin(9 * MiB, 80_000);
  await begin(300_000);
  t.pass('two that will expire');
  const bytes = bytesOf(30 * MiB);
  const whole = client.open('POST', `/v2/left/blobs/uploads/?digest=${digestOf(bytes)}`, { 'Content-Length': String(bytes.length) });
  whole.request.write(bytes.subarray(0, 20 * MiB));
  await until('parts of an upload that nobody can go on with', async () => {
    const { rows } = await stage.database.query(
      `SELECT FROM upload_sessions WHERE begun IS NOT NULL AND next_part > 1 AND hash_state IS NULL`,
    );
    return rows.length > 0;
  });
  whole.request.destroy();

  await until('no multipart upload is left', async () => (await multipart()) === 0, 60_000);
  t.pass('no multipart upload is left');
  await until('no tail is left', async () => (await keys('uploads/')).length === 0, 60_000);
  t.pass('no tail is left');
  await until('no data is left', async () => (await keys('data/')).length === 0, 60_000);
  t.pass('no data are left');

  const kept = bytesOf(20 * MiB + 3, 'kept');
  const session = await openSession(client, 'left');
  for (let at = 0; at < kept.length; at += 6_100_000) await client.send('PATCH', session, { body: kept.subarray(at, at + 6_100_000) });
  t.equal((await client.send('PUT', withDigest(session, digestOf(kept)), { body: '' })).status, 201, 'of one that is finished');
  await until('its tails are gone', async () => (await keys('uploads/')).length === 0, 60_000);
  t.strictSame([(await keys('data/')).length, await multipart()], [1, 0], 'the data stay, and nothing else');
  t.ok((await client.send('GET', `/v2/left/blobs/${digestOf(kept)}`)).body.equals(kept), 'byte for byte');
}

/** An id that no row names cannot be asked for: so no part is sent before the row is there, and what a rule of the bucket has to end one day has no bytes. */
async function unknownUpload(t: Test, stage: Stage, s3: S3Client, Bucket: string): Promise<void> {
  const proxy = await startPostgresProxy(stage.databaseUrl);
  const [dying, other] = [await stage.start(proxy.url), await stage.start()];
  t.teardown(async () => {
    for (const { client } of [dying, other]) client.close();
    await other.stop();
    proxy.close();
  });
  const bytes = bytesOf(17 * MiB, 'unknown');
  const session = await openSession(dying.client, 'unknown');
  const noted = proxy.cutAt('reserve-parts');
  const patch = dying.client.open('PATCH', session, { 'Content-Length': String(bytes.length) });
  patch.request.write(bytes);
  await noted;
  // By then whatever it had sent has arrived.
  t.equal((await patch.answer).status, 503, 'the node cannot make its note');
  await dying.kill();
  const { Uploads: [{ Key, UploadId } = {}] = [] } = await s3.send(new ListMultipartUploadsCommand({ Bucket }));
  t.type(UploadId, 'string', 'it has begun');
  const parts = async () => (await s3.send(new ListPartsCommand({ Bucket, Key, UploadId }))).Parts ?? [];
  t.strictSame(await parts(), [], 'and sent nothing');
  const goOn = () => other.client.send('PATCH', session, { body: bytes });
  t.equal(
    await until('another node goes on', async () => ((await goOn()).status === 202 ? 202 : undefined), 60_000),
    202,
    'another node goes on',
  );
  t.equal((await other.client.send('PUT', withDigest(session, digestOf(bytes)), { body: '' })).status, 201, 'and finishes');
  t.strictSame(await parts(), [], 'what the first one began stays without bytes');
}

async function blobUuid(database: Client, digest: string): Promise<string> {
  const { rows } = await database.query<{ uuid: string }>('SELECT uuid FROM blobs WHERE digest = $1', [
    Buffer.from(`01${digest.split(':')[1]}`, 'hex'),
  ]);
  return rows[0]?.uuid ?? '';
}
