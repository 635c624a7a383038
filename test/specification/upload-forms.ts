// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The ways in which a blob can be pushed, each as a function that tells what was wrong on the way. */
import type { Answer, Exchange } from '../support/http-client.js';
import { digestsOf } from './content.js';
import { faultsOf, headerValues, type Expected } from './expectations.js';
import type { Place } from './place.js';

export interface BlobPush {
  readonly digest: string;
  /** What is sent. */
  readonly bytes: Buffer;
  /** The bytes do not have the digest: the push must end with 400. */
  readonly wrong?: boolean;
  /** Of one PATCH; without it, a third of the bytes. */
  readonly chunkBytes?: number;
  /** end-4c: the algorithm is told before the bytes come, by whatever opens a session. */
  readonly announced?: boolean;
}

export type UploadForm = (place: Place, push: BlobPush) => Promise<string[]>;

/** end-4b: the whole blob in one POST. */
export async function postOnly(place: Place, push: BlobPush): Promise<string[]> {
  const target = place.uploads({ digest: push.digest });
  const answer = await place.send('POST', target, { headers: octets, body: push.bytes });
  return concluded(place, push, 'POST ?digest=', answer);
}

/** end-4a and 6. The bodies of empty blobs are chunked, as Go sends a body that it did not know to be empty. */
export async function postAndPut(place: Place, push: BlobPush): Promise<string[]> {
  const session = new Session(place);
  await session.open(announcement(push));
  return session.close(push, { headers: octets, body: push.bytes, chunked: push.bytes.byteLength === 0 });
}

/** end-4a, one PATCH without a length, end-6. */
export async function stream(place: Place, push: BlobPush): Promise<string[]> {
  const session = new Session(place);
  await session.open(announcement(push));
  await session.append('PATCH of a stream', { headers: octets, body: push.bytes, chunked: true }, push.bytes.byteLength);
  return session.close(push, { headers: octets, body: '' });
}

export const chunked: UploadForm = (place, push) => inChunks(place, push, { lastInPut: false, outOfOrder: false });
export const chunkedAndPutChunk: UploadForm = (place, push) => inChunks(place, push, { lastInPut: true, outOfOrder: false });
export const outOfOrder: UploadForm = (place, push) => inChunks(place, push, { lastInPut: false, outOfOrder: true });
export const outOfOrderAndPutChunk: UploadForm = (place, push) => inChunks(place, push, { lastInPut: true, outOfOrder: true });

export function announced(form: UploadForm): UploadForm {
  return (place, push) => form(place, { ...push, announced: true });
}

/** Those that open a session, with the algorithm told. */
export const announcedForms: Readonly<Record<string, UploadForm>> = {
  'post+put with digest-algorithm': announced(postAndPut),
  'stream with digest-algorithm': announced(stream),
  'chunked with digest-algorithm': announced(chunked),
  'chunked and put chunk with digest-algorithm': announced(chunkedAndPutChunk),
};

export const everyForm: Readonly<Record<string, UploadForm>> = {
  'post+put': postAndPut,
  'post only': postOnly,
  stream,
  chunked,
  'chunked and put chunk': chunkedAndPutChunk,
  'chunked out-of-order': outOfOrder,
  'chunked out-of-order and put chunk': outOfOrderAndPutChunk,
  ...announcedForms,
};

/** end-11: `from` another repository, or from wherever the blob is. */
export async function mount(place: Place, push: BlobPush, from: string | undefined): Promise<string[]> {
  const answer = await place.send('POST', place.uploads({ mount: push.digest, ...(from === undefined ? {} : { from }) }));
  return concluded(place, push, `mount from ${from ?? 'anywhere'}`, answer);
}

/** A mount of what is not there opens a session instead, which is as good as any. */
export async function mountMissing(place: Place, push: BlobPush, from: string): Promise<string[]> {
  const session = new Session(place);
  await session.open({ mount: push.digest, from, ...announcement(push) });
  return session.close(push, { headers: octets, body: push.bytes });
}

/** end-14. */
export async function cancel(place: Place): Promise<string[]> {
  const session = new Session(place);
  await session.open();
  await session.expect('DELETE', { status: 204 });
  for (const method of ['GET', 'DELETE']) await session.expect(method, { status: 404, code: 'BLOB_UPLOAD_UNKNOWN' });
  await session.expect('PATCH', { status: 404, code: 'BLOB_UPLOAD_UNKNOWN' }, { headers: octets, body: 'late' });
  return session.faults;
}

/** One upload: follows the Location of each answer, and remembers what was wrong. */
export class Session {
  readonly faults: string[] = [];
  private readonly place: Place;
  private target = '';

  constructor(place: Place) {
    this.place = place;
  }

  async open(query: Readonly<Record<string, string>> = {}): Promise<void> {
    this.target = this.place.uploads(query);
    await this.expect('POST', { status: 202, headers: { Location: /./ } });
  }

