// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** How much a repository may hold: what clients are answered. */
import type { Test } from 'tap';
import { jsonOf, type Answer } from '../support/http-client.js';
import {
  bytesOf,
  digestOf,
  imageOf,
  locationOf,
  onBothEngines,
  openSession,
  pushBlob,
  putManifest,
  withDigest,
  type WireNode,
} from '../support/wire-suite.js';

const KiB = 1024;
const quota = {
  default: '100KiB',
  repositories: [
    { match: 'free/**', size: 'unlimited' },
    { match: 'small/*', size: '10KiB' },
  ],
};

onBothEngines({ quota }, async (t, node) => {
  await t.test('what clients are answered', (t) => answers(t, node));
  await t.test('uploads that are not finished', (t) => unfinished(t, node));
});

function checkRefusal(t: Test, answer: Answer, message: RegExp, what: string): void {
  t.equal(answer.status, 403, what);
  t.match(jsonOf(answer), { errors: [{ code: 'DENIED', message }] });
}

async function answers(t: Test, { client }: WireNode): Promise<void> {
  const layer = bytesOf(9 * KiB, 'layer');
  const upload = (repository: string, bytes: Uint8Array | string) =>
    client.send('POST', `/v2/${repository}/blobs/uploads/?digest=${digestOf(bytes)}`, { body: bytes });
  await pushBlob(client, 'small/app', layer);
  checkRefusal(
    t,
    await upload('small/app', bytesOf(2 * KiB, 'more')),
    /^the quota of small\/app is 10 KiB; it holds 9 KiB, and this is 2 KiB more$/,
    'a blob of one request',
  );
  const session = await openSession(client, 'small/app');
  const bytes = bytesOf(2 * KiB, 'in steps');
  checkRefusal(t, await client.send('PUT', withDigest(session, digestOf(bytes)), { body: bytes }), /holds 9 KiB/, 'and of several');
  t.equal((await client.send('GET', session)).status, 404, 'whose bytes are dropped');
  t.equal((await client.send('HEAD', `/v2/small/app/blobs/${digestOf(bytes)}`)).status, 404, 'it is not there');
  t.equal((await client.send('HEAD', `/v2/small/app/blobs/${digestOf(layer)}`)).status, 200, 'and what was there is');
  t.equal((await upload('small/app', layer)).status, 201, 'what it has takes no room');

  await pushBlob(client, 'free/source', bytesOf(2 * KiB, 'elsewhere'));
  const mount = `/v2/small/app/blobs/uploads/?mount=${digestOf(bytesOf(2 * KiB, 'elsewhere'))}&from=free/source`;
  checkRefusal(t, await client.send('POST', mount, { body: '' }), /this is 2 KiB more/, 'a mount');
  t.equal((await client.send('POST', mount.replace('small/app', 'other/app'), { body: '' })).status, 201, 'where there is room');

  await pushBlob(client, 'small/app', '{}');
  const image = imageOf([layer]);
  const put = (tag: string, body: string) => putManifest(client, 'small/app', tag, body);
  t.equal((await put('v1', image)).status, 201);
  const second = imageOf([layer], { annotations: { text: 'x'.repeat(900) } });
  checkRefusal(t, await put('v2', second), /holds 9\.\d KiB/, 'a manifest');
  t.equal((await client.send('GET', '/v2/small/app/manifests/v2')).status, 404);
  t.equal((await put('v1', image)).status, 201, 'the same again');
  t.equal((await put('other', image)).status, 201, 'and as another tag');
  await pushBlob(client, 'small/app', bytesOf(10 * KiB - 9 * KiB - 2 - image.length, 'to the brim'));
  t.equal((await put('third', image)).status, 201, 'also when it is full');
  checkRefusal(t, await client.send('POST', '/v2/small/app/blobs/uploads/', { body: '' }), /this is 1 bytes more/, 'then no upload begins');
  checkRefusal(t, await upload('small/app', layer), /this is 1 bytes more/, 'of one request neither, before its body is read');
  const chunks = await client.send('POST', '/v2/free/app/blobs/uploads/', { body: '' });
  t.equal(chunks.status, 202, 'but elsewhere');

  t.equal((await client.send('DELETE', `/v2/small/app/manifests/${digestOf(image)}`)).status, 202);
  t.equal((await client.send('DELETE', `/v2/small/app/blobs/${digestOf(layer)}`)).status, 202);
  t.equal((await put('v2', imageOf([]))).status, 201, 'deletions make room');
  await pushBlob(client, 'small/app', bytesOf(8 * KiB, 'new'));
  await pushBlob(client, 'free/app', bytesOf(200 * KiB, 'large'));
  checkRefusal(t, await upload('other/app', bytesOf(99 * KiB, 'default')), /is 100 KiB; it holds 2 KiB/, 'what is for all');
}

async function unfinished(t: Test, { client }: WireNode): Promise<void> {
  const patch = (session: string, KiBs: number) => client.send('PATCH', session, { body: bytesOf(KiBs * KiB, session) });
  const standing = async (session: string) => (await client.send('GET', session)).status;
  const [first, second] = [await openSession(client, 'small/open'), await openSession(client, 'small/open')];
  for (const session of [first, second]) t.equal((await patch(session, 4)).status, 202);
  checkRefusal(
    t,
    await patch(first, 4),
    /^the quota of small\/open is 10 KiB; it holds 0 bytes and 8 KiB of unfinished uploads, and this is 4 KiB more$/,
    'what was received counts',
  );
  t.equal(await standing(first), 404, 'an upload that is refused is over');
  t.equal((await patch(second, 4)).status, 202, 'and makes room');
  const stream = client.open('PATCH', second, { 'Transfer-Encoding': 'chunked' });
  stream.request.end(bytesOf(4 * KiB, 'of no length'));
  checkRefusal(t, await stream.answer, /8 KiB of unfinished uploads, and this is 4 KiB more$/, 'a stream when it is there');
  t.equal(await standing(second), 404);

  const full = await openSession(client, 'small/open');
  t.equal((await patch(full, 10)).status, 202, 'up to the brim');
  const post = () => client.send('POST', '/v2/small/open/blobs/uploads/', { body: '' });
  checkRefusal(t, await post(), /10 KiB of unfinished uploads, and this is 1 bytes more$/, 'then none begins');
  t.equal((await client.send('POST', '/v2/small/elsewhere/blobs/uploads/', { body: '' })).status, 202, 'but elsewhere');
  t.equal((await client.send('DELETE', full)).status, 204);
  const last = locationOf(await post());
  t.equal((await patch(last, 10)).status, 202, 'one that is cancelled makes room');
  t.equal((await client.send('PUT', withDigest(last, digestOf(bytesOf(10 * KiB, last))), { body: '' })).status, 201, 'and is finished');
}
