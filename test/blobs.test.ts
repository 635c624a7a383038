// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Test } from 'tap';
import { errorCode, type Answer, type Exchange, type HttpClient } from './support/http-client.js';
import {
  bytesOf,
  dataObjects,
  digestOf,
  locationOf,
  onBothStores,
  openSession,
  pushBlob,
  until,
  withDigest,
} from './support/wire-suite.js';

type Algorithm = 'sha256' | 'sha512';

/** Each way to push a blob; resolves to the answer that ends it, and the session if there was one. */
type PushForm = (client: HttpClient, repository: string, bytes: Buffer, digest: string) => Promise<{ answer: Answer; session?: string }>;

const octets = { 'Content-Type': 'application/octet-stream' };

const pushForms: Record<string, PushForm> = {
  'POST with the blob': async (client, repository, body, digest) => ({
    answer: await client.send('POST', `/v2/${repository}/blobs/uploads/?digest=${digest}`, { headers: octets, body }),
  }),
  'POST with the blob, chunked': async (client, repository, body, digest) => ({
    answer: await client.send('POST', `/v2/${repository}/blobs/uploads/?digest=${digest}`, { body, chunked: true }),
  }),
  'POST, PUT': async (client, repository, body, digest) => {
    const session = await openSession(client, repository);
    return { session, answer: await client.send('PUT', withDigest(session, digest), { headers: octets, body }) };
  },
  'POST, PUT chunked (containerd)': async (client, repository, body, digest) => {
    const session = await openSession(client, repository);
    return { session, answer: await client.send('PUT', withDigest(session, digest), { headers: octets, body, chunked: true }) };
  },
  'POST, PATCH, PUT (podman)': async (client, repository, body, digest) => {
    const session = await openSession(client, repository);
    const patched = await client.send('PATCH', session, { headers: octets, body });
    return { session, answer: await client.send('PUT', withDigest(locationOf(patched), digest), { body: '' }) };
  },
  'POST, PATCH chunked, PUT (docker)': async (client, repository, body, digest) => {
    const session = await openSession(client, repository);
    const patched = await client.send('PATCH', session, { body, chunked: true });
    return { session, answer: await client.send('PUT', withDigest(locationOf(patched), digest), { body: '' }) };
  },
  'POST, PATCH with Content-Range, PUT': async (client, repository, body, digest) => {
    const session = await openSession(client, repository);
    const patched = await patch(client, session, body, 0);
    return { session, answer: await client.send('PUT', withDigest(locationOf(patched), digest), { body: '' }) };
  },
  'POST, three PATCHes, PUT': async (client, repository, body, digest) => {
    const session = await openSession(client, repository);
    let location = session;
    for (const [start, end] of thirds(body)) location = locationOf(await patch(client, location, body.subarray(start, end), start));
    return { session, answer: await client.send('PUT', withDigest(location, digest), { body: '' }) };
  },
  'POST, two PATCHes, PUT with the last chunk': async (client, repository, body, digest) => {
    const session = await openSession(client, repository);
    let location = session;
    const [first, second, last] = thirds(body);
    for (const [start, end] of [first, second]) location = locationOf(await patch(client, location, body.subarray(start, end), start));
    const chunk = body.subarray(...last);
    return { session, answer: await client.send('PUT', withDigest(location, digest), rangeOf(chunk, last[0])) };
  },
  'POST?digest-algorithm, PATCH, PUT': async (client, repository, body, digest) => {
    const session = await openSession(client, repository, `?digest-algorithm=${digest.slice(0, 6)}`);
    const patched = await client.send('PATCH', session, { body });
    return { session, answer: await client.send('PUT', withDigest(locationOf(patched), digest), { body: '' }) };
  },
  'POST?digest-algorithm of the other one, PATCH, PUT': async (client, repository, body, digest) => {
    const session = await openSession(client, repository, `?digest-algorithm=${digest.startsWith('sha256') ? 'sha512' : 'sha256'}`);
    const patched = await client.send('PATCH', session, { body });
    return { session, answer: await client.send('PUT', withDigest(locationOf(patched), digest), { body: '' }) };
  },
  'POST?mount of a missing blob, PUT': async (client, repository, body, digest) => {
    const opened = await client.send('POST', `/v2/${repository}/blobs/uploads/?mount=${digest}&from=nobody/there`, { body: '' });
    const session = locationOf(opened);
    return { session, answer: await client.send('PUT', withDigest(session, digest), { body }) };
  },
};

