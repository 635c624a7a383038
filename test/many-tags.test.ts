// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** A manifest goes with all of its tags, however many. */
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { Caller } from '../src/access/caller.js';
import { expireWrites } from '../src/jobs/expire-writes.js';
import type { Journal } from '../src/journal/write-entries.js';
import { deleteManifest, type ManifestParts } from '../src/manifest/handlers.js';
import { prepareManifestDeletion } from '../src/manifest/manifest-queries.js';
import type { Digest } from '../src/oci/digest.js';
import type { RepositoryName } from '../src/oci/repository-name.js';
import type { BlobStore } from '../src/storage/blob-store.js';
import { deletionTemplate, isTagEntry, manifestPrefix, tagBody } from '../src/storage/keys.js';
import { openPlace, type Place } from './gc/place.js';
import { jsonOf } from './support/http-client.js';
import { digestOf, imageOf, pushBlob, putManifest } from './support/wire-suite.js';

void t.test('many tags', async (t) => {
  const place = await openPlace(t);
  await t.test('go side by side, after their manifest', (t) => goTogether(t, place));
  await t.test('stay when one of them cannot be written', (t) => stayTogether(t, place));
  await t.test('go when the node has died that began', (t) => goAfterwards(t, place));
});

const count = 250;

async function pushTagged(place: Place, name: string): Promise<{ repository: RepositoryName; digest: Digest; tags: string[] }> {
  const image = imageOf([], { annotations: { name } });
  const digest = digestOf(image);
  const tags = Array.from({ length: count }, (_, index) => `v${String(index).padStart(3, '0')}`);
  await pushBlob(place.client, name, '{}');
  for (let start = 0; start < count; start += 100) {
    const query = tags.slice(start, start + 100).map((tag) => `tag=${tag}`);
    const { status } = await putManifest(place.client, name, `${digest}?${query.join('&')}`, image);
    if (status !== 201) throw new Error(`pushing tags: ${status}`);
  }
  return { repository: name as RepositoryName, digest: digest as Digest, tags };
}

/** Writers of the test's own, in the name of a node of its own. */
async function openJournal(place: Place, store: BlobStore): Promise<Journal> {
  const id = randomUUID();
  await place.sql(`INSERT INTO nodes (id, version) VALUES ($1, 'test')`, [id]);
  const history = { epoch: 0, highest: 0n, drawn: () => Promise.resolve(), requireStore: () => Promise.resolve(), remember: () => true };
  return { writes: place.collection.pool, store, node: { id }, active: new Set(), history };
}

/** The place's store, where `put` is told of each object. */
function watching(store: BlobStore, put: (key: string, write: () => Promise<void>) => Promise<void>): BlobStore {
  return new Proxy(store, {
    get(target, name) {
      if (name === 'put') return (key: string, bytes: Uint8Array) => put(key, () => target.put(key, bytes));
      const value: unknown = Reflect.get(target, name);
      return typeof value === 'function' ? (value as (...args: unknown[]) => unknown).bind(target) : value;
    },
  });
}

/** Counts how many tags are written at once, and remembers what was begun before the manifest was there. */
function counting(store: BlobStore): { store: BlobStore; most: () => number; early: () => string[] } {
  let [underWay, most] = [0, 0];
  const early: string[] = [];
  let manifestIsThere = false;
  return {
    most: () => most,
    early: () => early,
    store: watching(store, async (key, write) => {
      if (!isTagEntry(key)) {
        await write();
        manifestIsThere = true;
        return;
      }
      if (!manifestIsThere) early.push(key);
      most = Math.max(most, ++underWay);
      await write();
      underWay--;
    }),
  };
}

function remove(journal: Journal, repository: RepositoryName, digest: Digest): Promise<unknown> {
  const request = { signal: new AbortController().signal } as Parameters<typeof deleteManifest>[1];
  return deleteManifest({ journal } as ManifestParts, request, { repository, reference: { digest } }, { id: 'somebody' } as Caller);
}

async function tagsOf(place: Place, repository: string): Promise<string[]> {
  const answer = await place.client.send('GET', `/v2/${repository}/tags/list`);
  return jsonOf<{ tags: string[] }>(answer).tags;
}

async function deletionsOf(place: Place, repository: string): Promise<number> {
  const deletions = new Set<string>();
  for (let after = ''; ;) {
    const keys = await place.store.list(`repositories/${repository}/_tags/`, { after });
    for (const key of keys) if (key.endsWith('.deleted')) deletions.add(key);
    if (keys.length === 0) return deletions.size;
    after = keys.at(-1) ?? '';
  }
}

async function goTogether(t: Test, place: Place): Promise<void> {
  const { repository, digest, tags } = await pushTagged(place, 'together');
  const counted = counting(place.store);
  const journal = await openJournal(place, counted.store);
  t.match(await remove(journal, repository, digest), { status: 202 });
  t.equal(counted.most(), 16, 'tags are written side by side');
  t.strictSame(counted.early(), [], 'when the deletion of the manifest has been written');
  t.equal(await deletionsOf(place, repository), tags.length, 'all of them');
  t.strictSame(await tagsOf(place, repository), []);
  t.equal((await place.client.send('GET', `/v2/${repository}/manifests/v000`)).status, 404);
}

async function stayTogether(t: Test, place: Place): Promise<void> {
  const { repository, digest, tags } = await pushTagged(place, 'stays');
  let writes = 0;
  const store = watching(place.store, async (key, write) => {
    if (isTagEntry(key) && ++writes === 20) throw new Error('no room');
    // Whoever did not wait for these would delete them before they are there.
    if (isTagEntry(key) && writes > 10) await delay(100);
    await write();
  });
  await t.rejects(remove(await openJournal(place, store), repository, digest), { message: 'no room' });
  t.ok(writes < 40, 'nothing more is begun');
  t.equal(await deletionsOf(place, repository), 0, 'what was written is gone again');
  t.strictSame(await tagsOf(place, repository), tags);
  t.equal((await place.client.send('GET', `/v2/${repository}/manifests/v000`)).status, 200);
}

async function goAfterwards(t: Test, place: Place): Promise<void> {
  const { repository, digest, tags } = await pushTagged(place, 'afterwards');
  const dead = await openJournal(place, place.store);
  const template = deletionTemplate(manifestPrefix(repository, digest));
  await prepareManifestDeletion(dead.writes, dead.node.id, { repository, digest, template, body: tagBody() });
  await place.sql('DELETE FROM nodes WHERE id = $1', [dead.node.id]);
  const counted = counting(place.store);
  await expireWrites(await openJournal(place, counted.store), (error) => t.fail(String(error)));
  t.equal(counted.most(), 16, 'tags are written side by side');
  t.strictSame(counted.early(), [], 'when the deletion of the manifest has been written');
  t.equal(await deletionsOf(place, repository), tags.length, 'all of them');
  t.strictSame(await tagsOf(place, repository), []);
  t.strictSame(await place.sql('SELECT sequence FROM pending_writes'), [], 'nothing is left to be done');
}
