// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Test } from 'tap';
import { errorCode, type Answer, type HttpClient } from './support/http-client.js';
import {
  bytesOf,
  dataObjects,
  digestOf,
  locationOf,
  onBothStores,
  openSession,
  startWireNode,
  stopWireNode,
  until,
  withDigest,
  type WireNode,
} from './support/wire-suite.js';

const KiB = 1024;

onBothStores({ uploads: { expire_after: '1h' } }, async (t, node) => {
  t.jobs = 4;
  await Promise.all([
    t.test('a session is told', { buffered: true }, (t) => told(t, node.client)),
    t.test('order', { buffered: true }, (t) => order(t, node.client)),
    t.test('malformed chunks', { buffered: true }, (t) => malformed(t, node.client)),
    t.test('two writers', { buffered: true }, (t) => twoWriters(t, node.client)),
    t.test('a client that vanishes', { buffered: true }, (t) => vanishing(t, node.client)),
    t.test('tails of every size', { buffered: true }, (t) => tails(t, node.client)),
    t.test('expiry', { buffered: true }, (t) => expiry(t, node)),
  ]);
  // In a bucket other things might stay: test/nodes/uploads.test.ts looks for them.
  if (node.store?.bucket === undefined) await t.test('no data object stays', (t) => nothingStays(t, node));
});

async function told(t: Test, client: HttpClient): Promise<void> {
  const opened = await client.send('POST', '/v2/told/blobs/uploads/', { body: '' });
  t.equal(opened.status, 202, 'opened');
  t.match(opened.headers, { range: '0-0', 'content-length': '0', 'docker-upload-uuid': /^[0-9a-f-]{36}$/ }, 'headers of a new session');
  const session = locationOf(opened);
  t.ok(session.startsWith('/v2/told/blobs/uploads/'), 'a relative Location');
  t.equal((await client.send('POST', '/v2/told/blobs/uploads', { body: '' })).status, 202, 'also without the slash at the end');
  standsAt(t, await client.send('GET', session), session, 0, 'new');
  const patched = await client.send('PATCH', session, { body: bytesOf(5000) });
  t.equal(patched.status, 202, 'a chunk is accepted');
  t.match(patched.headers, { location: session, range: '0-4999' }, 'and told');
  standsAt(t, await client.send('GET', session), session, 5000, 'after a chunk');
  t.equal((await client.send('GET', session.replace('/told/', '/other/'))).status, 404, 'a session belongs to its repository');

  const cancelled = await client.send('DELETE', session);
  t.strictSame([cancelled.status, cancelled.body.length], [204, 0], 'cancelled');
  for (const [method, path] of [
    ['GET', session],
    ['PATCH', session],
    ['PUT', withDigest(session, digestOf(bytesOf(5000)))],
    ['DELETE', session],
    ['GET', '/v2/told/blobs/uploads/not-an-id'],
    ['PATCH', '/v2/told/blobs/uploads/00000000-0000-4000-8000-000000000000'],
  ] as const) {
    const answer = await client.send(method, path, method === 'GET' ? {} : { body: 'x' });
    t.strictSame([answer.status, errorCode(answer)], [404, 'BLOB_UPLOAD_UNKNOWN'], `${method} ${path}`);
  }
}

