// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { ListMultipartUploadsCommand } from '@aws-sdk/client-s3';
import t, { type Test } from 'tap';
import { RegistryError } from '../../src/oci/errors.js';
import { UndeletedObjects, type BlobStore, type Part } from '../../src/storage/blob-store.js';
import { openS3Store } from '../../src/storage/s3-store.js';
import { HashClock } from '../../src/worker/hash-clock.js';
import { loadHasher } from '../../src/worker/hash.js';
import { openWorkerPool } from '../../src/worker/worker-pool.js';
import { errorXml, startS3Proxy, type Fault, type S3Proxy, type SeenRequest } from '../support/s3-proxy.js';
import { s3Server, stopS3Servers, type S3Server, type S3ServerKind } from '../support/s3-server.js';
import { noise, read } from './objects.js';
import { append, newPart, settingsFor, writeWhole } from './s3-stage.js';
import { contract, dataObjects } from './store-contract.js';

const MiB = 1024 * 1024;
const hasher = await loadHasher('auto');
const sending = { mostSockets: 8, connectMs: 3_000, idleMs: 3_000 };
const workers = openWorkerPool({ threads: 2, hash: 'auto', clock: new HashClock(), sending });
t.teardown(() => workers.close());

function withServer(kind: S3ServerKind, title: string, test: (t: Test, server: S3Server) => Promise<void>): void {
  void t.test(title, async (t) => {
    const server = await s3Server(kind);
    if ('missing' in server) {
      const reason = `S3 IS NOT TESTED ON ${kind}: ${server.missing}`;
      console.error(reason);
      t.plan(0, reason);
      return;
    }
    await test(t, server);
  });
}

for (const kind of ['minio', 'versitygw'] as const) {
  withServer(kind, `the contract on ${kind}`, async (t, server) => {
    const settings = await settingsFor(server);
    await contract(t, () => openS3Store(settings, workers));
    const uploads = await server.client.send(
      new ListMultipartUploadsCommand({ Bucket: settings.bucket, Prefix: settings.prefix + 'data/04/' }),
    );
    t.strictSame(uploads.Uploads ?? [], [], 'an aborted upload leaves nothing');
  });
}

withServer('minio', 'parts that must be equal', async (t, server) => {
  const settings = await settingsFor(server, { prefix: '', equalParts: true, partSizeBytes: 5 * MiB });
  await dataObjects(t, () => openS3Store(settings, workers));
});

withServer('minio', 'a server that fails', async (t, server) => {
  const proxy = await startS3Proxy(server.endpoint);
  t.teardown(() => proxy.close());
  const store = await openS3Store(await settingsFor(server, { endpoint: proxy.endpoint }), workers);
  t.afterEach(() => (proxy.fault = () => 'pass'));
  await t.test('what passes is tried again', (t) => passing(t, store, proxy));
  await t.test('a stream that breaks off is taken up', (t) => brokenStreams(t, store, proxy));
  await t.test('completing', (t) => completing(t, store, proxy));
  await t.test('parts', (t) => parts(t, store, proxy));
  await t.test('what remains', (t) => undeleted(t, store, proxy));
  await t.test('what does not pass', (t) => lasting(t, store, proxy));
  await t.test('what is sent', (t) => sent(t, server, store, proxy));
});

/** The first `times` requests that fit meet a fault, the others pass. */
function first(times: number, fault: Fault, fits: (seen: SeenRequest) => boolean = () => true): (seen: SeenRequest) => Fault {
  let left = times;
  return (seen) => (fits(seen) && left-- > 0 ? fault : 'pass');
}

async function passing(t: Test, store: BlobStore, proxy: S3Proxy): Promise<void> {
  const slowDown = { refuse: 503, code: 'SlowDown' };
  for (const [index, fault] of [
    slowDown,
    { refuse: 500, code: 'InternalError' },
    { refuse: 429, code: 'TooManyRequests' },
    'cut' as const,
  ].entries()) {
    const name = typeof fault === 'string' ? fault : fault.code;
    const keys = [`passing/${index}/a`, `passing/${index}/b`];
    for (const key of keys) {
      proxy.fault = first(2, fault);
      await store.put(key, Buffer.from(key));
    }
    proxy.fault = first(2, fault);
    t.equal(Buffer.from((await store.get(keys[0] ?? '')) ?? []).toString(), keys[0], `${name}: put and get`);
    proxy.fault = first(2, fault);
    t.equal(await store.size(keys[0] ?? ''), keys[0]?.length, `${name}: size`);
    proxy.fault = first(2, fault);
    t.strictSame(await store.list(`passing/${index}/`), keys, `${name}: list`);
    const bytes = noise(6 * MiB);
    proxy.fault = first(2, fault, ({ url }) => url.includes('partNumber'));
    await writeWhole(store, `passing/${index}/data`, bytes);
    t.ok((await read(store, `passing/${index}/data`, 0, bytes.length)).equals(bytes), `${name}: a part`);
    proxy.fault = first(2, fault);
    await store.delete([...keys, `passing/${index}/data`]);
    t.strictSame(await store.list(`passing/${index}/`), [], `${name}: delete`);
  }
}