const sizes = [0, 1, 64 * 1024, 1_500_000];

onBothStores({}, async (t, node) => {
  const { client } = node;

  await t.test('every form of push, read back', async (t) => {
    // Every push is into a repository of its own, so that nothing is there before.
    await eachForm(sizes, ({ push, bytes, algorithm, seed, what }) => checkPush(t, client, `push/r${seed}`, push, bytes, algorithm, what));
  });

  await t.test('wrong digests leave nothing behind', async (t) => {
    const before = new Set((await dataObjects(node)).keys());
    await eachForm([10, 200_000], async ({ push, bytes, algorithm, seed, what }) => {
      const wrong = digestOf(`something else ${seed}`, algorithm);
      const { answer, session } = await push(client, `bad/r${seed}`, bytes, wrong);
      t.strictSame([answer.status, errorCode(answer)], [400, 'DIGEST_INVALID'], what);
      for (const digest of [wrong, digestOf(bytes, algorithm)]) {
        t.equal((await client.send('HEAD', `/v2/bad/r${seed}/blobs/${digest}`)).status, 404, `${what}: nothing to read`);
      }
      if (session === undefined) return;
      const gone = await client.send('GET', session);
      t.strictSame([gone.status, errorCode(gone)], [404, 'BLOB_UPLOAD_UNKNOWN'], `${what}: the session has ended`);
    });
    await until('the data objects are gone', async () => [...(await dataObjects(node)).keys()].every((key) => before.has(key)));
    t.pass('the data objects are gone');
  });

  await t.test('digests that are none', async (t) => {
    const uploads = '/v2/bad/digests/blobs/uploads/';
    for (const digest of [
      'sha256:abc',
      'md5:d41d8cd98f00b204e9800998ecf8427e',
      'x',
      '',
      `sha256:${'A'.repeat(64)}`,
      `blake3:${'a'.repeat(64)}`,
    ]) {
      const posted = await client.send('POST', `${uploads}?digest=${digest}`, { body: 'x' });
      t.strictSame([posted.status, errorCode(posted)], [400, 'DIGEST_INVALID'], `POST ${digest}`);
      const session = await openSession(client, 'bad/digests');
      const put = await client.send('PUT', withDigest(session, digest), { body: 'x' });
      t.strictSame([put.status, errorCode(put)], [400, 'DIGEST_INVALID'], `PUT ${digest}`);
      const got = await client.send('GET', `/v2/bad/digests/blobs/${digest}`);
      t.ok(got.status === 400 || got.status === 404, `GET ${digest}: ${got.status}`);
    }
    const session = await openSession(client, 'bad/digests');
    const put = await client.send('PUT', session, { body: 'x' });
    t.strictSame([put.status, errorCode(put)], [400, 'DIGEST_INVALID'], 'PUT without a digest');
    const asked = await client.send('POST', `${uploads}?digest-algorithm=md5`, { body: '' });
    t.strictSame([asked.status, errorCode(asked)], [400, 'DIGEST_INVALID'], 'an unknown algorithm');
  });

  await t.test('reading', (t) => reading(t, client));
  await t.test('ranges', (t) => ranges(t, client));
  await t.test('mounts', (t) => mounts(t, client));
  await t.test('deletion', (t) => deletion(t, client));
});

