// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Clients that are slow, clients that are many, and clients that undo what others do. */
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { HttpClient, jsonOf, type Answer } from './support/http-client.js';
import {
  bytesOf,
  dataObjects,
  describe,
  digestOf,
  engines,
  imageOf,
  indexOf,
  locationOf,
  pushBlob,
  putManifest,
  startWireNode,
  stopWireNode,
  types,
  until,
  withDigest,
  type WireNode,
} from './support/wire-suite.js';

t.jobs = 2;
for (const engine of engines) {
  void t.test(engine, { buffered: true }, async (t) => {
    const node = await startWireNode(engine);
    t.teardown(() => stopWireNode(node));
    // All at once, as far as tap is concerned.
    t.jobs = 3;
    await Promise.all([
      t.test('30 s for 30 KB up', { buffered: true }, (t) => slowUpload(t, node)),
      t.test('30 s for 30 KB down', { buffered: true }, (t) => slowDownload(t, node)),
      t.test('fifty clients push one image', { buffered: true }, (t) => fiftyClients(t, node)),
    ]);
    await t.test('deletions between pushes', (t) => interleavings(t, node));
    await t.test('deletions between pulls', (t) => pullsMeanwhile(t, node));
    t.notMatch(node.log(), /"level":"error"/, 'nothing is logged as a failure');
  });
}

const seconds = 30;

async function slowUpload(t: Test, { client }: WireNode): Promise<void> {
  const bytes = bytesOf(seconds * 1024, 'slow upload');
  const opened = await client.send('POST', '/v2/slow/blobs/uploads/', { body: '' });
  const session = locationOf(opened);
  const digest = digestOf(bytes);
  const whole = client.open('POST', `/v2/slow/blobs/uploads/?digest=${digest}`, { 'Content-Length': String(bytes.length) });
  const chunked = client.open('PATCH', session, { 'Transfer-Encoding': 'chunked' });
  const began = Date.now();
  for (let at = 0; at < bytes.length; at += 1024) {
    for (const { request } of [whole, chunked]) request.write(bytes.subarray(at, at + 1024));
    await sleep(1000);
  }
  for (const { request } of [whole, chunked]) request.end();
  t.ok(Date.now() - began >= seconds * 1000, `${seconds} seconds`);
  t.equal((await whole.answer).status, 201, 'a whole blob');
  t.equal((await chunked.answer).status, 202, 'a chunk');
  t.equal((await client.send('PUT', withDigest(session, digest), { body: '' })).status, 201, 'with the right digest');
}

