// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What is particular about a node whose blobs are in S3; everything else is in the suites that run on both stores. */
import t, { type Test } from 'tap';
import { ha } from './support/program.js';
import { s3Server, s3Settings, stopS3Servers, type S3Server } from './support/s3-server.js';
import {
  bytesOf,
  digestOf,
  imageWithBlobs,
  locationOf,
  openSession,
  pushBlob,
  putManifest,
  startWireNode,
  stopWireNode,
  withDigest,
  type WireNode,
} from './support/wire-suite.js';

const server = await s3Server();
t.teardown(stopS3Servers);
const missing = 'missing' in server && `A NODE ON S3 IS NOT TESTED: ${server.missing}`;
if (missing) console.error(missing);
const s3 = server as S3Server;

for (const redirect of [false, true]) {
  void t.test(redirect ? 'with redirects' : 'without redirects', { skip: missing }, async (t) => {
    const node = await startWireNode('uws', { storage: { s3: await s3Settings(s3, { redirect, prefix: 'registry' }) } });
    t.teardown(() => stopWireNode(node));
    await t.test('blobs', (t) => (redirect ? redirected(t, node) : streamed(t, node)));
    await t.test('uploads of every size', (t) => uploads(t, node));
    await t.test('an image', (t) => image(t, node));
  });
}

async function streamed(t: Test, { client }: WireNode): Promise<void> {
  for (const size of [0, 1, 60_000]) {
    const bytes = bytesOf(size);
    const digest = await pushBlob(client, 'a/b', bytes);
    const { status, headers, body } = await client.send('GET', `/v2/a/b/blobs/${digest}`);
    t.strictSame([status, headers['content-length'], body.equals(bytes)], [200, String(size), true], `${size} bytes`);
  }
  const digest = digestOf(bytesOf(60_000));
  const range = await client.send('GET', `/v2/a/b/blobs/${digest}`, { headers: { Range: 'bytes=10-19' } });
  t.strictSame([range.status, range.body], [206, bytesOf(60_000).subarray(10, 20)], 'a range');
}

const MiB = 1024 * 1024;

/** By one request, by a session with a PATCH, and by a stream; around the size of the smallest part and past that of the wanted one. */
async function uploads(t: Test, { client }: WireNode): Promise<void> {
  for (const size of [64 * 1024 + 1, 5 * MiB - 1, 5 * MiB, 5 * MiB + 1, 8 * MiB, 20 * MiB + 1]) {
    for (const way of ['post', 'patch', 'stream'] as const) {
      const bytes = bytesOf(size, `${size} ${way}`);
      const digest = digestOf(bytes);
      if (way === 'post') await pushBlob(client, 'up/loads', bytes);
      else {
        const session = await openSession(client, 'up/loads');
        const answer = await client.send('PATCH', session, { body: bytes, chunked: way === 'stream' });
        t.strictSame([answer.status, answer.headers.range], [202, `0-${size - 1}`], `${size} by ${way}: taken`);
        t.equal((await client.send('PUT', withDigest(locationOf(answer), digest), { body: '' })).status, 201, `${size} by ${way}: stored`);
      }
      const answer = await client.send('GET', `/v2/up/loads/blobs/${digest}`);
      const body = answer.status === 307 ? Buffer.from(await (await fetch(answer.headers.location ?? '')).arrayBuffer()) : answer.body;
      t.ok(body.equals(bytes), `${size} by ${way}: byte for byte`);
    }
  }
}

