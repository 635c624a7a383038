// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Tags, referrers and children that come or go while what they belong to is under review; pushes that are refused, and commits whose answer is lost. */
import type { Test } from 'tap';
import { mountBlob } from '../../src/blob/link-blob.js';
import { gcProtocol } from '../../src/collector/gate-queries.js';
import type { ServerPool } from '../../src/database/pool.js';
import type { Digest } from '../../src/oci/digest.js';
import type { RepositoryName } from '../../src/oci/repository-name.js';
import { describe, digestOf, imageOf, indexOf, pushBlob, putManifest, types } from '../support/wire-suite.js';
import { manifestGaps } from './gaps.js';
import { meetAt, readable, settle } from './meet.js';
import { openPlace, type Place, type Settings } from './place.js';

export async function moves(t: Test, settings: Settings): Promise<void> {
  const place = await openPlace(t, settings);
  const { client } = place;

  for (const gap of manifestGaps) {
    const repository = `moves/${gap}`;
    const pull = async (reference: string): Promise<string> =>
      (await client.send('GET', `/v2/${repository}/manifests/${reference}`)).body.toString();

    await t.test(`a tag leaves the manifest at ${gap}`, async (t) => {
      const [old, other] = ['old', 'new'].map((v) => imageOf([], { annotations: { v } })) as [string, string];
      await pushBlob(client, repository, '{}');
      await putManifest(client, repository, 'tag', old);
      await putManifest(client, repository, digestOf(other), other);
      await place.age('8 days');
      // Whoever is under review without need is looked at like any other.
      await place.sql('INSERT INTO gc_manifests (repository_id, digest, due) SELECT repository_id, digest, now() FROM manifests');
      const answer = await meetAt(place, gap, () => putManifest(client, repository, 'tag', other));
      t.equal(answer.status, 201, answer.body.toString());
      t.equal(await pull('tag'), other);
      t.equal(await pull(digestOf(old)), old, 'it stays for the undo window');
      await place.age('6 days');
      await place.collect();
      t.equal(await pull(digestOf(old)), old);
      await place.age('25 hours');
      await place.collect();
      t.equal((await client.send('GET', `/v2/${repository}/manifests/${digestOf(old)}`)).status, 404, 'and then goes');
      t.equal(await pull('tag'), other);
    });

    await t.test(`a referrer comes while its subject goes, at ${gap}`, async (t) => {
      const subject = imageOf([], { annotations: { subject: gap } });
      const referrer = imageOf([], { subject: describe(types.manifest, subject), artifactType: 'example/signature' });
      await pushBlob(client, repository, '{}');
      await putManifest(client, repository, digestOf(subject), subject);
      await place.age('8 days');
      const answer = await meetAt(place, gap, () => putManifest(client, repository, digestOf(referrer), referrer));
      t.equal(answer.status, 201, answer.body.toString());
      await place.age('25 hours');
      await place.collect();
      t.equal(await pull(digestOf(referrer)), referrer);
      const { body } = await client.send('GET', `/v2/${repository}/referrers/${digestOf(subject)}`);
      t.match(body.toString(), digestOf(referrer), 'and is listed');
      t.equal((await place.store.list(`repositories/${repository}/_referrers/`)).length, 1, 'in the store as well');
      await client.send('DELETE', `/v2/${repository}/manifests/${digestOf(referrer)}`);
    });
  }

  for (const gap of ['write.prepared', 'write.stored']) {
    await t.test(`a child arrives while its index is pushed and all is collected, at ${gap}`, async (t) => {
      const repository = `arrives/${gap}`;
      const child = imageOf([], { annotations: { child: gap } });
      const index = indexOf([describe(types.manifest, child)]);
      await pushBlob(client, repository, '{}');
      const hold = place.hold(gap);
      const pushed = putManifest(client, repository, digestOf(child), child);
      await hold.reached;
      t.equal((await putManifest(client, repository, 'list', index, types.index)).status, 201);
      await place.age('1 hour');
      await place.collect();
      hold.release();
      t.equal((await pushed).status, 201);
      t.strictSame(await place.sql('SELECT digest FROM missing_references'), [], 'it is not missing any more');
      await settle(place);
      t.equal((await client.send('GET', `/v2/${repository}/manifests/${digestOf(child)}`)).body.toString(), child);
    });
  }

  await t.test('a write whose node was declared dead, and came back, before its commit', async (t) => {
    const digest = await pushBlob(client, 'rejoined/source', 'rejoined');
    const register = async (): Promise<string> => {
      const sql = `INSERT INTO nodes (id, version, gc_protocol) VALUES (gen_random_uuid(), 'test', ${gcProtocol}) RETURNING id`;
      return (await place.sql<{ id: string }>(sql))[0]?.id ?? '';
    };
    const node = { id: await register() };
    const history = { epoch: 0, highest: 0n, drawn: () => Promise.resolve(), requireStore: () => Promise.resolve(), remember: () => true };
    const journal = { writes: place.collection.pool, store: place.store, node, active: new Set<bigint>(), history };
    const hold = place.hold('write.stored');
    const mounted = mountBlob(journal, 'rejoined/target' as RepositoryName, digest as Digest, undefined);
    await hold.reached;
    await place.sql('DELETE FROM nodes WHERE id = $1', [node.id]);
    node.id = await register();
    hold.release();
    await t.rejects(mounted, { code: 'UNAVAILABLE' }, 'it is not committed under the new id');
    t.equal((await client.send('HEAD', `/v2/rejoined/target/blobs/${digest}`)).status, 404);
    t.equal(await mountBlob(journal, 'rejoined/target' as RepositoryName, digest as Digest, undefined), true, 'what begins under it is');
    await place.sql(`DELETE FROM nodes WHERE version = 'test'`);
  });

  await t.test('a push that is refused at its commit is nowhere in the store', async (t) => {
    const repository = 'refused/a';
    const image = imageOf(['deleted meanwhile']);
    for (const blob of ['{}', 'deleted meanwhile']) await pushBlob(client, repository, blob);
    const hold = place.hold('write.stored');
    const pushed = putManifest(client, repository, 'tag', image);
    await hold.reached;
    t.equal((await client.send('DELETE', `/v2/${repository}/blobs/${digestOf('deleted meanwhile')}`)).status, 202);
    await place.age('25 hours');
    await place.collect();
    hold.release();
    t.equal((await pushed).status, 404);
    for (const kind of ['_manifests', '_tags']) t.strictSame(await place.store.list(`repositories/${repository}/${kind}/`), [], kind);
  });

  await t.test('a batch whose COMMIT was not answered is done, once', async (t) => {
    for (const content of ['lost one', 'lost two']) await pushBlob(client, 'lost/a', content);
    await place.age('25 hours');
    let lost = 0;
    const pool = losing(place, () => lost++ === 0);
    await t.rejects(place.collect({ pool }), { message: 'Connection terminated unexpectedly' });
    await place.collect({ pool });
    t.equal(lost > 0, true);
    t.strictSame(await place.store.list('repositories/lost/'), []);
    await settle(place);
    t.strictSame(await place.sql(`SELECT key FROM object_trash WHERE kind = 'data'`), []);
    for (const content of ['lost one', 'lost two']) await pushBlob(client, 'lost/a', content);
    await readable(t, place, 'lost/a', 'lost one');
  });
}

/** The collector's pool, where a COMMIT is carried out and its answer lost. */
function losing({ collection: { pool } }: Place, isLost: () => boolean): ServerPool {
  return new Proxy(pool, {
    get(target, name) {
      if (name !== 'connect') return bound(target, name);
      return async () =>
        new Proxy(await target.connect(), {
          get(client, inner) {
            if (inner !== 'query') return bound(client, inner);
            return async (...args: [string]) => {
              const answer = await client.query(...args);
              if (args[0] === 'COMMIT' && isLost()) throw new Error('Connection terminated unexpectedly');
              return answer;
            };
          },
        });
    },
  });
}

function bound(target: object, name: string | symbol): unknown {
  const value: unknown = Reflect.get(target, name, target);
  return typeof value === 'function' ? (value.bind(target) as unknown) : value;
}