/** What the kernel takes on both sides does not wait for the client, so the blob is much larger than what the client has read at the end. */
async function slowDownload(t: Test, { client, port }: WireNode): Promise<void> {
  const bytes = bytesOf(40_000_000, 'slow download');
  const digest = await pushBlob(client, 'slow', bytes);
  const socket = connect({ port, host: '127.0.0.1' });
  const pieces: Buffer[] = [];
  let received = 0;
  const ended = new Promise<void>((resolve, reject) => {
    socket.on('error', reject);
    socket.on('close', () => resolve());
  });
  socket.on('data', (piece) => {
    pieces.push(piece);
    received += piece.length;
    socket.pause();
  });
  socket.write(`GET /v2/slow/blobs/${digest} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
  for (let second = 0; second < seconds; second++) {
    await sleep(1000);
    socket.resume();
  }
  t.ok(received < bytes.length / 2, `after ${seconds} s ${received} bytes were read`);
  socket.removeAllListeners('data');
  socket.on('data', (piece) => pieces.push(piece));
  socket.resume();
  await ended;
  const all = Buffer.concat(pieces);
  t.ok(all.subarray(all.indexOf('\r\n\r\n') + 4).equals(bytes), 'all of it, byte for byte');
}

async function fiftyClients(t: Test, { port, root }: WireNode): Promise<void> {
  const layers = [bytesOf(1_100_000, 'fifty 1'), bytesOf(300_000, 'fifty 2'), bytesOf(900, 'fifty 3')];
  const image = imageOf(layers, { annotations: { for: 'fifty' } });
  const push = async (client: HttpClient, number: number): Promise<number[]> => {
    const statuses: number[] = [];
    const note = (answer: Answer): Answer => {
      statuses.push(answer.status);
      return answer;
    };
    for (const blob of [...layers, Buffer.from('{}')]) {
      const digest = digestOf(blob);
      note(await client.send('HEAD', `/v2/fifty/blobs/${digest}`));
      if (number % 2 === 0) note(await client.send('POST', `/v2/fifty/blobs/uploads/?digest=${digest}`, { body: blob }));
      else {
        const session = locationOf(note(await client.send('POST', '/v2/fifty/blobs/uploads/', { body: '' })));
        note(await client.send('PATCH', session, { body: blob, chunked: true }));
        note(await client.send('PUT', withDigest(session, digest), { body: '' }));
      }
      if (note(await client.send('HEAD', `/v2/fifty/blobs/${digest}`)).status !== 200) throw new Error('a blob that was pushed is missing');
    }
    note(await putManifest(client, 'fifty', 'latest', image));
    if (note(await client.send('GET', '/v2/fifty/manifests/latest')).body.toString() !== image) throw new Error('not what was pushed');
    return statuses;
  };
  const clients = Array.from({ length: 50 }, () => new HttpClient(port));
  const statuses = (await Promise.all(clients.map((client, number) => push(client, number)))).flat();
  for (const client of clients) client.close();
  t.strictSame(
    [...new Set(statuses)].filter((status) => ![200, 201, 202, 404].includes(status)),
    [],
    'nobody is told of a failure',
  );
  for (const layer of layers.slice(0, 2)) {
    const count = async () => [...(await dataObjects({ root })).values()].filter((size) => size === layer.length).length;
    await until('one copy is left', async () => (await count()) === 1);
    t.pass('one copy is left');
  }
}

/** Each round several clients push and delete the same few things, in an order that nobody knows. */
async function interleavings(t: Test, { client, port }: WireNode): Promise<void> {
  const repository = 'undone';
  const layer = bytesOf(2000, 'undone');
  const image = imageOf([layer]);
  const index = indexOf([describe(types.manifest, image)]);
  const [blob, manifest] = [digestOf(layer), digestOf(image)];
  await pushBlob(client, repository, '{}');
  const clients = Array.from({ length: 6 }, () => new HttpClient(port));
  const put = (body: string, reference: string, type: string) => (client: HttpClient) =>
    putManifest(client, repository, reference, body, type);
  const remove = (target: string) => (client: HttpClient) => client.send('DELETE', `/v2/${repository}/${target}`);
  const pushLayer = (client: HttpClient) => client.send('POST', `/v2/${repository}/blobs/uploads/?digest=${blob}`, { body: layer });
  const acts: readonly (readonly [string, (client: HttpClient) => Promise<Answer>])[] = [
    ['push blob', pushLayer],
    ['push manifest', put(image, 'a', types.manifest)],
    ['push manifest by digest', put(image, manifest, types.manifest)],
    ['push by digest with tags', put(image, `${manifest}?tag=b&tag=c&tag=a`, types.manifest)],
    ['push index', put(index, 'a', types.index)],
    ['delete blob', remove(`blobs/${blob}`)],
    ['delete manifest', remove(`manifests/${manifest}`)],
    ['delete tag', remove('manifests/a')],
    ['delete another tag', remove('manifests/b')],
    ['delete index', remove(`manifests/${digestOf(index)}`)],
  ];
  const seen = new Map<string, number>();
  for (let round = 0; round < 60; round++) {
    const chosen = clients.map((client, number) => ({
      client,
      act: acts[(round * 7 + number * (1 + (round % 3)) + (round >> 3)) % acts.length],
    }));
    const answers = await Promise.all(chosen.map(async ({ client, act }) => ({ act: act?.[0], answer: await act?.[1](client) })));
    for (const { act, answer } of answers) {
      const outcome = `${act}: ${answer?.status}`;
      seen.set(outcome, (seen.get(outcome) ?? 0) + 1);
      if (answer === undefined || answer.status >= 500) t.fail(`round ${round}: ${outcome} ${answer?.body.toString()}`);
    }
    const { tags } = jsonOf<{ tags: string[] }>(await client.send('GET', `/v2/${repository}/tags/list`));
    for (const tag of tags) {
      const { status } = await client.send('GET', `/v2/${repository}/manifests/${tag}`);
      if (status !== 200) t.fail(`round ${round}: the tag ${tag} is listed, but ${status}`);
    }
  }
  t.ok(
    ['push blob: 201', 'delete blob: 202', 'push manifest: 201', 'delete manifest: 202'].every((outcome) => seen.has(outcome)),
    'all of it happened',
  );
  for (const other of clients) other.close();
  // Whatever came of it, it can be pushed again.
  t.equal((await pushLayer(client)).status, 201, 'the blob');
  t.equal((await putManifest(client, repository, 'a', image)).status, 201, 'the image');
  t.ok((await client.send('GET', `/v2/${repository}/blobs/${blob}`)).body.equals(layer), 'and be read');
  t.equal((await client.send('GET', `/v2/${repository}/manifests/a`)).body.toString(), image, 'under its tag');

  for (let round = 0; round < 25; round++) {
    t.equal((await remove(`manifests/${manifest}`)(client)).status, 202, 'deleted');
    t.equal((await remove(`blobs/${blob}`)(client)).status, 202, 'with its blob');
    t.equal((await pushLayer(client)).status, 201, 'pushed at once');
    t.equal((await putManifest(client, repository, 'a', image)).status, 201, 'with its manifest');
    t.equal((await client.send('HEAD', `/v2/${repository}/manifests/a`)).status, 200, 'and there');
  }
}

async function pullsMeanwhile(t: Test, { client, port }: WireNode): Promise<void> {
  const layer = bytesOf(5_000_000, 'meanwhile');
  const digest = await pushBlob(client, 'meanwhile', layer);
  const readers = Array.from({ length: 4 }, () => new HttpClient(port));
  const writer = { done: false };
  const reads = readers.map(async (reader) => {
    const statuses = new Set<number>();
    while (!writer.done) {
      const answer = await reader.send('GET', `/v2/meanwhile/blobs/${digest}`);
      statuses.add(answer.status);
      if (answer.status === 200 && !answer.body.equals(layer)) throw new Error('other bytes');
    }
    return statuses;
  });
  for (let round = 0; round < 15; round++) {
    await client.send('DELETE', `/v2/meanwhile/blobs/${digest}`);
    await pushBlob(client, 'meanwhile', layer);
  }
  writer.done = true;
  const statuses = new Set((await Promise.all(reads)).flatMap((set) => [...set]));
  t.ok(statuses.has(200), 'it was read');
  t.strictSame(
    [...statuses].filter((status) => status !== 200 && status !== 404),
    [],
    'there, or not there, but never a failure',
  );
  for (const reader of readers) reader.close();
}
