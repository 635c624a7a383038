// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * Collection every second, with delays of seconds, under clients that push and pull without a pause: none of them may see an error, all that is referenced stays, and
 * what is dead goes.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { blobKey, change, describe, tagKey, type Drill } from '../drills/drill.js';
import { absent, History } from '../drills/history.js';
import { imageOf, indexOf, mediaTypes, type PushedManifest } from '../drills/push-manifests.js';
import { Random, sha256Of } from '../drills/random.js';
import { readStore } from '../drills/read-store.js';
import { mountBlob, newBlob, uploadBlob, uploadForms, type Blob } from '../drills/upload-blob.js';
import { rowsOf } from '../support/database-state.js';
import { freshDatabase } from '../support/postgres.js';
import { table } from '../support/table.js';
import type { Verdicts } from '../support/verdicts.js';
import { unknownData } from './invariants.js';
import { deadOf, takeSnapshot, type Lifetimes } from './liveness.js';
import type { PlaceOptions } from './place.js';
import { TwoNodes } from './two-nodes.js';

export interface StressOptions extends PlaceOptions {
  readonly seed: number;
  readonly seconds: number;
}

const delayMs = 6_000;
/** What a client is told is there stays at least so long, with a delay as short as this one; see promised-read.ts. */
const promisedMs = delayMs * 0.75;
const lifetimes: Lifetimes = { untaggedAfterMs: 2_000, undoWindowMs: delayMs, keepPulledMs: 1_000 };
const gc = {
  unsafe_short_delays: true,
  delay: `${delayMs}ms`,
  interval: '1s',
  untagged_after: `${lifetimes.untaggedAfterMs}ms`,
  undo_window: '2s',
  keep_pulled: `${lifetimes.keepPulledMs}ms`,
};
const clients = 6;
const tagsOfEach = 4;
const baseLayers = Array.from({ length: 12 }, (_, index) => newBlob(`base ${index}`, 20_000 + index * 40_000));
const yearMs = 365 * 86_400_000;
const goneWithinMs = 120_000;

interface Stress {
  readonly drill: Drill;
  /** By repository and digest. */
  readonly pushed: Map<string, PushedManifest>;
  readonly counts: { images: number; pulls: number; told: number; late: number };
  over: boolean;
}

export async function runStress({ seed, seconds, engine, storage, objects, root }: StressOptions, verdicts: Verdicts): Promise<void> {
  const { url } = await freshDatabase();
  const failures: string[] = [];
  const settings = { database: { url }, server: { engine }, storage, workers: { threads: 1 }, log: { level: 'warn' }, gc };
  const nodes = await TwoNodes.prepare(settings, failures, root);
  for (const node of nodes.nodes) await node.start();
  const drill: Drill = {
    node: nodes,
    history: new History(),
    random: new Random(seed),
    failures,
    counts: { acknowledged: 0, inDoubt: 0, refused: 0, reads: 0, resumed: 0 },
    refused: new Set(),
    largestBlob: 500_000,
    deletesLayers: false,
  };
  const stress: Stress = { drill, pushed: new Map(), counts: { images: 0, pulls: 0, told: 0, late: 0 }, over: false };
  const working = Promise.all(Array.from({ length: clients }, (_, number) => runClient(stress, number, new Random(seed + number + 1))));
  await Promise.race([working, sleep(seconds * 1000)]);
  stress.over = true;
  await working;
  verdicts.give(`no client saw an error in ${seconds} s`, failures);

  const meanwhile = stress.pushed.size - (await takeSnapshot(url)).manifests.length;
  if (meanwhile <= 0) failures.push('nothing was collected meanwhile');
  await untilOnlyTagsKeep(url, failures);
  verdicts.give('all that is dead is gone: nothing is there that no tag leads to', failures);

  for (let client = 0; client < clients; client++) for (const tag of tagsOf(client)) await pullImage(stress, repositoryOf(client), tag);
  const { problems, missing, data } = await readStore(objects);
  const links = await rowsOf<{ uuid: string }>(url, 'SELECT uuid FROM blobs');
  for (const { uuid } of links) if (!data.has(uuid)) failures.push(`data object ${uuid} is gone`);
  failures.push(...problems, ...missing, ...(await unknownData(url, objects)).map((uuid) => `data object ${uuid}: nothing names it`));
  if (data.size !== links.length) failures.push(`${data.size} data objects for ${links.length} blobs`);
  verdicts.give(`all that is referenced is there, byte for byte: ${links.length} blobs`, failures);

  for (const node of nodes.nodes) {
    await node.stop();
    failures.push(
      ...node
        .log()
        .split('\n')
        .filter((line) => /"level":(50|60)/.test(line)),
    );
  }
  verdicts.give('no error in the logs', failures);
  const { images, pulls, told, late } = stress.counts;
  console.log(
    table([
      ['images and indexes pushed', String(images)],
      ['images pulled', String(pulls)],
      ['blobs that HEAD told of', String(told)],
      ['manifests of them', String(stress.pushed.size)],
      ['collected while they were pushed', String(meanwhile)],
      ['pushes and pulls that took longer than a promise holds', String(late)],
    ]),
  );
}