interface Case {
  readonly push: PushForm;
  readonly bytes: Buffer;
  readonly algorithm: Algorithm;
  readonly seed: string;
  readonly what: string;
}

/** Forms one after another, the sizes and algorithms of a form at once. */
async function eachForm(sizes: readonly number[], check: (one: Case) => Promise<void>): Promise<void> {
  let count = 0;
  for (const [form, push] of Object.entries(pushForms)) {
    const cases = sizes.flatMap((size) =>
      (['sha256', 'sha512'] as const).map((algorithm) => {
        const seed = `${sizes.length}-${count++}`;
        return { push, bytes: bytesOf(size, seed), algorithm, seed, what: `${form}, ${algorithm}, ${size} bytes` };
      }),
    );
    await Promise.all(cases.map(check));
  }
}

async function checkPush(
  t: Test,
  client: HttpClient,
  repository: string,
  push: PushForm,
  bytes: Buffer,
  algorithm: Algorithm,
  what: string,
): Promise<void> {
  const digest = digestOf(bytes, algorithm);
  const { answer, session } = await push(client, repository, bytes, digest);
  t.equal(answer.status, 201, `${what}: created ${answer.body.toString()}`);
  t.equal(answer.headers['docker-content-digest'], digest, `${what}: digest of the reply`);
  const got = await client.send('GET', locationOf(answer));
  t.equal(got.status, 200, `${what}: read back`);
  t.ok(got.body.equals(bytes), `${what}: byte for byte`);
  t.equal(got.headers['docker-content-digest'], digest, `${what}: digest of what is read`);
  const head = await client.send('HEAD', `/v2/${repository}/blobs/${digest}`);
  t.strictSame([head.status, head.headers['content-length'], head.body.length], [200, String(bytes.length), 0], `${what}: HEAD`);
  if (session !== undefined) t.equal((await client.send('GET', session)).status, 404, `${what}: the session has ended`);
}

async function reading(t: Test, client: HttpClient): Promise<void> {
  const bytes = bytesOf(5000, 'reading');
  const digest = await pushBlob(client, 'reading/one', bytes);
  const url = `/v2/reading/one/blobs/${digest}`;
  const got = await client.send('GET', url, { headers: { 'Accept-Encoding': 'zstd, gzip, deflate' } });
  t.match(
    got.headers,
    {
      'content-type': 'application/octet-stream',
      'content-length': '5000',
      'docker-content-digest': digest,
      etag: `"${digest}"`,
      'accept-ranges': 'bytes',
      'cache-control': /immutable/,
    },
    'headers of a blob',
  );
  t.notOk('content-encoding' in got.headers, 'never content-encoded');
  t.equal((await client.send('GET', url.replace('sha256:', 'sha256%3A'))).status, 200, 'an escaped colon');
  t.equal((await client.send('GET', `${url}?ns=docker.io`)).status, 200, 'ns= is ignored');

  for (const [condition, status] of [
    [`"${digest}"`, 304],
    [`W/"${digest}"`, 304],
    [`"x", "${digest}"`, 304],
    ['*', 304],
    [`"${digestOf('other')}"`, 200],
    [digest, 200],
  ] as const) {
    for (const method of ['GET', 'HEAD']) {
      const answer = await client.send(method, url, { headers: { 'If-None-Match': condition } });
      t.equal(answer.status, status, `${method} If-None-Match: ${condition}`);
      if (status === 304) t.strictSame([answer.body.length, answer.headers.etag], [0, `"${digest}"`], 'nothing but the tag');
    }
  }

  for (const path of [`/v2/reading/two/blobs/${digest}`, `/v2/reading/one/blobs/${digestOf('missing')}`, `/v2/nobody/blobs/${digest}`]) {
    const missing = await client.send('GET', path);
    t.strictSame([missing.status, errorCode(missing)], [404, 'BLOB_UNKNOWN'], path);
    const head = await client.send('HEAD', path);
    t.strictSame([head.status, head.body.length], [404, 0], `HEAD ${path}`);
    t.equal(head.headers['content-length'], String(missing.body.length), 'the length of what GET would say');
  }
}

