// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Requests in every gap of a collection, and a collection in every gap of a push: each held where it has to be, none of them timed. */
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { BlobStore } from '../../src/storage/blob-store.js';
import { UndeletedObjects } from '../../src/storage/blob-store.js';
import type { Answer } from '../support/http-client.js';
import { describe, digestOf, imageOf, indexOf, pushBlob, putManifest, types } from '../support/wire-suite.js';
import { openPlace, type Place } from './place.js';

const linkGaps = [
  'gc.links.claimed',
  'gc.links.locked',
  'gc.links.deleted',
  'gc.blobs.claimed',
  'gc.blobs.locked',
  'gc.blobs.deleted',
  'gc.links.settled',
  'gc.links.committed',
  'gc.trash.claimed',
  'gc.trash.deleted',
  'gc.trash.advanced',
];
const manifestGaps = [
  'gc.manifests.claimed',
  'gc.manifests.looked',
  'gc.manifests.locked',
  'gc.manifests.looked-again',
  'gc.manifests.let-go',
  'gc.manifests.deleted',
  'gc.manifests.settled',
  'gc.manifests.committed',
];

/** Holds a round at a place, begins a request there, and lets the round go on once the request is answered or waits for a lock. */
async function meetAt(place: Place, gap: string, request: () => Promise<Answer>): Promise<Answer> {
  const hold = place.hold(gap);
  const round = place.collect();
  await Promise.race([hold.reached, round.then(() => Promise.reject(new Error(`${gap} was not reached`)))]);
  const state = { answered: false };
  const answer = request().finally(() => (state.answered = true));
  while (!state.answered && !(await waits(place))) await sleep(5);
  hold.release();
  await round;
  return answer;
}

async function waits({ sql }: Place): Promise<boolean> {
  const rows = await sql(
    `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND application_name = 'ha-registry writes'`,
  );
  return rows.length > 0;
}

async function readable(t: Test, { client }: Place, repository: string, content: string): Promise<void> {
  const { status, body } = await client.send('GET', `/v2/${repository}/blobs/${digestOf(content)}`);
  t.strictSame([status, body.toString()], [200, content], `${content} is there, byte by byte`);
}

/** Long after everything: nothing that is referred to was lost, and nothing is left over. */
async function settle(place: Place): Promise<void> {
  for (let day = 0; day < 3; day++) {
    await place.age('25 hours');
    await place.collect();
  }
}

void t.test('a request in each gap of a collection', async (t) => {
  const place = await openPlace(t);
  const { client } = place;

  for (const [index, gap] of linkGaps.entries()) {
    await t.test(`a manifest that refers to the blob, at ${gap}`, async (t) => {
      const repository = `push/gap-${index}`;
      const content = `push ${index}`;
      await pushBlob(client, repository, content);
      await pushBlob(client, repository, '{}');
      await place.age('25 hours');
      const answer = await meetAt(place, gap, () => putManifest(client, repository, 'tag', imageOf([content])));
      t.equal(answer.status, 201, answer.body.toString());
      await readable(t, place, repository, content);
      await settle(place);
      await readable(t, place, repository, content);
      t.equal((await client.send('DELETE', `/v2/${repository}/manifests/tag`)).status, 202);
    });

    await t.test(`a HEAD of the blob, at ${gap}`, async (t) => {
      const repository = `head/gap-${index}`;
      const content = `head ${index}`;
      await pushBlob(client, repository, '{}');
      await pushBlob(client, repository, content);
      await place.age('25 hours');
      const { status } = await meetAt(place, gap, () => client.send('HEAD', `/v2/${repository}/blobs/${digestOf(content)}`));
      t.ok(status === 200 || status === 404, `${status}`);
      // An hour later, less what the requests before took.
      await place.age('59 minutes');
      await place.collect();
      if (status === 200) await readable(t, place, repository, content);
      else t.equal(await pushBlob(client, repository, content), digestOf(content));
      await pushBlob(client, repository, '{}');
      t.equal((await putManifest(client, repository, 'tag', imageOf([content]))).status, 201);
      t.equal((await client.send('DELETE', `/v2/${repository}/manifests/tag`)).status, 202);
    });
  }

  for (const [index, gap] of manifestGaps.entries()) {
    const repository = `manifests/gap-${index}`;
    const child = imageOf([], { annotations: { child: String(index) } });
    const path = `/v2/${repository}/manifests/${digestOf(child)}`;
    const prepare = async (): Promise<void> => {
      await pushBlob(client, repository, '{}');
      await putManifest(client, repository, digestOf(child), child);
      await place.age('8 days');
    };

    await t.test(`a HEAD of the manifest, then the index, at ${gap}`, async (t) => {
      await prepare();
      const { status } = await meetAt(place, gap, () => client.send('HEAD', path));
      t.ok(status === 200 || status === 404, `${status}`);
      await place.age('59 minutes');
      await place.collect();
      if (status === 200) t.equal((await client.send('GET', path)).body.toString(), child, 'it stays for the hour');
      const index = indexOf([describe(types.manifest, child)]);
      const pushed = await putManifest(client, repository, 'list', index, types.index);
      t.equal(pushed.status, 201);
      t.equal(pushed.headers['warning'] === undefined, status === 200, 'the index finds its child');
      await client.send('DELETE', `/v2/${repository}/manifests/list`);
      await client.send('DELETE', `/v2/${repository}/manifests/${digestOf(index)}`);
      await client.send('DELETE', path);
    });

    await t.test(`a tag for the manifest, and an index of it, at ${gap}`, async (t) => {
      await prepare();
      const answer = await meetAt(place, gap, () => putManifest(client, repository, 'tag', child));
      t.equal(answer.status, 201, answer.body.toString());
      await settle(place);
      t.equal((await client.send('GET', `/v2/${repository}/manifests/tag`)).body.toString(), child);
      await client.send('DELETE', path);

      await prepare();
      const index = indexOf([describe(types.manifest, child)], { annotations: { again: gap } });
      const pushed = await meetAt(place, gap, () => putManifest(client, repository, 'list', index, types.index));
      t.equal(pushed.status, 201);
      const { status } = await client.send('GET', path);
      const missing = await place.sql(`SELECT 1 FROM missing_references WHERE manifest = decode($1, 'hex')`, [
        `01${digestOf(index).slice(7)}`,
      ]);
      t.equal(missing.length, status === 200 ? 0 : 1, 'the child is there, or known to be missing');
      await client.send('DELETE', `/v2/${repository}/manifests/${digestOf(index)}`);
      await client.send('DELETE', path);
    });
  }
});