const repositoryOf = (client: number): string => `stress/client-${client}`;
const tagsOf = (client: number): string[] => Array.from({ length: tagsOfEach }, (_, index) => `tag-${client}-${index}`);

async function runClient(stress: Stress, number: number, random: Random): Promise<void> {
  const drill = { ...stress.drill, random };
  const own = { ...stress, drill };
  const repository = repositoryOf(number);
  for (let counter = 0; !stress.over; counter++) {
    const name = `${number}-${counter}`;
    const tag = random.pick(tagsOf(number));
    const share = random.next();
    if (share < 0.35) await pushImage(own, repository, name, [tag]);
    else if (share < 0.45) await pushIndex(own, repository, name, tag);
    else if (share < 0.5) await pushReferrer(own, repository, name, tag);
    else if (share < 0.58) await deleteTag(drill, repository, tag);
    else {
      const other = random.between(0, clients);
      await pullImage(own, repositoryOf(other), random.pick(tagsOf(other)));
    }
  }
}

/** As a client does that asks before it sends. Undefined when it was given up. */
async function pushImage(
  stress: Stress,
  repository: string,
  name: string,
  under: readonly string[],
  subject?: PushedManifest,
): Promise<PushedManifest | undefined> {
  const { random } = stress.drill;
  const config = newBlob(`config ${name}`, random.between(200, 4_000));
  const layers = [newBlob(`layer ${name}`, random.between(2_000, 400_000)), random.pick(baseLayers)];
  const image = imageOf(repository, config, layers, { name, ...(subject === undefined ? {} : { subject }) });
  const since = performance.now();
  for (const blob of image.blobs) if (!(await bring(stress, repository, blob))) return undefined;
  return (await putManifest(stress, image, under, since)) ? image : undefined;
}

async function pushIndex(stress: Stress, repository: string, name: string, tag: string): Promise<void> {
  const since = performance.now();
  const children = [await pushImage(stress, repository, `${name}-a`, []), await pushImage(stress, repository, `${name}-b`, [])];
  const there = children.filter((child) => child !== undefined);
  if (there.length === children.length) await putManifest(stress, indexOf(repository, there, name), [tag], since);
}

/** Of whatever the tag points at: it lives as long as that. */
async function pushReferrer(stress: Stress, repository: string, name: string, tag: string): Promise<void> {
  const answer = await stress.drill.node.request('HEAD', `/v2/${repository}/manifests/${tag}`);
  if (answer === 'in doubt' || answer.status !== 200) return;
  const subject = stress.pushed.get(`${repository}@${String(answer.headers['docker-content-digest'])}`);
  if (subject !== undefined) await pushImage(stress, repository, name, [], subject);
}

async function bring(stress: Stress, repository: string, blob: Blob): Promise<boolean> {
  const { drill, counts } = stress;
  const answer = await drill.node.request('HEAD', `/v2/${repository}/blobs/${blob.digest}`);
  if (answer === 'in doubt') return false;
  if (answer.status === 200) {
    counts.told++;
    return true;
  }
  if (answer.status !== 404) drill.failures.push(`HEAD of ${blobKey(repository, blob.digest)}: ${describe(answer)}`);
  const from = repositoryOf(drill.random.between(0, clients));
  if (drill.random.chance(0.5) && (await mountBlob(drill, repository, blob, from))) return true;
  return uploadBlob(drill, repository, blob, drill.random.pick(uploadForms));
}