async function brokenStreams(t: Test, store: BlobStore, proxy: S3Proxy): Promise<void> {
  const bytes = noise(6 * MiB);
  await writeWhole(store, 'broken/data', bytes);
  await store.put('broken/small', bytes.subarray(0, 300_000));
  proxy.fault = first(4, { breakOffAfter: 1_000_000 });
  t.ok((await read(store, 'broken/data', 100, bytes.length)).equals(bytes.subarray(100)), 'as often as it goes on');
  proxy.fault = first(1, { breakOffAfter: 100_000 });
  t.ok(Buffer.from((await store.get('broken/small')) ?? []).equals(bytes.subarray(0, 300_000)), 'a small object is read again');
  proxy.fault = () => ({ breakOffAfter: 0 });
  await t.rejects(read(store, 'broken/data', 0, bytes.length), 'not when nothing comes any more');
}

function completes({ method, url }: SeenRequest): boolean {
  return method === 'POST' && url.includes('uploadId');
}

async function completing(t: Test, store: BlobStore, proxy: S3Proxy): Promise<void> {
  for (const [name, fault] of [
    ['an error in a 200', { answer: errorXml('InternalError') }],
    ['a reply that was lost', 'lose'],
    ['a refusal', { refuse: 503, code: 'SlowDown' }],
  ] as const) {
    const bytes = noise(5 * MiB);
    proxy.fault = first(1, fault, completes);
    await writeWhole(store, `completing/${name.replaceAll(' ', '-')}`, bytes);
    t.ok((await read(store, `completing/${name.replaceAll(' ', '-')}`, 0, bytes.length)).equals(bytes), name);
  }
  const begun = await store.begin('completing/never');
  const writer = await store.write('completing/never', begun, 0);
  const part = await append(writer, noise(1000));
  await t.rejects(writer.finish(1000, [{ ...part, etag: '"00000000000000000000000000000000"' }]), 'a part that is not there');
  await store.abort('completing/never', begun);
  await t.rejects(writer.finish(1000, [part]), 'nor is anything completed that was dropped');
  t.equal(await store.size('completing/never'), undefined, 'and nothing came of it');
}

async function parts(t: Test, store: BlobStore, proxy: S3Proxy): Promise<void> {
  const begun = await store.begin('parts/one');
  const writer = await store.write('parts/one', begun, 0);
  for (const [name, fault] of [
    ['refused for good before it was read', { refuse: 403, code: 'AccessDenied' }],
    ['no room', { refuse: 507, code: 'XMinioStorageFull' }],
  ] as const) {
    proxy.fault = first(1, fault, ({ url }) => url.includes('partNumber'));
    const bytes = noise(5 * MiB);
    const stored = await writer.append(newPart(7, bytes)).stored;
    t.ok(stored.failure instanceof Error, `${name}: a failure`);
    t.equal(stored.buffer.byteLength, bytes.length, `${name}: the buffer comes home`);
    t.ok(Buffer.from(stored.buffer).equals(bytes), `${name}: as it was`);
    if (name === 'no room') t.equal((stored.failure as NodeJS.ErrnoException).code, 'ENOSPC', 'told as a full disk is');
  }
  // The next part is hashed while the one before it has to be sent again.
  proxy.fault = first(1, { refuse: 503, code: 'SlowDown' }, ({ url }) => url.includes('partNumber=8'));
  const pieces = [noise(5 * MiB), noise(1000)];
  const eight = writer.append(newPart(8, pieces[0] ?? Buffer.alloc(0)));
  const state = await eight.hashed;
  const nine = writer.append({ ...newPart(9, pieces[1] ?? Buffer.alloc(0)), offset: 5 * MiB, state });
  const hash = await nine.hashed;
  const expected = hasher.initial('sha256');
  hasher.update('sha256', expected, Buffer.concat(pieces));
  t.ok(Buffer.from(hash).equals(Buffer.from(expected)), 'hashes follow each other');
  const both = (await Promise.all([eight.stored, nine.stored])).map((stored) => stored.failure ?? stored.part);
  await writer.finish(5 * MiB + 1000, both as Part[]);
  t.ok((await read(store, 'parts/one', 0, 5 * MiB + 1000)).equals(Buffer.concat(pieces)), 'and so do the bytes');

  const other = await store.begin('parts/two');
  const closing = await store.write('parts/two', other, 0);
  proxy.fault = () => ({ refuse: 503, code: 'SlowDown' });
  const waiting = closing.append(newPart(1, noise(1000)));
  await waiting.hashed;
  await closing.close();
  t.match((await waiting.stored).buffer.byteLength, 1000, 'closing ends the attempts');
}

