// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What the clients do: each pushes images to a repository of its own, moves and deletes its tags, and pulls whatever anybody was told is there. */
import { setTimeout as sleep } from 'node:timers/promises';
import { contentOf, sha256Of, type Random } from '../drills/random.js';
import { ChaosClient, describe, type Answer, type Broken, type Message } from './client.js';

export interface Image {
  readonly repository: string;
  readonly tag: string;
  readonly digest: string;
  readonly bytes: Buffer;
  readonly blobs: readonly Blob[];
  /** `gone`: its tag was deleted and that was acknowledged; `in doubt`: the answer to the deletion was lost. */
  tagState: 'there' | 'gone' | 'in doubt';
  /** An attempt to push it was given up, and may still be carried out. */
  readonly mayComeLate: boolean;
}

interface Blob {
  readonly digest: string;
  readonly size: number;
  readonly name: string;
}

/** What a repository's moving tag may point at: the last acknowledged digest, or one whose push was not answered since. */
export interface Moving {
  possible: Set<string>;
  /** Of pushes of which an attempt was given up: a node that was frozen may carry it out at any later time. */
  readonly late: Set<string>;
}

export interface Load {
  readonly images: Image[];
  readonly moving: Map<string, Moving>;
  readonly failures: string[];
  readonly counts: { pushes: number; pulls: number; pullRetries: number; pushRetries: number; mostPushRetries: number; resumed: number };
  /** While true, a push may be repeated once and no more. */
  strict: boolean;
  over: boolean;
}

const manifestType = 'application/vnd.oci.image.manifest.v1+json';
const movingTag = 'latest';
/** A fault lasts some seconds, and the lease of a dead writer half a minute. */
const mostAttempts = 100;
const betweenAttemptsMs = 500;

export async function runClient(load: Load, number: number, port: number, random: Random): Promise<void> {
  const client = new ChaosClient(port);
  const repository = `chaos/client-${number}`;
  load.moving.set(repository, { possible: new Set(['absent']), late: new Set() });
  let counter = 0;
  while (!load.over) {
    const share = random.next();
    if (share < 0.3 || load.images.length === 0) await pushImage(load, client, random, repository, `${number}-${counter++}`);
    else if (share < 0.34) await deleteTag(load, client, random, repository);
    else if (share < 0.44) await pullMoving(load, client, random);
    else await pullImage(load, client, random.pick(load.images));
    await sleep(random.between(0, 20));
  }
  load.counts.pullRetries += client.retries;
  client.close();
}

/** By tag, by digest, and every blob: all of it must be there, with its bytes. */
export async function pullImage(load: Load, client: ChaosClient, { repository, tag, digest, blobs, tagState }: Image): Promise<void> {
  load.counts.pulls++;
  const byTag = await client.read('GET', `/v2/${repository}/manifests/${tag}`, { headers: { Accept: manifestType } });
  if (tagState === 'there') expect(load, `GET ${repository}:${tag}`, byTag, digest);
  if (tagState === 'gone' && !('status' in byTag && byTag.status === 404))
    fail(load, `GET ${repository}:${tag}, which was deleted: ${describe(byTag)}`);
  expect(load, `GET ${repository}@${digest}`, await client.read('GET', `/v2/${repository}/manifests/${digest}`), digest);
  for (const blob of blobs)
    expect(load, `GET blob of ${repository}:${tag}`, await client.read('GET', `/v2/${repository}/blobs/${blob.digest}`), blob.digest);
}

async function pullMoving(load: Load, client: ChaosClient, random: Random): Promise<void> {
  const [repository, moving] = random.pick([...load.moving]);
  const before = new Set(moving.possible);
  const answer = await client.read('GET', `/v2/${repository}/manifests/${movingTag}`);
  const found =
    'status' in answer ? (answer.status === 404 ? 'absent' : answer.status === 200 ? sha256Of(answer.body) : undefined) : undefined;
  if (found === undefined || !(before.has(found) || moving.possible.has(found) || moving.late.has(found)))
    fail(load, `GET ${repository}:${movingTag}: ${found ?? describe(answer)}, possible: ${[...before, ...moving.possible].join(' ')}`);
}