const size = 10_000;

/** Range → the slices that come back; `whole` for a header that is to be ignored, `none` for 416. */
const rangeTable: readonly (readonly [range: string, expected: readonly (readonly [number, number])[] | 'whole' | 'none'])[] = [
  ['bytes=500-1499', [[500, 1500]]],
  ['bytes=500-', [[500, size]]],
  ['bytes=-500', [[size - 500, size]]],
  ['bytes=0-0', [[0, 1]]],
  ['bytes=0-', [[0, size]]],
  ['bytes=9999-', [[9999, size]]],
  ['bytes=5000-10000', [[5000, size]]],
  ['bytes=5000-99999999999999', [[5000, size]]],
  ['bytes=-99999', [[0, size]]],
  ['BYTES=1-2', [[1, 3]]],
  ['bytes=10000-', 'none'],
  ['bytes=10000-20000', 'none'],
  ['bytes=500-0', 'none'],
  ['bytes=-0', 'none'],
  ['bytes=20000-30000,40000-', 'none'],
  ['bytes=a-b', 'whole'],
  ['bytes=', 'whole'],
  ['bytes=-', 'whole'],
  ['bytes=1', 'whole'],
  ['items=0-5', 'whole'],
  ['bytes=0-5,x', 'whole'],
  [
    'bytes=0-9,20-29',
    [
      [0, 10],
      [20, 30],
    ],
  ],
  [
    'bytes=20-29, 0-9',
    [
      [20, 30],
      [0, 10],
    ],
  ],
  [
    'bytes=0-99,50-149,0-0',
    [
      [0, 100],
      [50, 150],
      [0, 1],
    ],
  ],
  [
    'bytes=0-9,10-19,20-29',
    [
      [0, 10],
      [10, 20],
      [20, 30],
    ],
  ],
  [
    'bytes=0-9,0-9',
    [
      [0, 10],
      [0, 10],
    ],
  ],
  [
    'bytes=-1,0-0,9990-',
    [
      [9999, size],
      [0, 1],
      [9990, size],
    ],
  ],
  [
    'bytes=0-9,20000-20009,30-39',
    [
      [0, 10],
      [30, 40],
    ],
  ],
];

async function ranges(t: Test, client: HttpClient): Promise<void> {
  const bytes = bytesOf(size, 'ranges');
  const digest = await pushBlob(client, 'ranges', bytes);
  const url = `/v2/ranges/blobs/${digest}`;
  const ask = (headers: Record<string, string>) => client.send('GET', url, { headers });

  for (const [range, expected] of rangeTable) checkRange(t, range, await ask({ Range: range }), bytes, expected);

  const many = Array.from({ length: 700 }, (_, index) => {
    const start = (index * 7919) % (size - 10);
    return [start, start + 1 + (index % 9)] as const;
  });
  const header = `bytes=${many.map(([start, end]) => `${start}-${end - 1}`).join(',')}`;
  checkRange(t, `${many.length} ranges`, await ask({ Range: header }), bytes, many);
  checkRange(t, `${many.length} ranges on the same connection`, await ask({ Range: header }), bytes, many);

  checkRange(t, 'If-Range holds', await ask({ Range: 'bytes=0-9', 'If-Range': `"${digest}"` }), bytes, [[0, 10]]);
  checkRange(t, 'If-Range of another', await ask({ Range: 'bytes=0-9', 'If-Range': `"${digestOf('x')}"` }), bytes, 'whole');
  checkRange(t, 'If-Range is weak', await ask({ Range: 'bytes=0-9', 'If-Range': `W/"${digest}"` }), bytes, 'whole');
  checkRange(t, 'If-Range is a date', await ask({ Range: 'bytes=0-9', 'If-Range': 'Sat, 01 Aug 2026 00:00:00 GMT' }), bytes, 'whole');

  const head = await client.send('HEAD', url, { headers: { Range: 'bytes=0-9' } });
  t.strictSame([head.status, head.headers['content-length']], [200, String(size)], 'a range means nothing to HEAD');

  const large = bytesOf(3_000_000, 'large ranges');
  const largeUrl = `/v2/ranges/blobs/${await pushBlob(client, 'ranges', large)}`;
  const inLarge = await client.send('GET', largeUrl, { headers: { Range: 'bytes=1000000-2999999,5-1500000' } });
  checkRange(t, 'parts larger than a buffer', inLarge, large, [
    [1_000_000, 3_000_000],
    [5, 1_500_001],
  ]);
  const resumed = await client.send('GET', largeUrl, { headers: { Range: 'bytes=1234567-' } });
  checkRange(t, 'docker resumes', resumed, large, [[1_234_567, 3_000_000]]);

  const empty = await pushBlob(client, 'ranges', '');
  const ofEmpty = await client.send('GET', `/v2/ranges/blobs/${empty}`, { headers: { Range: 'bytes=0-' } });
  t.strictSame(
    [ofEmpty.status, ofEmpty.body.length],
    [200, 0],
    'bytes=0- of an empty blob is all of it, as containerd asks for every blob',
  );
}

