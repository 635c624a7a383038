// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Blobs of one digest algorithm: every way in, the way out in ranges, and out for good. */
import { randomBytes } from 'node:crypto';
import type { Test } from 'tap';
import { digestOf } from '../support/wire-suite.js';
import { digestsOf, type Algorithm } from './content.js';
import { Steps } from './expectations.js';
import type { Place } from './place.js';
import * as forms from './upload-forms.js';

/** Of a chunk, in the uploads of several. */
const chunkBytes = 1024;
const severalChunks = 3 * chunkBytes - 5;

export async function checkBlobs(t: Test, algorithm: Algorithm, place: Place, other: Place): Promise<void> {
  const steps = new Steps(t, `${algorithm} blobs`);
  const newBlob = (size: number) => blobOf(randomBytes(size), algorithm);
  await steps.check('get-missing', () => place.absentFaults('blob', newBlob(512).digest));
  for (const [name, size, form] of waysIn) {
    const push = newBlob(size);
    await steps.check(`${name}/push`, () => form(place, { ...push, chunkBytes }));
    await checkThere(steps, name, place, push);
    await checkDeletion(steps, name, place, push.digest);
  }
  await checkMounts(steps, place, other, () => newBlob(512));
  await steps.check('post cancel', () => forms.cancel(place));
  await checkRanges(steps, place, newBlob(2048));
  for (const [name, bytes] of Object.entries({ empty: Buffer.alloc(0), emptyJSON: Buffer.from('{}') })) {
    const push = blobOf(bytes, algorithm);
    for (const [formName, form] of Object.entries(forms.everyForm)) {
      await steps.check(`${name}/${formName}`, () => form(place, push));
      await checkThere(steps, `${name}/${formName}`, place, push);
      await checkDeletion(steps, `${name}/${formName}`, place, push.digest);
    }
  }
  for (const [formName, form] of Object.entries(forms.everyForm)) {
    const { digest, bytes } = newBlob(severalChunks);
    const push = { digest, bytes: Buffer.concat([bytes, Buffer.from('more')]), wrong: true };
    await steps.check(`bad digest ${formName}`, () => form(place, push));
  }
  await checkRefusals(steps, algorithm, place);
}

const waysIn: readonly (readonly [name: string, size: number, form: forms.UploadForm])[] = [
  ['post only', 512, forms.postOnly],
  ['post+put', 512, forms.postAndPut],
  ['chunked single', 512, forms.chunked],
  ['stream', 512, forms.stream],
  ['chunked multi', severalChunks, forms.chunked],
  ['chunked multi and put chunk', severalChunks, forms.chunkedAndPutChunk],
  ['chunked out-of-order', severalChunks, forms.outOfOrder],
  ['chunked out-of-order and put chunk', severalChunks, forms.outOfOrderAndPutChunk],
  ...Object.entries(forms.announcedForms).map(([name, form]) => [name, severalChunks, form] as const),
  // Larger than what stays in memory until the end, so that a sha512 that nobody announced is found by reading back.
  ['stream of 200 KB', 200_000, forms.stream],
  ['stream of 200 KB with digest-algorithm', 200_000, forms.announced(forms.stream)],
  ['post+put of 200 KB', 200_000, forms.postAndPut],
  ['post+put of 200 KB with digest-algorithm', 200_000, forms.announced(forms.postAndPut)],
];

interface Blob {
  readonly digest: string;
  readonly bytes: Buffer;
}

function blobOf(bytes: Buffer, algorithm: Algorithm): Blob {
  return { bytes, digest: digestOf(bytes, algorithm) };
}

async function checkThere(steps: Steps, name: string, place: Place, { digest, bytes }: Blob): Promise<void> {
  await steps.check(`${name}/blob-head`, () => place.blobFaults('HEAD', place.blob(digest), digest, bytes));
  await steps.check(`${name}/blob-get`, () => place.blobFaults('GET', place.blob(digest), digest, bytes));
}