async function order(t: Test, client: HttpClient): Promise<void> {
  for (const [method, size] of [
    ['PATCH', 1000],
    ['PUT', 1000],
    ['PATCH', 200 * KiB],
    ['PUT', 200 * KiB],
  ] as const) {
    const bytes = bytesOf(3 * size, `order ${method} ${size}`);
    const digest = digestOf(bytes);
    const session = await openSession(client, 'order');
    const send = (start: number, end: number) =>
      client.send(method, method === 'PUT' ? withDigest(session, digest) : session, {
        headers: { 'Content-Range': `${start}-${end - 1}` },
        body: bytes.subarray(start, end),
      });
    outOfOrder(t, await send(size, 2 * size), session, 0, `${method}: not from the beginning`);
    t.equal(
      (await client.send('PATCH', session, { headers: { 'Content-Range': `0-${size - 1}` }, body: bytes.subarray(0, size) })).status,
      202,
    );
    outOfOrder(t, await send(0, size), session, size, `${method}: the same again`);
    outOfOrder(t, await send(2 * size, 3 * size), session, size, `${method}: past a gap`);
    outOfOrder(t, await send(size - 1, 2 * size), session, size, `${method}: overlapping`);
    standsAt(t, await client.send('GET', session), session, size, 'nothing of it counts');
    const next = await client.send('PATCH', session, {
      headers: { 'Content-Range': `${size}-${2 * size - 1}` },
      body: bytes.subarray(size, 2 * size),
    });
    t.equal(next.status, 202, 'the right one is accepted after all');
    const last = await client.send('PUT', withDigest(session, digest), {
      headers: { 'Content-Range': `${2 * size}-${3 * size - 1}` },
      body: bytes.subarray(2 * size),
    });
    t.equal(last.status, 201, 'and so is the last');
    t.ok((await client.send('GET', locationOf(last))).body.equals(bytes), 'byte for byte');
  }
}

async function malformed(t: Test, client: HttpClient): Promise<void> {
  const session = await openSession(client, 'malformed');
  for (const range of ['x', '3', '-3', '0-', '3-0', '0-3,5-6', '0 - 3', '99999999999999999999-99999999999999999999']) {
    const answer = await client.send('PATCH', session, { headers: { 'Content-Range': range }, body: 'abcd' });
    t.strictSame([answer.status, errorCode(answer)], [400, 'BLOB_UPLOAD_INVALID'], `Content-Range: ${range}`);
  }
  const longer = await client.send('PATCH', session, { headers: { 'Content-Range': '0-9' }, body: 'abcd' });
  t.strictSame([longer.status, errorCode(longer)], [400, 'SIZE_INVALID'], 'another length than announced');
  standsAt(t, await client.send('GET', session), session, 0, 'nothing was taken');
}

async function twoWriters(t: Test, client: HttpClient): Promise<void> {
  for (const method of ['PATCH', 'PUT'] as const) {
    const bytes = bytesOf(400 * KiB, `writers ${method}`);
    const digest = digestOf(bytes);
    const session = await openSession(client, 'writers');
    await client.send('PATCH', session, { body: bytes.subarray(0, 1000) });
    const first = client.open('PATCH', session, { 'Content-Length': String(bytes.length - 1000) });
    first.request.write(bytes.subarray(1000, 2000));

    const target = method === 'PUT' ? withDigest(session, digest) : session;
    // The first one is the writer as soon as it has been heard of.
    const second = await until('the second writer is refused', async () => {
      const answer = await client.send(method, target, { headers: { 'Content-Range': '1001-1001' }, body: 'x' });
      return errorCode(answer) === 'RANGE_INVALID' && answer.body.toString().includes('another request') ? answer : undefined;
    });
    outOfOrder(t, second, session, 1000, `a second ${method}`);
    const whole = await client.send(method, target, { body: bytes });
    outOfOrder(t, whole, session, 1000, `a second ${method} without Content-Range`);
    standsAt(t, await client.send('GET', session), session, 1000, 'what is known for sure');

    first.request.end(bytes.subarray(2000));
    const done = await first.answer;
    t.strictSame([done.status, done.headers.range], [202, `0-${bytes.length - 1}`], 'the first one is not disturbed');
    t.equal((await client.send('PUT', withDigest(session, digest), { body: '' })).status, 201, 'and its bytes are right');
  }

  const session = await openSession(client, 'writers');
  const bytes = bytesOf(100 * KiB, 'race');
  const racers = await Promise.all(
    Array.from({ length: 10 }, () => client.send('PATCH', session, { headers: { 'Content-Range': `0-${bytes.length - 1}` }, body: bytes })),
  );
  t.strictSame(
    racers.map(({ status }) => status).sort((a, b) => a - b),
    [202, ...Array.from({ length: 9 }, () => 416)],
    'of ten at once one wins',
  );
  t.equal((await client.send('PUT', withDigest(session, digestOf(bytes)), { body: '' })).status, 201, 'its bytes are there once');
}