async function pushImage(load: Load, client: ChaosClient, random: Random, repository: string, name: string): Promise<void> {
  const blobs = [
    { name: `config ${name}`, size: random.between(500, 4_000) },
    ...Array.from({ length: random.between(1, 3) }, (_, index) => ({ name: `layer ${name} ${index}`, size: layerSize(random) })),
  ].map((blob) => ({ ...blob, digest: sha256Of(contentOf(blob.name, blob.size)) }));
  const foreign = load.images.length > 0 && random.chance(0.3) ? random.pick(load.images) : undefined;
  const mounted = foreign?.blobs.at(-1);
  for (const blob of blobs) await pushBlob(load, client, random, repository, blob);
  if (foreign !== undefined && mounted !== undefined) {
    await mountBlob(load, client, repository, mounted, foreign.repository);
    blobs.push(mounted);
  }
  const [config, ...layers] = blobs.map(({ digest, size }) => ({ mediaType: 'application/octet-stream', digest, size }));
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: manifestType, config, layers, annotations: { name } }));
  const digest = sha256Of(bytes);
  const tag = `v${name}`;
  const moving = load.moving.get(repository);
  moving?.possible.add(digest);
  const path = `/v2/${repository}/manifests/${digest}?tag=${tag}&tag=${movingTag}`;
  const message = { body: bytes, headers: { 'Content-Type': manifestType } };
  let broken = false;
  const put = async (): Promise<Answer | Broken> => {
    const answer = await client.send('PUT', path, message);
    broken ||= !('status' in answer);
    return answer;
  };
  if ((await insist(load, `PUT ${repository}:${tag}`, put, [201])) === undefined) return;
  if (broken) moving?.late.add(digest);
  if (moving !== undefined) moving.possible = new Set([digest]);
  load.images.push({ repository, tag, digest, bytes, blobs, tagState: 'there', mayComeLate: broken });
  load.counts.pushes++;
}

async function deleteTag(load: Load, client: ChaosClient, random: Random, repository: string): Promise<void> {
  const own = load.images.filter((image) => image.repository === repository && image.tagState === 'there');
  if (own.length < 3) return;
  const image = random.pick(own);
  image.tagState = 'in doubt';
  const path = `/v2/${repository}/manifests/${image.tag}`;
  // 404 where the answer to the first attempt was lost.
  const deleted = await insist(load, `DELETE ${repository}:${image.tag}`, () => client.send('DELETE', path), [202, 404]);
  if (deleted !== undefined && !image.mayComeLate) image.tagState = 'gone';
}

async function mountBlob(load: Load, client: ChaosClient, repository: string, { digest }: Blob, from: string): Promise<void> {
  const path = `/v2/${repository}/blobs/uploads/?mount=${digest}&from=${from}`;
  await insist(load, `mount from ${from}`, () => client.send('POST', path), [201]);
}

async function pushBlob(load: Load, client: ChaosClient, random: Random, repository: string, blob: Blob): Promise<void> {
  const bytes = contentOf(blob.name, blob.size);
  const chunked = random.chance(0.4);
  const once = (): Promise<Answer | Broken> =>
    chunked ? pushChunks(load, client, random, repository, blob, bytes) : pushWhole(client, random, repository, blob, bytes);
  await insist(load, `push of a blob to ${repository}`, once, [201]);
}

async function pushWhole(
  client: ChaosClient,
  random: Random,
  repository: string,
  { digest }: Blob,
  bytes: Buffer,
): Promise<Answer | Broken> {
  const uploads = `/v2/${repository}/blobs/uploads/`;
  if (random.chance(0.5)) return client.send('POST', `${uploads}?digest=${digest}`, { body: bytes });
  const opened = await client.send('POST', uploads);
  if (!('status' in opened) || opened.status !== 202) return opened;
  return client.send('PUT', `${opened.headers.location}?digest=${digest}`, { body: bytes }, random.chance(0.5));
}