/** What is deleted is gone at once. */
async function checkDeletion(steps: Steps, name: string, place: Place, digest: string): Promise<void> {
  await steps.check(`${name}/blob-delete`, () => place.faults('DELETE', place.blob(digest), { status: 202 }));
  await steps.check(`${name}/blob-delete, then head`, () => place.faults('HEAD', place.blob(digest), { status: 404 }));
}

async function checkMounts(steps: Steps, place: Place, other: Place, newBlob: () => Blob): Promise<void> {
  for (const [name, from] of Object.entries({ mount: other.repository, 'mount anonymous': undefined })) {
    const push = newBlob();
    await steps.check(`${name}/push to the source`, () => forms.postAndPut(other, push));
    await steps.check(`${name}/blob-mount`, () => forms.mount(place, push, from));
    await checkThere(steps, name, place, push);
    await checkDeletion(steps, name, place, push.digest);
    await steps.check(`${name}/the source keeps it`, () => other.blobFaults('GET', other.blob(push.digest), push.digest, push.bytes));
    await checkDeletion(steps, `${name}/source`, other, push.digest);
  }
  for (const [name, announced] of Object.entries({ 'mount missing': false, 'mount missing with digest-algorithm': true })) {
    const push = newBlob();
    await steps.check(`${name}/push instead`, () => forms.mountMissing(place, { ...push, announced }, other.repository));
    await checkThere(steps, name, place, push);
    await checkDeletion(steps, name, place, push.digest);
  }
}

async function checkRanges(steps: Steps, place: Place, push: Blob): Promise<void> {
  const { bytes, digest } = push;
  await steps.check('range requests/push', () => forms.postAndPut(place, push));
  const satisfiable: readonly (readonly [string, number, number])[] = [
    ['500-1499', 500, 1499],
    ['500-', 500, 2047],
    ['-500', 1548, 2047],
    ['2000-5000', 2000, 2047],
    ['0-', 0, 2047],
  ];
  for (const [range, first, last] of satisfiable) {
    const headers = {
      'Content-Length': String(last - first + 1),
      'Content-Range': `bytes ${first}-${last}/2048`,
      'Accept-Ranges': 'bytes',
    };
    const expected = { status: 206, headers, body: bytes.subarray(first, last + 1) };
    await steps.check(`range ${range}`, () => place.faults('GET', place.blob(digest), expected, { headers: { Range: `bytes=${range}` } }));
  }
  for (const range of ['500-0', '5000-10000']) {
    const expected = { status: 416, headers: { 'Content-Range': 'bytes */2048' } };
    await steps.check(`range ${range}`, () => place.faults('GET', place.blob(digest), expected, { headers: { Range: `bytes=${range}` } }));
  }
  await checkDeletion(steps, 'range requests', place, digest);
}

async function checkRefusals(steps: Steps, algorithm: Algorithm, place: Place): Promise<void> {
  const digestInvalid = { status: 400, code: 'DIGEST_INVALID' };
  for (const digest of ['', `${algorithm}:bad`, `${algorithm}:${'A'.repeat(algorithm === 'sha256' ? 64 : 128)}`, `md5:${'0'.repeat(32)}`]) {
    await steps.check(`post only with the digest ${JSON.stringify(digest)}`, () =>
      place.faults('POST', place.uploads({ digest }), digestInvalid, { body: 'bytes' }),
    );
    await steps.check(`put with the digest ${JSON.stringify(digest)}`, async () => {
      const session = new forms.Session(place);
      await session.open();
      session.withDigest(digest);
      await session.expect('PUT', digestInvalid, { body: 'bytes' });
      return session.faults;
    });
  }
  await steps.check('nothing of it was stored', () => place.absentFaults('blob', ...digestsOf(Buffer.from('bytes'))));
  await steps.check('put without a digest', async () => {
    const session = new forms.Session(place);
    await session.open();
    await session.expect('PUT', digestInvalid, { body: '' });
    return session.faults;
  });
  const unknown = place.uploads() + '01234567-89ab-cdef-0123-456789abcdef';
  for (const method of ['GET', 'PATCH', 'DELETE']) {
    await steps.check(`${method} of an unknown session`, () => place.faults(method, unknown, { status: 404, code: 'BLOB_UPLOAD_UNKNOWN' }));
  }
}
