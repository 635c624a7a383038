// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Pushes one blob in each of the forms that clients use, and goes on after a kill as a client would. */
import { blobKey, change, describe, present, type Drill } from './drill.js';
import type { Answer } from './http-client.js';
import { contentOf, sha256Of } from './random.js';

export interface Blob {
  readonly name: string;
  readonly size: number;
  readonly digest: string;
}

export const uploadForms = ['single POST', 'monolithic', 'chunked', 'streamed'] as const;
export type UploadForm = (typeof uploadForms)[number];

export function newBlob(name: string, size: number): Blob {
  return { name, size, digest: sha256Of(contentOf(name, size)) };
}

/** True when it was acknowledged. */
export async function uploadBlob(drill: Drill, repository: string, blob: Blob, form: UploadForm): Promise<boolean> {
  const bytes = contentOf(blob.name, blob.size);
  const changes = [{ key: blobKey(repository, blob.digest), value: present }];
  const uploads = `/v2/${repository}/blobs/uploads/`;
  if (form === 'single POST')
    return done(drill, await change(drill, changes, 201, 'POST', `${uploads}?digest=${blob.digest}`, { body: bytes }));
  const location = await openSession(drill, repository);
  if (location === undefined) return false;
  const chunks = form === 'monolithic' ? { sent: 0, wasBroken: false } : await sendChunks(drill, location, bytes, form);
  if (chunks === undefined) return false;
  const { sent, wasBroken } = chunks;
  const finish = (from: number) => change(drill, changes, 201, 'PUT', `${location}?digest=${blob.digest}`, { body: bytes.subarray(from) });
  const answer = await finish(sent);
  if (wasBroken && isStillHeld(answer)) return false;
  if (answer !== 'in doubt' || drill.random.chance(0.4)) return done(drill, answer);
  const at = await whereItStands(drill, location, sent, bytes.byteLength);
  // No session: it ended with the commit, whose answer was lost.
  if (at === undefined) return false;
  const again = await finish(at);
  return isStillHeld(again) ? false : done(drill, again);
}

/** After a kill another node takes the upload for the dead one's until its lease has ended; a client may as well begin anew. */
function isStillHeld(answer: Answer | 'in doubt'): boolean {
  return answer !== 'in doubt' && answer.status === 416;
}

/** Makes a blob of another repository readable here. False when it was not possible. */
export async function mountBlob(drill: Drill, repository: string, { digest }: Blob, from: string): Promise<boolean> {
  const target = `/v2/${repository}/blobs/uploads/?mount=${digest}&from=${from}`;
  const answer = await change(drill, [{ key: blobKey(repository, digest), value: present }], 201, 'POST', target);
  // 202 is an upload session instead, which is left to expire.
  return answer !== 'in doubt' && answer.status === 202 ? false : done(drill, answer);
}

/** A first chunk that is acknowledged, and a second one so slow that the node makes checkpoints while it arrives, until it is killed. What was acknowledged must still be there. */
export async function trickleUntilKilled(drill: Drill, repository: string, onTrickle: () => void): Promise<void> {
  const bytes = contentOf('trickle', 80_000);
  try {
    const location = await openSession(drill, repository);
    if (location === undefined) return;
    const first = await drill.node.request('PATCH', location, { body: bytes.subarray(0, 30_000), headers: { 'Content-Range': '0-29999' } });
    if (first === 'in doubt') return;
    if (first.status !== 202) drill.failures.push(`PATCH ${location}: ${describe(first)}`);
    const trickle = { body: bytes.subarray(30_000), pieceBytes: 200, pauseMs: 200 };
    const rest = await drill.node.request('PATCH', location, trickle, onTrickle);
    if (rest !== 'in doubt') drill.failures.push(`PATCH ${location}: ${rest.status} to what was not sent to its end`);
    else if ((await whereItStands(drill, location, 30_000, bytes.byteLength)) === undefined)
      drill.failures.push(`${location}: the session is gone`);
  } finally {
    onTrickle();
  }
}

async function openSession(drill: Drill, repository: string): Promise<string | undefined> {
  const answer = await drill.node.request('POST', `/v2/${repository}/blobs/uploads/`);
  if (answer === 'in doubt') return undefined;
  const { location } = answer.headers;
  if (answer.status === 202 && location !== undefined) return location;
  drill.failures.push(`POST of an upload in ${repository}: ${describe(answer)}`);
  return undefined;
}

/** How many bytes the session holds in the end, or undefined when the upload was given up. */
async function sendChunks(
  drill: Drill,
  location: string,
  bytes: Buffer,
  form: 'chunked' | 'streamed',
): Promise<{ readonly sent: number; readonly wasBroken: boolean } | undefined> {
  const chunks = form === 'streamed' ? 1 : drill.random.between(2, 6);
  // More than a byte: the Range of one is that of none.
  const chunkBytes = Math.max(1000, Math.ceil(bytes.byteLength / chunks));
  let wasBroken = false;
  for (let acknowledged = 0; ;) {
    // The last chunk goes with the PUT now and then.
    if (acknowledged >= bytes.byteLength || (acknowledged > 0 && drill.random.chance(0.1))) return { sent: acknowledged, wasBroken };
    const body = bytes.subarray(acknowledged, acknowledged + chunkBytes);
    const message =
      form === 'streamed'
        ? { body, pieceBytes: 64 * 1024 }
        : { body, headers: { 'Content-Range': `${acknowledged}-${acknowledged + body.byteLength - 1}` } };
    const answer = await drill.node.request('PATCH', location, message);
    if (answer === 'in doubt') {
      wasBroken = true;
      const at = drill.random.chance(0.3) ? undefined : await whereItStands(drill, location, acknowledged, bytes.byteLength);
      if (at === undefined) return undefined;
      drill.counts.resumed++;
      acknowledged = at;
    } else if (answer.status === 202) {
      acknowledged += body.byteLength;
      checkRange(drill, location, answer, acknowledged, acknowledged);
    } else {
      if (wasBroken && isStillHeld(answer)) return undefined;
      drill.failures.push(`PATCH ${location} at ${acknowledged}: ${describe(answer)}`);
      return undefined;
    }
  }
}

/** Asks after a kill. Bytes that were acknowledged must be there. Undefined when the session is gone, or the node again. */
async function whereItStands(drill: Drill, location: string, atLeast: number, atMost: number): Promise<number | undefined> {
  const answer = await drill.node.request('GET', location);
  if (answer === 'in doubt' || answer.status === 404) return undefined;
  return checkRange(drill, location, answer, atLeast, atMost);
}

/** `Range: 0-<last byte>`; an empty upload says `0-0`, as one with a single byte does. */
function checkRange(drill: Drill, location: string, { headers, status }: Answer, atLeast: number, atMost: number): number {
  const last = Number(/^0-(\d+)$/.exec(String(headers['range']))?.[1] ?? Number.NaN);
  const at = last === 0 ? 0 : last + 1;
  if (!(at >= atLeast && at <= atMost)) {
    drill.failures.push(`${location}: ${status} Range ${headers['range']} where ${atLeast} bytes were acknowledged and ${atMost} sent`);
  }
  return at;
}

function done(drill: Drill, answer: Answer | 'in doubt'): boolean {
  if (answer === 'in doubt') return false;
  if (answer.status !== 201) drill.failures.push(`push of a blob: ${describe(answer)}`);
  return answer.status === 201;
}