/** Chunk after chunk, each to whichever node; after a break it asks where the upload stands, and goes on there. */
async function pushChunks(
  load: Load,
  client: ChaosClient,
  random: Random,
  repository: string,
  { digest }: Blob,
  bytes: Buffer,
): Promise<Answer | Broken> {
  const opened = await client.send('POST', `/v2/${repository}/blobs/uploads/`, {}, true);
  if (!('status' in opened) || opened.status !== 202) return opened;
  const location = String(opened.headers.location);
  const chunkBytes = Math.max(1_000, Math.ceil(bytes.byteLength / random.between(2, 6)));
  let at = 0;
  while (at < bytes.byteLength) {
    const body = bytes.subarray(at, at + chunkBytes);
    const message: Message = { body, headers: { 'Content-Range': `${at}-${at + body.byteLength - 1}` } };
    const answer = await client.send('PATCH', location, message, true);
    if ('status' in answer && answer.status === 202) {
      at += body.byteLength;
      continue;
    }
    if ('status' in answer && answer.status !== 503 && answer.status !== 416) return answer;
    if (load.strict) load.counts.pushRetries++;
    const stands = await whereItStands(client, location);
    if (typeof stands !== 'number') return stands;
    if (stands < at) fail(load, `${location} stands at ${stands}, though ${at} was acknowledged`);
    load.counts.resumed++;
    at = stands;
  }
  return client.send('PUT', `${location}?digest=${digest}`, {}, true);
}

async function whereItStands(client: ChaosClient, location: string): Promise<number | Answer | Broken> {
  for (let attempt = 1; ; attempt++) {
    await sleep(betweenAttemptsMs);
    const answer = await client.read('GET', location);
    const range = 'status' in answer && answer.status === 204 ? /^0-(\d+)$/.exec(String(answer.headers.range)) : undefined;
    if (range?.[1] !== undefined) return range[1] === '0' ? 0 : Number(range[1]) + 1;
    if (('status' in answer && answer.status === 404) || attempt >= mostAttempts) return answer;
  }
}

/** Repeats what may be repeated: when the connection broke, and on 503. Undefined when the time is over. */
async function insist(
  load: Load,
  what: string,
  once: () => Promise<Answer | Broken>,
  success: readonly number[],
): Promise<Answer | undefined> {
  let wasStrict = load.strict;
  const reasons: string[] = [];
  for (let attempt = 1; attempt <= mostAttempts; attempt++) {
    const answer = await once();
    if ('status' in answer && success.includes(answer.status)) {
      load.counts.mostPushRetries = Math.max(load.counts.mostPushRetries, wasStrict && load.strict ? attempt - 1 : 0);
      if (wasStrict && load.strict && attempt > 2) fail(load, `${what}: only the ${attempt}th attempt succeeded: ${reasons.join('; ')}`);
      return answer;
    }
    reasons.push(describe(answer));
    // 404: the session of an upload whose last answer was lost. 416: another request, which died, still holds it.
    if ('status' in answer && ![503, 404, 416].includes(answer.status)) {
      fail(load, `${what}: ${describe(answer)}`);
      return undefined;
    }
    load.counts.pushRetries++;
    wasStrict &&= load.strict;
    await sleep(betweenAttemptsMs);
  }
  fail(load, `${what}: ${mostAttempts} attempts, last: ${reasons.at(-1)}`);
  return undefined;
}

function expect(load: Load, what: string, answer: Answer | Broken, digest: string): void {
  if (!('status' in answer) || answer.status !== 200) fail(load, `${what}: ${describe(answer)}`);
  else if (sha256Of(answer.body) !== digest) fail(load, `${what}: other bytes (${answer.body.byteLength})`);
}

function fail(load: Load, what: string): void {
  load.failures.push(`${new Date().toISOString().slice(11, 23)} ${what}`);
}

function layerSize(random: Random): number {
  const share = random.next();
  return share < 0.7
    ? random.between(5_000, 200_000)
    : share < 0.95
      ? random.between(200_000, 4_000_000)
      : random.between(4_000_000, 12_000_000);
}