async function vanishing(t: Test, client: HttpClient): Promise<void> {
  const whole = bytesOf(1_000_000, 'vanishing');
  const digest = digestOf(whole);
  for (const [what, headers] of [
    ['Content-Length', { 'Content-Length': '900000' }],
    ['chunked', { 'Transfer-Encoding': 'chunked' }],
  ] as const) {
    for (const sent of [1, 3000, 64 * KiB, 300_001]) {
      const session = await openSession(client, 'vanishing');
      await client.send('PATCH', session, { body: whole.subarray(0, 1234) });
      const open = client.open('PATCH', session, headers);
      open.request.write(whole.subarray(1234, 1234 + sent));
      await busy(client, session);
      // All that was written has to be with the kernel, or the abort drops it.
      await until('it was sent', () => open.request.socket?.writableLength === 0);
      open.request.destroy();
      const received = await until('the session is free again', async () => {
        const answer = await client.send('PATCH', session, { headers: { 'Content-Range': '9999999-9999999' }, body: 'x' });
        return answer.body.toString().includes('another request') ? undefined : receivedOf(answer);
      });
      t.ok(received >= 1234 && received <= 1234 + sent, `${what}: ${received} of ${1234 + sent} bytes arrived before the abort`);
      standsAt(t, await client.send('GET', session), session, received, 'GET tells what arrived');
      const rest = whole.subarray(received);
      const patched = await client.send('PATCH', session, { headers: { 'Content-Range': `${received}-${whole.length - 1}` }, body: rest });
      t.equal(patched.status, 202, 'it goes on from there');
      t.equal((await client.send('PUT', withDigest(session, digest), { body: '' })).status, 201, 'with the right digest');
    }
  }
  t.ok((await client.send('GET', `/v2/vanishing/blobs/${digest}`)).body.equals(whole), 'byte for byte');
}

/** What is below 64 KiB waits in the session's row: chunks around that size, one after another. */
async function tails(t: Test, client: HttpClient): Promise<void> {
  const sizes = [1, 64 * KiB - 1, 64 * KiB, 64 * KiB + 1, 10, 0, 128 * KiB, 3, 1_200_000, 65_000, 600];
  const whole = bytesOf(
    sizes.reduce((sum, size) => sum + size, 0),
    'tails',
  );
  for (const rotation of sizes.keys()) {
    const session = await openSession(client, 'tails');
    let at = 0;
    for (const size of [...sizes.slice(rotation), ...sizes.slice(0, rotation)]) {
      const chunk = whole.subarray(at, (at += size));
      const answer = await client.send('PATCH', session, { body: chunk, chunked: size % 2 === 0 });
      if (answer.headers.range !== `0-${Math.max(0, at - 1)}`) t.fail(`${answer.status} ${answer.headers.range} at ${at}`);
    }
    const algorithm = rotation % 2 === 0 ? 'sha256' : 'sha512';
    const done = await client.send('PUT', withDigest(session, digestOf(whole, algorithm)), { body: '' });
    t.equal(done.status, 201, `chunks of ${sizes.length} sizes, rotated by ${rotation}, ${algorithm}`);
    if (rotation < 2) t.ok((await client.send('GET', locationOf(done))).body.equals(whole), 'byte for byte');
  }
}