async function undeleted(t: Test, store: BlobStore, proxy: S3Proxy): Promise<void> {
  const keys = ['left/a', 'left/b', 'left/c'];
  for (const key of keys) await store.put(key, Buffer.from(key));
  const one = '<Error><Key>some/where/left/b</Key><Code>AccessDenied</Code><Message>on purpose</Message></Error>';
  proxy.fault = first(1, { answer: `<DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${one}</DeleteResult>` });
  const failure = await store.delete(keys).then(
    () => undefined,
    (error: unknown) => error,
  );
  t.ok(failure instanceof UndeletedObjects, 'some remain');
  t.strictSame((failure as UndeletedObjects).keys, ['left/b'], 'and which they are');
  t.match((failure as Error).message, 'AccessDenied', 'and why');
}

async function lasting(t: Test, store: BlobStore, proxy: S3Proxy): Promise<void> {
  proxy.fault = () => ({ refuse: 507, code: 'XMinioStorageFull' });
  const full = await store.put('lasting/full', Buffer.from('x')).catch((error: unknown) => error);
  t.equal((full as NodeJS.ErrnoException).code, 'ENOSPC', 'no room is said at once');
  proxy.fault = () => ({ refuse: 503, code: 'SlowDown' });
  const since = performance.now();
  const outcomes = await Promise.allSettled([
    store.put('lasting/a', Buffer.from('x')),
    store.get('lasting/a'),
    store.list('lasting/'),
    store.open('lasting/a', 0, 1),
    store.begin('lasting/b'),
  ]);
  t.ok(performance.now() - since < 40_000, 'it is not tried for ever');
  for (const outcome of outcomes) {
    const reason: unknown = outcome.status === 'rejected' ? outcome.reason : undefined;
    t.ok(
      reason instanceof RegistryError && reason.status === 503 && reason.headers['Retry-After'] !== undefined,
      'unavailable, for a while',
    );
  }
}

async function sent(t: Test, server: S3Server, store: BlobStore, proxy: S3Proxy): Promise<void> {
  proxy.seen.length = 0;
  await writeWhole(store, 'sent/data', noise(1000));
  await store.put('sent/small', Buffer.from('x'));
  await store.put('sent/other', Buffer.from('x'));
  await store.delete(['sent/small', 'sent/other']);
  const names = proxy.seen.flatMap(({ headers }) => Object.keys(headers));
  t.notOk(
    names.includes('if-none-match') || names.includes('expect') || names.includes('x-amz-trailer'),
    'nothing that other servers do not know',
  );
  const part = proxy.seen.find(({ url }) => url.includes('partNumber'));
  t.equal(part?.headers['x-amz-content-sha256'], 'UNSIGNED-PAYLOAD', 'parts are not hashed a second time');
  t.ok(
    proxy.seen.some(({ headers }) => headers['x-amz-checksum-crc32'] !== undefined),
    'DeleteObjects has a CRC32',
  );
  const old = await openS3Store(await settingsFor(server, { endpoint: proxy.endpoint, deleteObjectsChecksum: 'md5' }), workers);
  proxy.seen.length = 0;
  await old.delete(['sent/small', 'sent/other']);
  t.strictSame(
    proxy.seen.map(({ headers }) => [typeof headers['content-md5'], headers['x-amz-checksum-crc32']]),
    [['string', undefined]],
    'or an MD5',
  );
  proxy.seen.length = 0;
  const sse = { algorithm: 'aws:kms', kmsKeyId: 'some-key' } as const;
  await openS3Store(await settingsFor(server, { endpoint: proxy.endpoint, sse }), workers).catch(() => undefined);
  const encrypted = proxy.seen.find(({ method }) => method === 'PUT')?.headers;
  t.strictSame(
    [encrypted?.['x-amz-server-side-encryption'], encrypted?.['x-amz-server-side-encryption-aws-kms-key-id']],
    ['aws:kms', 'some-key'],
    'encryption is asked for',
  );
}

t.teardown(stopS3Servers);