async function redirected(t: Test, { client }: WireNode): Promise<void> {
  const bytes = bytesOf(50_000);
  const digest = await pushBlob(client, 'a/b', bytes);
  const answer = await client.send('GET', `/v2/a/b/blobs/${digest}`);
  t.equal(answer.status, 307, 'sends the client to the store');
  t.equal(answer.headers['docker-content-digest'], digest, 'which knows what it will get');
  const location = new URL(answer.headers.location ?? '');
  t.equal(location.origin, s3.endpoint, 'at its public address');
  t.ok(Number(location.searchParams.get('X-Amz-Expires')) <= 1200, 'for a while');
  const whole = await fetch(location);
  t.equal(whole.headers.get('content-type'), 'application/octet-stream', 'of no particular type');
  t.ok(Buffer.from(await whole.arrayBuffer()).equals(bytes), 'byte for byte');
  const range = await fetch(location, { headers: { Range: 'bytes=7-16' } });
  t.strictSame([range.status, Buffer.from(await range.arrayBuffer())], [206, bytes.subarray(7, 17)], 'also a range');
  for (const [what, headers, status] of [
    ['one range', { Range: 'bytes=7-16' }, 307],
    ['several ranges', { Range: 'bytes=0-1,7-16' }, 206],
    ['a range that the blob does not have', { Range: 'bytes=50000-' }, 416],
    ['a range that is none', { Range: 'bytes=x' }, 200],
    ['a range on a condition that holds', { Range: 'bytes=7-16', 'If-Range': `"${digest}"` }, 206],
    ['a range on a condition that does not', { Range: 'bytes=7-16', 'If-Range': '"other"' }, 200],
  ] as const) {
    const answer = await client.send('GET', `/v2/a/b/blobs/${digest}`, { headers });
    t.equal(answer.status, status, what);
  }
  const head = await client.send('HEAD', `/v2/a/b/blobs/${digest}`);
  t.strictSame(
    [head.status, head.headers['content-length'], head.headers['docker-content-digest']],
    [200, '50000', digest],
    'HEAD is answered here',
  );
  const elsewhere = await client.send('GET', `/v2/a/c/blobs/${digest}`);
  t.equal(elsewhere.status, 404, 'only a repository that is linked to it gives the address away');
}

async function image(t: Test, { client }: WireNode): Promise<void> {
  const manifest = await imageWithBlobs(client, 'team/app', ['one', 'two']);
  t.equal((await putManifest(client, 'team/app', 'v1', manifest)).status, 201, 'pushed');
  t.equal((await client.send('GET', '/v2/team/app/manifests/v1')).body.toString(), manifest, 'pulled');
  t.equal((await client.send('DELETE', '/v2/team/app/manifests/v1')).status, 202, 'untagged');
  t.equal((await client.send('GET', '/v2/team/app/manifests/v1')).status, 404, 'gone');
}

void t.test('a store that cannot be used is named in one line', { skip: missing }, async (t) => {
  const { endpoint, accessKeyId: access_key_id, secretAccessKey: secret_access_key } = s3;
  const credentials = { access_key_id, secret_access_key };
  const bucket = await s3.bucket();
  for (const [what, settings, key] of [
    ['no such bucket', { bucket: 'nobody-has-this', endpoint, credentials }, 'storage.s3.bucket: there is no bucket nobody-has-this'],
    ['unknown credentials', { bucket, endpoint, credentials: { access_key_id: 'nobody', secret_access_key } }, 'storage.s3.credentials: '],
    ['a wrong secret', { bucket, endpoint, credentials: { access_key_id, secret_access_key: 'wrong-secret' } }, 'storage.s3.credentials: '],
    ['nobody there', { bucket, endpoint: 'http://127.0.0.1:9', credentials }, 'storage.s3.endpoint: http://127.0.0.1:9 cannot be reached'],
  ] as const) {
    const failure = await startWireNode('uws', { storage: { s3: settings } }).then(
      () => 'it started',
      (error: unknown) => (error as Error).message,
    );
    const line = failure.split('\n').find((one) => one.startsWith('ha-registry: ')) ?? failure;
    t.ok(line.startsWith(`ha-registry: ${key}`), `${what}: ${line}`);
  }
  const { code, stderr } = await ha(['serve', '-s', 's3']);
  t.strictSame([code, stderr.startsWith('ha-registry: storage.s3.bucket: ')], [2, true], '-s s3 without a bucket');
});