async function putManifest(stress: Stress, pushed: PushedManifest, under: readonly string[], since: number): Promise<boolean> {
  const { drill, counts } = stress;
  const { repository, digest, bytes, kind } = pushed;
  const query = under.length === 0 ? '' : `?${under.map((tag) => `tag=${tag}`).join('&')}`;
  const changes = under.map((tag) => ({ key: tagKey(repository, tag), value: digest }));
  stress.pushed.set(`${repository}@${digest}`, pushed);
  const message = { body: bytes, headers: { 'Content-Type': mediaTypes[kind] } };
  const answer = await change(drill, changes, 201, 'PUT', `/v2/${repository}/manifests/${digest}${query}`, message);
  if (answer === 'in doubt') return false;
  if (answer.status === 201) {
    counts.images++;
    return true;
  }
  if (answer.status !== 404 || isKept(stress, since)) drill.failures.push(`PUT ${repository}@${digest}: ${describe(answer)}`);
  return false;
}

async function deleteTag(drill: Drill, repository: string, tag: string): Promise<void> {
  const from = drill.history.now();
  const changes = [{ key: tagKey(repository, tag), value: absent }];
  const answer = await change(drill, changes, 202, 'DELETE', `/v2/${repository}/manifests/${tag}`);
  if (answer === 'in doubt' || answer.status === 202) return;
  if (answer.status !== 404 || !drill.history.possible(tagKey(repository, tag), from).has(absent))
    drill.failures.push(`DELETE ${repository}:${tag}: ${describe(answer)}`);
}

/** The tag must lead to what it was last pushed as, and then to all of its bytes. */
async function pullImage(stress: Stress, repository: string, tag: string): Promise<void> {
  const { node, history, failures } = stress.drill;
  const key = tagKey(repository, tag);
  const [from, since] = [history.now(), performance.now()];
  const answer = await node.request('GET', `/v2/${repository}/manifests/${tag}`);
  if (answer === 'in doubt') return;
  const found = answer.status === 200 ? sha256Of(answer.body) : answer.status === 404 ? absent : describe(answer);
  const possible = history.possible(key, from);
  if (!possible.has(found)) failures.push(`GET ${repository}:${tag}: ${found}, possible: ${[...possible].join(' or ')}`);
  if (answer.status !== 200) return;
  const pulled = stress.pushed.get(`${repository}@${found}`);
  stress.counts.pulls++;
  for (const [path, digest] of [
    ...(pulled?.blobs ?? []).map((blob) => [`blobs/${blob.digest}`, blob.digest] as const),
    ...(pulled?.children ?? []).map((child) => [`manifests/${child.digest}`, child.digest] as const),
  ]) {
    const part = await node.request('GET', `/v2/${repository}/${path}`);
    if (part === 'in doubt' || (part.status === 200 && sha256Of(part.body) === digest)) continue;
    if (part.status !== 404 || isKept(stress, since)) failures.push(`GET ${repository}/${path} of :${tag}: ${describe(part)}`);
    return;
  }
}

/** What was told or pushed since then must still be there; later, nobody has promised it. */
function isKept({ counts }: Stress, since: number): boolean {
  const kept = performance.now() - since < promisedMs;
  if (!kept) counts.late++;
  return kept;
}

/** Once all times have passed, only tags keep what there is, and the store has nothing else. */
async function untilOnlyTagsKeep(url: string, failures: string[]): Promise<void> {
  for (const deadline = Date.now() + goneWithinMs; ; await sleep(500)) {
    const dead = deadOf(await takeSnapshot(url), yearMs, lifetimes);
    const [{ count } = { count: '0' }] = await rowsOf<{ count: string }>(
      url,
      'SELECT (SELECT count(*) FROM object_trash) + (SELECT count(*) FROM blobs b WHERE NOT EXISTS (SELECT FROM repository_blobs l WHERE l.digest = b.digest AND l.uuid = b.uuid)) AS count',
    );
    if (dead.size === 0 && count === '0') return;
    if (Date.now() < deadline) continue;
    failures.push(
      `${dead.size} manifests and links are dead and still there, and ${count} rows wait to be deleted`,
      ...[...dead].slice(0, 8),
    );
    return;
  }
}
