// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What clients were told stays; what is in the trash goes, once, and comes back where it may. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'pg';
import type { Test } from 'tap';
import { adopt } from '../../src/cluster/adopt-writes.js';
import type { Digest } from '../../src/oci/digest.js';
import type { RepositoryName } from '../../src/oci/repository-name.js';
import { UndeletedObjects, type BlobStore } from '../../src/storage/blob-store.js';
import { linkTemplate } from '../../src/storage/keys.js';
import type { Answer } from '../support/http-client.js';
import { digestOf, imageOf, pushBlob, putManifest } from '../support/wire-suite.js';
import { readable, settle, waits } from './meet.js';
import { openPlace, type Settings } from './place.js';

export async function promises(t: Test, settings: Settings): Promise<void> {
  const place = await openPlace(t, settings);
  const { client } = place;
  const content = 'promised';
  const near = '23 hours 10 minutes';

  await t.test('a blob that a HEAD, a GET, a mount or an upload said is there is there an hour later', async (t) => {
    const digest = digestOf(content);
    const requests: Record<string, () => Promise<Answer>> = {
      HEAD: () => client.send('HEAD', `/v2/promise/a/blobs/${digest}`),
      GET: () => client.send('GET', `/v2/promise/a/blobs/${digest}`),
      mount: () => client.send('POST', `/v2/promise/a/blobs/uploads/?mount=${digest}&from=promise/a`, { body: '' }),
      upload: () => client.send('POST', `/v2/promise/a/blobs/uploads/?digest=${digest}`, { body: content }),
    };
    await pushBlob(client, 'promise/a', content);
    for (const [name, request] of Object.entries(requests)) {
      await place.age(near);
      t.ok((await request()).status < 300, name);
      await place.age('1 hour');
      await place.collect();
      t.equal(place.collection.counters.links, 0, `nothing was collected after a ${name}`);
    }
    await pushBlob(client, 'promise/a', '{}');
    t.equal((await putManifest(client, 'promise/a', 'tag', imageOf([content]))).status, 201);
  });

  await t.test('the time is moved on once, not by every pull', async (t) => {
    const version = async (): Promise<unknown> => place.sql(`SELECT xmin FROM repository_blobs ORDER BY digest`);
    await place.age(near);
    await client.send('GET', `/v2/promise/a/blobs/${digestOf(content)}`);
    const before = await version();
    await Promise.all(Array.from({ length: 20 }, () => client.send('GET', `/v2/promise/a/blobs/${digestOf(content)}`)));
    t.strictSame(await version(), before);
  });

  await t.test('an answer that is told from one that is gone meanwhile', async (t) => {
    const repository = 'promise/b';
    const digest = await pushBlob(client, repository, 'gone meanwhile');
    await place.age('25 hours');
    const hold = place.hold('gc.links.deleted');
    const round = place.collect();
    await hold.reached;
    // It reads the link, which is not gone yet, and waits to move its time on.
    const head = client.send('HEAD', `/v2/${repository}/blobs/${digest}`);
    while (!(await waits(place))) await sleep(5);
    hold.release();
    await round;
    t.equal((await head).status, 404);
  });
}