void t.test('a collection in each gap of a push', async (t) => {
  const place = await openPlace(t);
  const { client } = place;
  for (const gap of ['write.prepared', 'write.stored']) {
    await t.test(`of a manifest, at ${gap}`, async (t) => {
      const repository = `push/${gap}`;
      const content = `content ${gap}`;
      for (const blob of ['{}', content]) await pushBlob(client, repository, blob);
      await place.age('25 hours');
      const hold = place.hold(gap);
      const pushed = putManifest(client, repository, 'tag', imageOf([content]));
      await hold.reached;
      await place.collect();
      hold.release();
      t.equal((await pushed).status, 201);
      await settle(place);
      await readable(t, place, repository, content);
    });

    await t.test(`of a mount, at ${gap}`, async (t) => {
      const content = `mounted ${gap}`;
      const digest = await pushBlob(client, `source/${gap}`, content);
      await place.age('25 hours');
      const hold = place.hold(gap);
      const mounted = client.send('POST', `/v2/target/${gap}/blobs/uploads/?mount=${digest}&from=source/${gap}`, { body: '' });
      await hold.reached;
      await place.collect();
      hold.release();
      const { status } = await mounted;
      t.equal(status, 202, 'there is nothing to mount any more, and the client uploads');
      await pushBlob(client, `target/${gap}`, content);
      await readable(t, place, `target/${gap}`, content);
    });

    await t.test(`of a blob that is there, at ${gap}`, async (t) => {
      const content = `again ${gap}`;
      await pushBlob(client, `first/${gap}`, content);
      await place.age('25 hours');
      const hold = place.hold(gap);
      const pushed = client.send('POST', `/v2/second/${gap}/blobs/uploads/?digest=${digestOf(content)}`, { body: content });
      await hold.reached;
      await place.collect();
      hold.release();
      t.equal((await pushed).status, 201);
      await place.age('25 hours');
      await place.emptyTrash();
      await readable(t, place, `second/${gap}`, content);
    });
  }
});

void t.test('promises', async (t) => {
  const place = await openPlace(t);
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
});

void t.test('the trash', async (t) => {
  const place = await openPlace(t);
  const { client, store } = place;

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
});

void t.test('nothing is collected', async (t) => {
  const place = await openPlace(t);
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
});

void t.test('fifty clients push the same while it is collected', async (t) => {
  const place = await openPlace(t);
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
});

function wrap(store: BlobStore, own: Partial<BlobStore>): BlobStore {
  return new Proxy(store, {
    get: (target, name) => {
      const value: unknown = Reflect.get(own, name) ?? Reflect.get(target, name);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
}
