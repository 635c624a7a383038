// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What stays, what goes, and when. */
import t from 'tap';
import { describe, digestOf, imageOf, imageWithBlobs, indexOf, pushBlob, putManifest, types } from '../support/wire-suite.js';
import { openPlace, type Place } from './place.js';

void t.test('liveness', async (t) => {
  const place = await openPlace(t, { gc: { repositories: [{ match: 'forever/*', untagged_after: 'never' }] } });
  const { client } = place;
  const exists = async (repository: string, kind: 'blobs' | 'manifests', digest: string): Promise<boolean> => {
    const table = kind === 'blobs' ? 'repository_blobs' : 'manifests';
    const rows = await place.sql(
      `SELECT 1 FROM ${table} x JOIN repositories r ON r.id = x.repository_id WHERE r.name = $1 AND x.digest = decode($2, 'hex')`,
      [repository, `01${digest.slice(7)}`],
    );
    return rows.length === 1;
  };
  const days = async (count: number): Promise<void> => {
    for (let day = 0; day < count; day++) {
      await place.age('1 day');
      await place.collect();
    }
  };

  await t.test('a blob that nothing refers to goes after the delay, its data after another', async (t) => {
    const digest = await pushBlob(client, 'loose/a', 'loose');
    await place.age('23 hours');
    await place.collect();
    t.ok(await exists('loose/a', 'blobs', digest), 'not before');
    await place.age('2 hours');
    await place.collect();
    t.notOk(await exists('loose/a', 'blobs', digest), 'then');
    t.equal((await client.send('HEAD', `/v2/loose/a/blobs/${digest}`)).status, 404);
    t.strictSame(await place.store.list('repositories/loose/'), [], 'the link’s entry is gone at once');
    t.equal((await place.store.list('data/')).length, 1, 'the data are not');
    await place.age('25 hours');
    await place.collect();
    t.strictSame(await place.store.list('data/'), [], 'a delay later they are');
    await place.age('25 hours');
    await place.collect();
    t.strictSame(await leftOver(place), [], 'and nothing is left to do');
    t.equal(place.collection.counters.dataBytes, 5);
  });

  await t.test('a tagged image stays, whatever it consists of', async (t) => {
    const layer = 'layer';
    const image = await imageWithBlobs(client, 'team/app', [layer]);
    await putManifest(client, 'team/app', 'v1', image);
    await days(20);
    t.equal((await client.send('GET', '/v2/team/app/manifests/v1')).body.toString(), image);
    t.equal((await client.send('GET', `/v2/team/app/blobs/${digestOf(layer)}`)).body.toString(), layer);
    t.strictSame(await place.sql('SELECT id FROM gc_links UNION ALL SELECT id FROM gc_manifests'), [], 'nobody looks at it any more');
  });

  await t.test('an untagged image goes a week after its tag, and its layers a day later', async (t) => {
    const image = imageOf(['layer'], { annotations: { v: '2' } });
    await putManifest(client, 'team/app', 'v1', image);
    const old = digestOf(imageOf(['layer']));
    await days(6);
    t.ok(await exists('team/app', 'manifests', old), 'history keeps the old one');
    await days(2);
    t.notOk(await exists('team/app', 'manifests', old), 'for a week');
    t.ok(await exists('team/app', 'manifests', digestOf(image)));
    await client.send('DELETE', '/v2/team/app/manifests/v1');
    await days(6);
    t.ok(await exists('team/app', 'manifests', digestOf(image)), 'a deleted tag keeps it as long');
    await days(1);
    t.notOk(await exists('team/app', 'manifests', digestOf(image)));
    t.ok(await exists('team/app', 'blobs', digestOf('layer')), 'what it referred to has its own time');
    await days(2);
    t.notOk(await exists('team/app', 'blobs', digestOf('layer')));
    await days(3);
    t.strictSame(await place.store.list('data/'), []);
  });

  await t.test('pushed by digest: a week, for ever where it is said so, and as long as it is pulled', async (t) => {
    const image = imageOf([]);
    for (const repository of ['seven/days', 'forever/here', 'pulled/often']) {
      await imageWithBlobs(client, repository, []);
      await putManifest(client, repository, digestOf(image), image);
    }
    await days(6);
    await place.sql(
      `UPDATE manifests SET pulled_at = clock_timestamp() WHERE repository_id = (SELECT id FROM repositories WHERE name = 'pulled/often')`,
    );
    await days(3);
    t.notOk(await exists('seven/days', 'manifests', digestOf(image)));
    t.ok(await exists('forever/here', 'manifests', digestOf(image)));
    t.ok(await exists('pulled/often', 'manifests', digestOf(image)));
    await days(6);
    t.notOk(await exists('pulled/often', 'manifests', digestOf(image)), 'a week after the last pull');
    t.ok(await exists('forever/here', 'manifests', digestOf(image)));
  });

  await t.test('an index keeps its children, a subject its referrers', async (t) => {
    const child = await imageWithBlobs(client, 'tree/a', ['tree']);
    await putManifest(client, 'tree/a', digestOf(child), child);
    const index = indexOf([describe(types.manifest, child)]);
    await putManifest(client, 'tree/a', 'list', index, types.index);
    const signature = imageOf([], { subject: describe(types.manifest, child), artifactType: 'example/signature' });
    await putManifest(client, 'tree/a', digestOf(signature), signature);
    await days(20);
    for (const text of [child, index, signature]) t.ok(await exists('tree/a', 'manifests', digestOf(text)));
    await client.send('DELETE', `/v2/tree/a/manifests/${digestOf(index)}`);
    await days(12);
    for (const text of [child, index, signature]) t.notOk(await exists('tree/a', 'manifests', digestOf(text)));
    await days(5);
    t.strictSame(await place.store.list('repositories/tree/a/_referrers/'), []);
    t.notOk(await exists('tree/a', 'blobs', digestOf('tree')));
  });

  await t.test('a cycle goes as one', async (t) => {
    // An index that is a referrer of its own child: each keeps the other.
    const child = await imageWithBlobs(client, 'cycle/a', []);
    await putManifest(client, 'cycle/a', digestOf(child), child);
    const index = indexOf([describe(types.manifest, child)], { subject: describe(types.manifest, child) });
    await putManifest(client, 'cycle/a', 'ring', index, types.index);
    await days(20);
    t.ok(await exists('cycle/a', 'manifests', digestOf(child)));
    await client.send('DELETE', '/v2/cycle/a/manifests/ring');
    await days(9);
    t.notOk(await exists('cycle/a', 'manifests', digestOf(index)));
    t.notOk(await exists('cycle/a', 'manifests', digestOf(child)));
  });

  await t.test('a referrer without its subject ages like an untagged manifest', async (t) => {
    const subject = imageOf([], { annotations: { never: 'pushed' } });
    const referrer = imageOf([], { subject: describe(types.manifest, subject) });
    await imageWithBlobs(client, 'orphan/a', []);
    await putManifest(client, 'orphan/a', digestOf(referrer), referrer);
    await days(6);
    t.ok(await exists('orphan/a', 'manifests', digestOf(referrer)));
    await days(2);
    t.notOk(await exists('orphan/a', 'manifests', digestOf(referrer)));
  });

  await t.test('a hold keeps', async (t) => {
    const image = await imageWithBlobs(client, 'held/a', []);
    await putManifest(client, 'held/a', digestOf(image), image);
    await place.sql(`INSERT INTO manifest_holds (repository_id, digest, reason) SELECT m.repository_id, m.digest, 'test' FROM manifests m
                     JOIN repositories r ON r.id = m.repository_id WHERE r.name = 'held/a'`);
    await days(12);
    t.ok(await exists('held/a', 'manifests', digestOf(image)));
    await place.sql('DELETE FROM manifest_holds');
    await days(2);
    t.notOk(await exists('held/a', 'manifests', digestOf(image)));
  });
});

/** All that the collector has left in its tables. */
function leftOver({ sql }: Place): Promise<unknown[]> {
  return sql(`SELECT 'link' FROM gc_links UNION ALL SELECT 'manifest' FROM gc_manifests UNION ALL SELECT 'blob' FROM gc_blobs
              UNION ALL SELECT key FROM object_trash UNION ALL SELECT 'stored' FROM blobs`);
}