export async function trash(t: Test, settings: Settings): Promise<void> {
  const place = await openPlace(t, settings);
  const { client, store, collection } = place;

  await t.test('uploaded again between the phases, and the deletions come late', async (t) => {
    const content = 'twice';
    const repository = 'late/a';
    await pushBlob(client, repository, content);
    await place.age('25 hours');
    let deletions: (() => Promise<void>)[] = [];
    const delaying = wrap(store, { delete: (keys) => (deletions.push(() => store.delete(keys)), Promise.resolve()) });
    await place.collect({ store: delaying });
    await pushBlob(client, repository, content);
    await pushBlob(client, repository, '{}');
    t.equal((await putManifest(client, repository, 'tag', imageOf([content]))).status, 201);
    await place.age('25 hours');
    await place.collect({ store: delaying });
    for (const run of deletions) await run();
    deletions = [];
    await readable(t, place, repository, content);
    t.equal((await store.list('data/')).length, 2, 'the first copy is gone');
    t.equal((await store.list(`repositories/${repository}/_blobs/`)).length, 2, 'the entries of both blobs are there');
  });

  await t.test('mounted again between the phases, and the deletions come late', async (t) => {
    const content = 'mounted twice';
    const digest = await pushBlob(client, 'mounts/source', content);
    await pushBlob(client, 'mounts/source', '{}');
    await putManifest(client, 'mounts/source', 'tag', imageOf([content]));
    const mount = () => client.send('POST', `/v2/mounts/target/blobs/uploads/?mount=${digest}&from=mounts/source`, { body: '' });
    t.equal((await mount()).status, 201);
    await place.age('25 hours');
    const late: string[] = [];
    await place.collect({ store: wrap(store, { delete: (keys) => Promise.resolve(void late.push(...keys)) }) });
    t.equal((await client.send('HEAD', `/v2/mounts/target/blobs/${digest}`)).status, 404, 'it was collected');
    t.equal((await mount()).status, 201);
    await store.delete(late);
    await readable(t, place, 'mounts/target', content);
    t.equal((await store.list('repositories/mounts/target/_blobs/')).length, 1, 'the newer entry of the same data is there');
  });

  await t.test('resurrected data are deleted by nobody', async (t) => {
    const content = 'comes back';
    const repository = 'back/a';
    for (const blob of ['{}', content]) await pushBlob(client, repository, blob);
    await place.age('25 hours');
    await place.collect();
    t.equal((await client.send('HEAD', `/v2/${repository}/blobs/${digestOf(content)}`)).status, 404);
    await place.age('23 hours');
    t.equal((await putManifest(client, repository, 'tag', imageOf([content]))).status, 201, 'a manifest finds it');
    await settle(place);
    await readable(t, place, repository, content);
  });

  await t.test('not from another repository, not what a client deleted, and not what may be gone', async (t) => {
    const content = 'stays away';
    const manifest = imageOf([content]);
    for (const repository of ['away/a', 'away/b', 'away/c']) await pushBlob(client, repository, '{}');
    for (const repository of ['away/a', 'away/b']) await pushBlob(client, repository, content);
    await client.send('DELETE', `/v2/away/b/blobs/${digestOf(content)}`);
    await place.age('25 hours');
    await place.collect();
    for (const repository of ['away/b', 'away/c']) {
      await pushBlob(client, repository, '{}');
      t.equal((await putManifest(client, repository, 'tag', manifest)).status, 404, repository);
    }
    await place.age('25 hours');
    const hold = place.hold('gc.trash.claimed');
    const emptied = place.emptyTrash();
    await hold.reached;
    await pushBlob(client, 'away/a', '{}');
    t.equal((await putManifest(client, 'away/a', 'tag', manifest)).status, 404, 'claimed');
    hold.release();
    await emptied;
    t.equal((await putManifest(client, 'away/a', 'tag', manifest)).status, 404, 'gone');
  });

  await t.test('not with a write that is given back to a database that lost it, either', async (t) => {
    const repository = 'away/d';
    const digest = await pushBlob(client, repository, 'acknowledged');
    const [link] = await place.sql<{ sequence: string; uuid: string }>(
      `SELECT rb.sequence, rb.uuid FROM repository_blobs rb JOIN repositories r ON r.id = rb.repository_id WHERE r.name = $1`,
      [repository],
    );
    const template = linkTemplate(repository as RepositoryName, digest as Digest, link?.uuid ?? '');
    const remembered = { sequence: BigInt(link?.sequence ?? 0), templates: [template] };
    await place.age('25 hours');
    await place.collect();
    await place.age('25 hours');
    const hold = place.hold('gc.trash.claimed');
    const emptied = place.emptyTrash();
    await hold.reached;
    const database = new Client({ connectionString: place.databaseUrl });
    await database.connect();
    await t.rejects(adopt(database, store, collection.node.id, remembered), { code: 'HA001' });
    await database.end();
    hold.release();
    await emptied;
    t.equal((await client.send('GET', `/v2/${repository}/blobs/${digest}`)).status, 404, 'there is no link without data');
    t.strictSame(await place.sql('SELECT sequence FROM pending_writes'), []);
  });

  await t.test('what could not be deleted is deleted later', async (t) => {
    for (const content of ['one', 'two', 'three']) await pushBlob(client, 'partial/a', content);
    await place.age('25 hours');
    let fails = true;
    const partial = wrap(store, {
      async delete(keys) {
        await store.delete(keys.filter((_, index) => !fails || index % 2 === 0));
        const left = keys.filter((_, index) => fails && index % 2 === 1);
        if (left.length > 0) throw new UndeletedObjects(left, new Error('503 SlowDown'));
      },
    });
    await place.collect({ store: partial });
    t.ok((await store.list('repositories/partial/')).length > 0, 'some are left');
    t.equal(
      (
        await place.sql(
          `SELECT 1 FROM object_trash WHERE kind = 'data' AND not_before < 'infinity' AND digest IS NOT NULL AND size IN (3, 5)`,
        )
      ).length < 3,
      true,
      'whose data wait',
    );
    fails = false;
    await place.age('2 minutes');
    await place.collect({ store: partial });
    t.strictSame(await store.list('repositories/partial/'), [], 'none');
    await settle(place);
    t.strictSame(await place.sql(`SELECT key FROM object_trash WHERE kind = 'data'`), []);
  });

  await t.test('a stream that began before the collection goes on to its end', async (t) => {
    const content = 'slow '.repeat(4_000_000);
    const digest = await pushBlob(client, 'slow/a', content);
    const { request, answer } = client.open('GET', `/v2/slow/a/blobs/${digest}`);
    const begun = new Promise<void>((resolve) =>
      request.on('response', (response) => {
        response.pause();
        setImmediate(resolve);
      }),
    );
    request.end();
    await begun;
    await place.age('25 hours');
    await place.collect();
    t.equal((await place.sql(`SELECT 1 FROM blobs WHERE size = ${content.length}`)).length, 0);
    request.on('response', () => undefined);
    (request as unknown as { res: { resume(): void } }).res.resume();
    t.equal(digestOf((await answer).body), digest);
  });

  await t.test('the sweep takes what nothing names, and nothing else', async (t) => {
    const orphan = 'data/99/0197a000-0000-7000-8000-000000000099';
    const linked = 'data/98/0197a000-0000-7000-8000-000000000098';
    for (const key of [orphan, linked]) await store.put(key, Buffer.from('left over'));
    // A link that the database lost: its data are no orphan.
    await store.put(`repositories/lost/a/_blobs/sha256/${'ab'.repeat(32)}/09223372036854775000.${linked.slice(-36)}`, new Uint8Array());
    await pushBlob(client, 'sweep/a', 'known');
    t.strictSame(await place.sweep(), []);
    await place.age('25 hours');
    await place.sweep();
    await place.emptyTrash();
    t.ok((await store.size(orphan)) !== undefined, 'seen once is not enough');
    await place.age('25 hours');
    t.strictSame(await place.sweep(), [linked.slice(-36)], 'data with a link are reported');
    await place.emptyTrash();
    t.equal(await store.size(orphan), undefined);
    t.ok((await store.size(linked)) !== undefined);
    await readable(t, place, 'sweep/a', 'known');
  });
}

