// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What a registry holds, as the keys of the drill's history with their values: once as the API says it, once as the store says it. */
import { createHash } from 'node:crypto';
import { absent } from './history.js';
import { blobKey, describe, manifestKey, present, tagKey, type Drill } from './drill.js';
import type { Answer } from './http-client.js';
import { repositories } from './push-manifests.js';
import { readStore, type Readings, type StoreContent } from './read-store.js';
import type { StoredObjects } from './stored-objects.js';

export type View = Map<string, string>;

const atOnce = 6;

export const referrersKey = (repository: string, subject: string) => `r ${repository} ${subject}`;

/** Asks for all that was ever pushed, tried or refused, or for some of it, and for all tags that are listed. With `pull`, bytes are taken and compared; without, only HEAD. */
export async function viewOfApi(drill: Drill, pull: boolean, some?: readonly string[]): Promise<View> {
  const view: View = new Map();
  for (const repository of repositories) for (const tag of await listTags(drill, repository)) view.set(tagKey(repository, tag), '');
  const keys = [...new Set([...(some ?? [...drill.history.keys(), ...drill.refused]), ...view.keys()])];
  const next = keys.values();
  const work = async (): Promise<void> => {
    for (const key of next) {
      const value = await ask(drill, key, pull);
      if (value === absent && view.has(key)) drill.failures.push(`${key}: listed, but not there`);
      if (value !== absent && key.startsWith('t ') && !view.has(key)) drill.failures.push(`${key}: there, but not listed`);
      if (value === absent) view.delete(key);
      else view.set(key, value);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, work));
  for (const key of keys.filter((name) => name.startsWith('m '))) await addReferrers(drill, key, view);
  return view;
}

export async function viewOfStore(objects: StoredObjects, read: Readings): Promise<{ view: View; content: StoreContent }> {
  const content = await readStore(objects, read);
  const view: View = new Map();
  for (const [repository, { tags, manifests, links, referrers }] of content.repositories) {
    for (const [tag, digest] of tags) view.set(tagKey(repository, tag), digest);
    for (const digest of manifests.keys()) view.set(manifestKey(repository, digest), present);
    for (const digest of links.keys()) view.set(blobKey(repository, digest), present);
    for (const [subject, digests] of referrers) view.set(referrersKey(repository, subject), [...digests].sort().join(' '));
  }
  return { view, content };
}

/** How the store's view differs from another, at most a few lines of it. */
export function differences(other: View, store: View, who = 'the API'): string[] {
  const keys = [...new Set([...other.keys(), ...store.keys()])].filter((key) => other.get(key) !== store.get(key));
  return keys.slice(0, 8).map((key) => `${key}: ${who} says ${other.get(key) ?? absent}, the store ${store.get(key) ?? absent}`);
}

/** Compares a view with what was acknowledged; returns how many values were certain. */
export function checkView({ history, refused, failures }: Drill, view: View, who: string): number {
  let certain = 0;
  for (const key of new Set([...history.keys(), ...[...view.keys()].filter((name) => !name.startsWith('r '))])) {
    const possible = history.possible(key);
    const value = view.get(key) ?? absent;
    if (possible.size === 1) certain++;
    if (!possible.has(value)) failures.push(`${who}: ${key} is ${value}, possible: ${[...possible].join(' or ')}`);
  }
  for (const key of refused) if (view.has(key)) failures.push(`${who}: ${key} was refused and is there`);
  return certain;
}

async function ask(drill: Drill, key: string, pull: boolean): Promise<string> {
  const [kind, repository, name = ''] = key.split(' ');
  const path = `/v2/${repository}/${kind === 'b' ? 'blobs' : 'manifests'}/${name}`;
  const answer = await drill.node.request(pull ? 'GET' : 'HEAD', path);
  if (answer === 'in doubt') return absent;
  if (answer.status === 404) return absent;
  if (answer.status !== 200) drill.failures.push(`${key}: ${describe(answer)}`);
  const digest = String(answer.headers['docker-content-digest']);
  if (kind !== 't' && digest !== name) drill.failures.push(`${key}: answered as ${digest}`);
  if (kind !== 't') drill.history.told(key);
  if (pull && hashOf(digest, answer.body) !== digest) drill.failures.push(`${key}: ${answer.body.byteLength} bytes of another digest`);
  return kind === 't' ? digest : present;
}

async function listTags(drill: Drill, repository: string): Promise<string[]> {
  const found: string[] = [];
  for (let path: string | undefined = `/v2/${repository}/tags/list?n=5`; path !== undefined;) {
    const answer: Answer | 'in doubt' = await drill.node.request('GET', path);
    if (answer === 'in doubt' || answer.status === 404) return found;
    found.push(...(JSON.parse(answer.body.toString()) as { tags: string[] }).tags);
    path = /<([^>]+)>; *rel="?next/.exec(String(answer.headers['link']))?.[1];
  }
  return found;
}

async function addReferrers(drill: Drill, key: string, view: View): Promise<void> {
  const [, repository = '', subject = ''] = key.split(' ');
  const answer = await drill.node.request('GET', `/v2/${repository}/referrers/${subject}`);
  if (answer === 'in doubt') return;
  const { manifests } = JSON.parse(answer.body.toString()) as { manifests: { digest: string }[] };
  if (manifests.length > 0) {
    const digests = manifests.map(({ digest }) => digest).sort();
    view.set(referrersKey(repository, subject), digests.join(' '));
  }
}

function hashOf(digest: string, bytes: Uint8Array): string {
  const algorithm = digest.startsWith('sha512') ? 'sha512' : 'sha256';
  return `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`;
}
