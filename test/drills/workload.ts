// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Random pushes, moves, deletions and reads, several at a time. */
import { setTimeout as sleep } from 'node:timers/promises';
import { absent } from './history.js';
import { blobKey, describe, manifestKey, present, tagKey, type Drill } from './drill.js';
import {
  deleteManifest,
  deleteThing,
  ensureBlob,
  imageOf,
  indexOf,
  pushManifest,
  pushRefused,
  repositories,
  tags,
  type PushedManifest,
} from './push-manifests.js';
import { sha256Of } from './random.js';
import { newBlob, uploadBlob, uploadForms, type Blob } from './upload-blob.js';

/** What was pushed, or tried, so far. */
export interface Known {
  readonly manifests: PushedManifest[];
  /** Of images; never deleted. */
  readonly layers: Blob[];
  /** In no image, so that their deletion breaks none. */
  readonly loose: Blob[];
}

const atOnce = 8;
const longestRestMs = 30;

/** Goes on until `isOver`; whatever is under way then is brought to its end. */
export async function runWorkload(drill: Drill, known: Known, isOver: () => boolean): Promise<void> {
  let counter = 0;
  const work = async (): Promise<void> => {
    while (!isOver()) {
      await pickOperation(drill, known, `n${++counter}`).run();
      await sleep(drill.random.between(0, longestRestMs));
    }
  };
  await Promise.all(Array.from({ length: atOnce }, work));
}

export interface Operation {
  /** For people. */
  readonly what: string;
  run(): Promise<unknown>;
}

/** What a client does next. What it takes from `drill.random` and leaves in `known` when it begins does not depend on how anything is answered. */
export function pickOperation(drill: Drill, known: Known, name: string): Operation {
  const { random } = drill;
  const repository = random.pick(repositories);
  const manifests = known.manifests.filter((pushed) => pushed.repository === repository);
  const images = manifests.filter(({ kind }) => kind === 'image');
  const share = random.next();
  const what = (does: string, run: () => Promise<unknown>): Operation => ({ what: `${does} in ${repository}`, run });
  if (share < 0.16) return what('push a blob', () => pushLoose(drill, known, repository, name));
  if (share < 0.34 || images.length < 2) return what('push an image', () => pushImage(drill, known, repository, name));
  if (share < 0.48) return what('push or move tags', () => pushManifest(drill, random.pick(manifests), someTags(drill)));
  if (share < 0.54) {
    const index = indexOf(repository, [random.pick(images), random.pick(images)], name);
    return what('push an index', () => pushNew(drill, known, index, someTags(drill)));
  }
  if (share < 0.6) return what('push a referrer', () => pushReferrer(drill, known, random.pick(manifests), name));
  if (share < 0.66) return what('delete a tag', () => deleteTag(drill, repository, random.pick(tags)));
  if (share < 0.7) return what('delete a manifest', () => deleteManifest(drill, random.pick(manifests)));
  if (share < 0.73 && drill.deletesLayers && known.layers.length > 0)
    return what('delete a layer', () => deleteBlob(drill, repository, random.pick(known.layers)));
  if (share < 0.78 && known.loose.length > 0) return what('delete a blob', () => deleteBlob(drill, repository, random.pick(known.loose)));
  if (share < 0.82) return what('push what is refused', () => pushRefused(drill, repository, name));
  if (share < 0.91) return what('pull an image', () => pullImage(drill, repository, random.pick(tags), known));
  return what('read', () => read(drill, repository, known));
}

async function pushLoose(drill: Drill, known: Known, repository: string, name: string): Promise<void> {
  const { random } = drill;
  const again = known.loose.length > 0 && random.chance(0.4);
  const blob = again ? random.pick(known.loose) : newBlob(`loose ${name}`, blobSize(drill));
  if (!again) known.loose.push(blob);
  if (again && random.chance(0.5)) await ensureBlob(drill, repository, blob);
  else await uploadBlob(drill, repository, blob, random.pick(uploadForms));
}