  append(what: string, exchange: Exchange, received: number): Promise<void> {
    const headers = { Location: /./, Range: rangeHeader(received) };
    return this.expect('PATCH', { status: 202, headers }, exchange, what);
  }

  /** PUT with the digest; `exchange` may have the last bytes. */
  async close(push: BlobPush, exchange: Exchange): Promise<string[]> {
    const answer = await this.place.send('PUT', this.withDigest(push.digest), exchange);
    return [...this.faults, ...(await concluded(this.place, push, 'PUT', answer))];
  }

  /** A request to where the session is now; unless it is refused, the answer may say that it is elsewhere from now on. */
  async expect(method: string, expected: Expected, exchange: Exchange = {}, what = method): Promise<void> {
    const answer = await this.place.send(method, this.target, exchange);
    this.faults.push(...faultsOf(what, answer, expected, method));
    const [location] = headerValues(answer, 'Location');
    if (location !== undefined && answer.status < 400) this.target = this.place.resolve(location);
  }

  /** Puts the digest into the session's target, where the next requests will have it too. */
  withDigest(digest: string): string {
    const url = new URL(this.target, 'http://localhost');
    url.searchParams.set('digest', digest);
    this.target = url.pathname + url.search;
    return this.target;
  }
}

function announcement(push: BlobPush): Readonly<Record<string, string>> {
  return push.announced === true ? { 'digest-algorithm': push.digest.slice(0, push.digest.indexOf(':')) } : {};
}

const octets = { 'Content-Type': 'application/octet-stream' };

interface Order {
  readonly lastInPut: boolean;
  /** Before each chunk another one is sent, which is refused; then the session is asked where it stands. */
  readonly outOfOrder: boolean;
}

async function inChunks(place: Place, push: BlobPush, order: Order): Promise<string[]> {
  const { bytes } = push;
  const session = new Session(place);
  await session.open(announcement(push));
  const chunkBytes = Math.min(push.chunkBytes ?? Math.floor(bytes.byteLength / 3) + 1, bytes.byteLength);
  for (let start = 0; start < bytes.byteLength; start += chunkBytes) {
    if (order.outOfOrder) await misplaced(session, push, start, chunkBytes, order.lastInPut);
    const chunk = chunkAt(bytes, start, chunkBytes);
    const end = start + chunk.body.byteLength;
    if (order.lastInPut && end === bytes.byteLength) return session.close(push, chunk);
    await session.append(`PATCH ${start}-${end - 1}`, chunk, end);
  }
  return session.close(push, { headers: octets, body: '' });
}

/** The chunk after the one that is due, or the first one again. */
async function misplaced(
  session: Session,
  { bytes, digest }: BlobPush,
  due: number,
  chunkBytes: number,
  lastInPut: boolean,
): Promise<void> {
  const start = due + chunkBytes < bytes.byteLength ? due + chunkBytes : 0;
  if (start === due) return; // There is but one chunk, and it is due.
  const chunk = chunkAt(bytes, start, chunkBytes);
  const isLast = start + chunk.body.byteLength === bytes.byteLength;
  const method = lastInPut && isLast ? 'PUT' : 'PATCH';
  if (method === 'PUT') session.withDigest(digest);
  // Clients that resume (regctl) read where the session stands from the refusal itself.
  const position = { Location: /./, Range: rangeHeader(due) };
  await session.expect(method, { status: 416, headers: position }, chunk, `${method} of ${start} where ${due} is due`);
  await session.expect('GET', { status: 204, headers: position }, {}, `GET of a session at ${due}`);
}

function chunkAt(bytes: Buffer, start: number, chunkBytes: number): Exchange & { readonly body: Buffer } {
  const body = bytes.subarray(start, start + chunkBytes);
  return { headers: { ...octets, 'Content-Range': `${start}-${start + body.byteLength - 1}` }, body };
}

/** An empty session has no last byte; `0-0` is what docker's parser can take. */
function rangeHeader(received: number): string {
  return `0-${Math.max(0, received - 1)}`;
}

/** The last answer of a push: 201 with a Location that the blob can be pulled from; or 400, and nothing is there, neither by the wrong digest nor by a right one. */
async function concluded(place: Place, { digest, bytes, wrong }: BlobPush, what: string, answer: Answer): Promise<string[]> {
  if (wrong === true) {
    const refusal = faultsOf(what, answer, { status: 400, code: 'DIGEST_INVALID' });
    return [...refusal, ...(await place.absentFaults('blob', digest, ...digestsOf(bytes)))];
  }
  const faults = faultsOf(what, answer, { status: 201, headers: { Location: /./, 'Docker-Content-Digest': digest } });
  const [location] = headerValues(answer, 'Location');
  if (location === undefined) return faults;
  return [...faults, ...(await place.blobFaults('GET', place.resolve(location), digest, bytes))];
}