async function nothingStays(t: Test, node: WireNode): Promise<void> {
  const { client } = node;
  /** The key of the data object that `work` has made. */
  const made = async (work: () => Promise<unknown> | void): Promise<string> => {
    const before = await dataObjects(node);
    await work();
    return until('a data object while the upload is open', async () =>
      [...(await dataObjects(node)).keys()].find((key) => !before.has(key)),
    );
  };
  const gone = async (key: string, what: string): Promise<void> => {
    await until(`${what}: its data object is gone`, async () => !(await dataObjects(node)).has(key), 15_000).then(
      () => t.pass(`${what}: its data object is gone`),
      (error: Error) => t.fail(error.message),
    );
  };

  const disturbed = await openSession(client, 'stays');
  const writing = client.open('PATCH', disturbed, { 'Transfer-Encoding': 'chunked' });
  writing.request.write('begun');
  await busy(client, disturbed);
  t.equal((await client.send('DELETE', disturbed)).status, 204, 'cancelled while somebody writes');

  const cancelled = await openSession(client, 'stays');
  const cancelledKey = await made(() => client.send('PATCH', cancelled, { body: bytesOf(777_000) }));
  const wrong = await openSession(client, 'stays');
  const wrongKey = await made(() => client.send('PATCH', wrong, { body: bytesOf(777_000) }));
  // Nobody is told of this one's session, so nobody can go on with it.
  const bytes = bytesOf(777_003);
  const digest = digestOf(bytes);
  const whole = client.open('POST', `/v2/stays/blobs/uploads/?digest=${digest}`, { 'Content-Length': String(bytes.length) });
  const wholeKey = await made(() => void whole.request.write(bytes.subarray(0, 760_000)));

  t.equal((await client.send('DELETE', cancelled)).status, 204, 'cancelled');
  t.equal((await client.send('PUT', withDigest(wrong, digestOf('other')), { body: '' })).status, 400, 'a wrong digest');
  whole.request.destroy();
  await Promise.all([
    gone(cancelledKey, 'cancelled'),
    gone(wrongKey, 'wrong digest'),
    gone(wholeKey, 'a POST with the whole blob, aborted'),
  ]);
  t.equal((await client.send('HEAD', `/v2/stays/blobs/${digest}`)).status, 404, 'and there is no blob');

  // The trash has been emptied since that one was cancelled. Its writer does not know yet.
  const lateKey = await made(() => void writing.request.write(bytesOf(200_000)));
  writing.request.end();
  t.equal((await writing.answer).status, 404, 'the upload of a writer was cancelled');
  await gone(lateKey, 'cancelled while somebody writes');
}

async function expiry(t: Test, { engine, store }: WireNode): Promise<void> {
  const node = await startWireNode(engine, { uploads: { expire_after: '4s' } }, { store: store?.kind ?? 'filesystem' });
  t.teardown(() => stopWireNode(node));
  const { client } = node;
  const session = await openSession(client, 'expiry');
  t.equal((await client.send('PATCH', session, { body: bytesOf(300_000) })).status, 202, 'begun');
  t.equal((await dataObjects(node)).size, 1, 'a data object');
  const writing = await openSession(client, 'expiry');
  const open = client.open('PATCH', writing, { 'Transfer-Encoding': 'chunked' });
  open.request.write(bytesOf(100));
  await busy(client, writing);
  await until('the session has expired', async () => (await client.send('GET', session)).status === 404);
  t.pass('the session has expired');
  await until('its data object is gone', async () => (await dataObjects(node)).size === 0);
  t.pass('its data object is gone');
  open.request.end();
  t.equal((await open.answer).status, 202, 'but not under a writer');
}

/** Resolves when somebody writes to a session. */
async function busy(client: HttpClient, session: string): Promise<void> {
  await until('somebody writes to the session', async () => {
    const answer = await client.send('PATCH', session, { headers: { 'Content-Range': '9999999-9999999' }, body: 'x' });
    return answer.body.toString().includes('another request');
  });
}

function receivedOf(answer: Answer): number {
  const last = /^0-(\d+)$/.exec(String(answer.headers.range))?.[1];
  if (last === undefined) throw new Error(`no Range but ${answer.headers.range}`);
  return Number(last) + 1;
}

function standsAt(t: Test, answer: Answer, session: string, received: number, what: string): void {
  const { location, range } = answer.headers;
  t.strictSame([answer.status, location, range], [204, session, `0-${Math.max(0, received - 1)}`], `${what}: stands at ${received}`);
}

function outOfOrder(t: Test, answer: Answer, session: string, received: number, what: string): void {
  const { location, range } = answer.headers;
  t.strictSame(
    [answer.status, errorCode(answer), location, range],
    [416, 'RANGE_INVALID', session, `0-${Math.max(0, received - 1)}`],
    `${what}: 416`,
  );
}