function checkRange(
  t: Test,
  what: string,
  answer: Answer,
  whole: Buffer,
  expected: readonly (readonly [number, number])[] | 'whole' | 'none',
): void {
  if (expected === 'none') {
    t.strictSame(
      [answer.status, answer.headers['content-range'], errorCode(answer)],
      [416, `bytes */${whole.length}`, 'RANGE_INVALID'],
      what,
    );
    return;
  }
  if (expected === 'whole') {
    t.equal(answer.status, 200, `${what}: all of it`);
    t.ok(answer.body.equals(whole), `${what}: all of it, byte for byte`);
    return;
  }
  t.equal(answer.status, 206, `${what}: status`);
  t.equal(answer.headers['content-length'], String(answer.body.length), `${what}: length`);
  const [first] = expected;
  if (expected.length === 1 && first !== undefined) {
    t.equal(answer.headers['content-range'], `bytes ${first[0]}-${first[1] - 1}/${whole.length}`, `${what}: where`);
    t.ok(answer.body.equals(whole.subarray(...first)), `${what}: bytes`);
    return;
  }
  const parts = partsOf(answer);
  t.strictSame(
    parts.map((part) => part.range),
    expected.map(([start, end]) => `bytes ${start}-${end - 1}/${whole.length}`),
    `${what}: exactly these parts, in this order`,
  );
  t.ok(
    expected.every(([start, end], index) => parts[index]?.bytes.equals(whole.subarray(start, end))),
    `${what}: bytes of each part`,
  );
}

interface Part {
  readonly range: string | undefined;
  readonly bytes: Buffer;
}