async function pushImage(drill: Drill, known: Known, repository: string, name: string): Promise<void> {
  const { random } = drill;
  const config = newBlob(`config ${name}`, random.between(2000, 6000));
  const fresh = newBlob(`layer ${name}`, blobSize(drill));
  const shared = known.layers.length > 0 && random.chance(0.6) ? [random.pick(known.layers)] : [];
  known.layers.push(fresh);
  await pushNew(drill, known, imageOf(repository, config, [fresh, ...shared], { name }), someTags(drill));
}

async function pushReferrer(drill: Drill, known: Known, subject: PushedManifest, name: string): Promise<void> {
  const config = newBlob('the empty config', 2);
  await pushNew(drill, known, imageOf(subject.repository, config, [], { subject, name }), []);
}

async function pushNew(drill: Drill, known: Known, pushed: PushedManifest, under: readonly string[]): Promise<void> {
  known.manifests.push(pushed);
  await pushManifest(drill, pushed, under);
}

export function deleteTag(drill: Drill, repository: string, tag: string): Promise<void> {
  return deleteThing(drill, `/v2/${repository}/manifests/${tag}`, [{ key: tagKey(repository, tag), value: absent }]);
}

function deleteBlob(drill: Drill, repository: string, { digest }: Blob): Promise<void> {
  return deleteThing(drill, `/v2/${repository}/blobs/${digest}`, [{ key: blobKey(repository, digest), value: absent }]);
}

/** Reads something while others write: the answer must be one that was possible at some moment of the reading. */
async function read(drill: Drill, repository: string, known: Known): Promise<void> {
  const { random } = drill;
  const tag = random.pick(tags);
  const { digest } = random.pick<{ digest: string }>(random.chance(0.5) && known.loose.length > 0 ? known.loose : known.manifests);
  const isBlob = known.loose.some((blob) => blob.digest === digest);
  const [key, path] = random.pick([
    [tagKey(repository, tag), `manifests/${tag}`],
    isBlob ? [blobKey(repository, digest), `blobs/${digest}`] : [manifestKey(repository, digest), `manifests/${digest}`],
  ] as const);
  await get(drill, key, `/v2/${repository}/${path}`);
}

/** All that a tag leads to: what of it was pushed, or was told to be there, must come. */
async function pullImage(drill: Drill, repository: string, tag: string, known: Known): Promise<void> {
  const digest = await get(drill, tagKey(repository, tag), `/v2/${repository}/manifests/${tag}`);
  const pulled = known.manifests.find((pushed) => pushed.repository === repository && pushed.digest === digest);
  for (const { digest: child } of pulled?.children ?? [])
    await get(drill, manifestKey(repository, child), `/v2/${repository}/manifests/${child}`);
  for (const { digest: blob } of pulled?.blobs ?? []) await get(drill, blobKey(repository, blob), `/v2/${repository}/blobs/${blob}`);
}

/** The digest of what came, which must have been possible at some moment of the request. */
async function get({ node, history, counts, failures }: Drill, key: string, path: string): Promise<string | undefined> {
  const from = history.now();
  const answer = await node.request('GET', path);
  if (answer === 'in doubt') return undefined;
  counts.reads++;
  if (answer.status !== 200 && answer.status !== 404) failures.push(`GET ${path}: ${describe(answer)}`);
  const found = sha256Of(answer.body);
  if (answer.status === 200 && found !== (answer.headers['docker-content-digest'] ?? found)) failures.push(`GET ${path}: other bytes`);
  const byTag = key.startsWith('t ');
  const value = answer.status === 404 ? absent : byTag ? found : present;
  const possible = history.possible(key, from);
  if (!possible.has(value)) failures.push(`GET ${path}: ${value}, possible: ${[...possible].join(' or ')}`);
  if (value === absent) return undefined;
  if (!byTag) history.told(key);
  return found;
}

function someTags({ random }: Drill): string[] {
  const count = random.pick([0, 1, 1, 1, 1, 2, 3]);
  return [...new Set(Array.from({ length: count }, () => random.pick(tags)))];
}

/** Mostly small, now and then 20 MB. */
function blobSize({ random, largestBlob }: Drill): number {
  const share = random.next();
  if (share < 0.6) return random.between(2_000, 70_000);
  const size = share < 0.92 ? random.between(70_000, 2_000_000) : random.between(2_000_000, share < 0.98 ? 8_000_000 : 20_000_000);
  return Math.min(size, largestBlob);
}