export async function gates(t: Test, settings: Settings): Promise<void> {
  const place = await openPlace(t, settings);
  const { client, collection } = place;
  await pushBlob(client, 'gate/a', 'kept');
  await place.age('25 hours');

  await t.test('beside a node of the version before', async (t) => {
    await place.sql(`INSERT INTO nodes (id, version) VALUES (gen_random_uuid(), 'older')`);
    await place.collect();
    t.equal(collection.counters.hindrance, 'a node of another version is running');
    await place.sql(`DELETE FROM nodes WHERE version = 'older'`);
  });

  await t.test('by a node that was declared dead', async (t) => {
    const dead = { ...collection, node: { id: '00000000-0000-4000-8000-000000000000' } };
    await t.rejects(place.collect(dead), { code: 'HA000' });
  });

  await t.test('from the store while the database may be an old one', async (t) => {
    let replaced = false;
    await place.collect({
      refresh: () => Promise.resolve((replaced = true)),
      obstacle: () => (replaced ? 'the store goes with another generation' : undefined),
    });
    t.equal(collection.counters.links, 1);
    t.equal((await place.store.list('repositories/gate/')).length, 1);
    await place.collect();
    t.strictSame(await place.store.list('repositories/gate/'), []);
  });
}

export async function manyAtOnce(t: Test, settings: Settings): Promise<void> {
  const place = await openPlace(t, settings);
  const { client } = place;
  const state = { pushing: true };
  const collecting = (async () => {
    while (state.pushing) {
      await place.age('25 hours');
      await place.collect();
    }
  })();
  const image = imageOf(['same']);
  const push = async (): Promise<number[]> => {
    const statuses: number[] = [];
    for (const blob of ['{}', 'same']) {
      const head = await client.send('HEAD', `/v2/same/a/blobs/${digestOf(blob)}`);
      statuses.push(head.status);
      const { status } = await client.send('POST', `/v2/same/a/blobs/uploads/?digest=${digestOf(blob)}`, { body: blob });
      statuses.push(status);
    }
    for (const tag of ['latest', 'latest']) statuses.push((await putManifest(client, 'same/a', tag, image)).status);
    return statuses;
  };
  const all = (await Promise.all(Array.from({ length: 50 }, push))).flat();
  state.pushing = false;
  await collecting;
  t.strictSame(
    all.filter((status) => status >= 500),
    [],
    'nobody saw an error of ours',
  );
  for (const blob of ['{}', 'same']) await pushBlob(client, 'same/a', blob);
  t.equal((await putManifest(client, 'same/a', 'latest', image)).status, 201);
  await readable(t, place, 'same/a', 'same');
  t.strictSame(await place.sql('SELECT digest FROM blobs GROUP BY digest HAVING count(*) > 1'), [], 'one blob each');
}

function wrap(store: BlobStore, own: Partial<BlobStore>): BlobStore {
  return new Proxy(store, {
    get: (target, name) => {
      const value: unknown = Reflect.get(own, name) ?? Reflect.get(target, name);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
}