/** Reads multipart/byteranges as Go's mime/multipart does: by the boundary alone. */
function partsOf({ headers, body }: Answer): Part[] {
  const boundary = /^multipart\/byteranges; boundary=([A-Za-z0-9'()+_,./:=? -]{1,70})$/.exec(headers['content-type'] ?? '')?.[1];
  if (boundary === undefined) throw new Error(`not multipart/byteranges: ${headers['content-type']}`);
  const text = body.toString('latin1');
  const pieces = `\r\n${text}`.split(`\r\n--${boundary}`);
  if (!pieces.at(-1)?.startsWith('--')) throw new Error('the closing boundary is missing');
  return pieces.slice(1, -1).map((piece) => {
    const gap = piece.indexOf('\r\n\r\n');
    const range = /^content-range: *(.*)$/im.exec(piece.slice(0, gap))?.[1]?.trim();
    return { range, bytes: Buffer.from(piece.slice(gap + 4), 'latin1') };
  });
}

async function mounts(t: Test, client: HttpClient): Promise<void> {
  const digest = await pushBlob(client, 'mounts/source', bytesOf(3000, 'mount'));
  const missing = digestOf('not there');
  const expectMounted = async (query: string, into: string): Promise<void> => {
    const answer = await client.send('POST', `/v2/${into}/blobs/uploads/?${query}`, { body: '' });
    t.equal(answer.status, 201, `${query}: mounted`);
    t.equal(locationOf(answer), `/v2/${into}/blobs/${digest}`, `${query}: Location`);
    t.equal((await client.send('GET', locationOf(answer))).status, 200, `${query}: can be read`);
  };
  await expectMounted(`mount=${encodeURIComponent(digest)}&from=${encodeURIComponent('mounts/source')}`, 'mounts/a');
  await expectMounted(`mount=${digest}&from=mounts/source`, 'mounts/b');
  await expectMounted(`from=mounts/source&mount=${digest}&origin=registry.example`, 'mounts/c');
  await expectMounted(`mount=${digest}`, 'mounts/d');
  await expectMounted(`mount=${digest}&from=mounts/a`, 'mounts/e');
  await expectMounted(`mount=${digest}&from=mounts/source`, 'mounts/source');

  for (const query of [
    `mount=${missing}&from=mounts/source`,
    `mount=${missing}`,
    `mount=${digest}&from=mounts/nobody`,
    `mount=${digest}&from=Not%20A%20Name`,
  ]) {
    const answer = await client.send('POST', `/v2/mounts/none/blobs/uploads/?${query}`, { body: '' });
    t.equal(answer.status, 202, `${query}: an upload instead`);
    t.equal((await client.send('GET', locationOf(answer))).status, 204, `${query}: which is open`);
    t.equal((await client.send('DELETE', locationOf(answer))).status, 204, `${query}: and can be cancelled, as podman does`);
  }
  t.equal((await client.send('GET', `/v2/mounts/none/blobs/${digest}`)).status, 404, 'nothing was mounted by a failed mount');
}

async function deletion(t: Test, client: HttpClient): Promise<void> {
  const bytes = bytesOf(70_000, 'deletion');
  const digest = await pushBlob(client, 'deletion/a', bytes);
  await client.send('POST', `/v2/deletion/b/blobs/uploads/?mount=${digest}&from=deletion/a`, { body: '' });
  const url = `/v2/deletion/a/blobs/${digest}`;
  for (let round = 0; round < 5; round++) {
    t.equal((await client.send('DELETE', url)).status, 202, 'deleted');
    t.equal((await client.send('HEAD', url)).status, 404, 'gone at once');
    const again = await client.send('DELETE', url);
    t.strictSame([again.status, errorCode(again)], [404, 'BLOB_UNKNOWN'], 'only once');
    t.equal((await client.send('GET', `/v2/deletion/b/blobs/${digest}`)).body.length, bytes.length, 'another repository has it still');
    await pushBlob(client, 'deletion/a', bytes);
    t.ok((await client.send('GET', url)).body.equals(bytes), 'pushed again');
  }
}

function thirds(bytes: Buffer): readonly [[number, number], [number, number], [number, number]] {
  const [one, two] = [Math.floor(bytes.length / 3), Math.floor((bytes.length * 2) / 3)];
  return [
    [0, one],
    [one, two],
    [two, bytes.length],
  ];
}

/** A Content-Range cannot say that there is nothing. */
function rangeOf(body: Buffer, start: number): Exchange {
  const headers = body.length === 0 ? octets : { ...octets, 'Content-Range': `${start}-${start + body.length - 1}` };
  return { headers, body };
}

function patch(client: HttpClient, location: string, chunk: Buffer, start: number): Promise<Answer> {
  return client.send('PATCH', location, rangeOf(chunk, start));
}
