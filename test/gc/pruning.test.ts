// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Old entries of tags and old deletions go, in their time and their order; what counts stays what it is, also for a rebuild at any moment. */
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import t, { type Test } from 'tap';
import { forecast } from '../../src/collector/forecast.js';
import { databaseState, stateDifferences } from '../support/database-state.js';
import { freshDatabase } from '../support/postgres.js';
import { ha } from '../support/program.js';
import { s3Server, s3Settings, stopS3Servers, type S3Server } from '../support/s3-server.js';
import { digestOf, imageOf, imageWithBlobs, pushBlob, putManifest } from '../support/wire-suite.js';
import { meet } from './meet.js';
import { openPlace, type Place } from './place.js';

const gaps = ['gc.prune.looked', 'gc.prune.committed', 'gc.trash.claimed', 'gc.trash.deleted'];
const image = (v: string): string => imageOf([], { annotations: { v } });

const server = await s3Server();
t.teardown(stopS3Servers);
const missing = 'missing' in server && `PRUNING ON S3 IS NOT TESTED: ${server.missing}`;
if (missing) console.error(missing);
const gc = { repositories: [{ match: 'stays/longer', undo_window: '10d' }] };

// One after another: what holds the code is there once in a process. A bucket has the same steps, and needs not all of them.
for (const [title, skip, storage] of [
  ['on a directory', false, () => Promise.resolve({})],
  ['on a bucket', missing, async () => ({ storage: { s3: await s3Settings(server as S3Server) } })],
] as const) {
  const isWhole = title === 'on a directory';
  const open = async (t: Test): Promise<Place> => openPlace(t, { gc, ...(await storage()) });
  void t.test(title, { skip }, async (t) => {
    await t.test('what goes, and when', async (t) => whatGoes(t, await open(t)));
    if (isWhole) await t.test('what stays', async (t) => whatStays(t, await open(t)));
    for (const gap of isWhole ? ['gc.prune.looked', 'gc.prune.committed', 'gc.trash.deleted'] : ['gc.trash.deleted'])
      await t.test(`a rebuild after a crash at ${gap}`, async (t) => crash(t, await open(t), gap));
    if (isWhole) await t.test('pushes in each gap', async (t) => pushesInGaps(t, await open(t)));
  });
}

/** A tag that moved twice, one that was deleted, one that was deleted and came back; a manifest and a blob that were deleted. */
async function leaveHistory(place: Place, repository: string): Promise<void> {
  const { client } = place;
  await pushBlob(client, repository, '{}');
  for (const v of ['1', '2', '3']) await putManifest(client, repository, 'moved', image(v));
  for (const tag of ['gone', 'back']) {
    await putManifest(client, repository, tag, image('3'));
    await client.send('DELETE', `/v2/${repository}/manifests/${tag}`);
  }
  await putManifest(client, repository, 'back', image('3'));
  const deleted = await imageWithBlobs(client, repository, ['of the deleted']);
  await putManifest(client, repository, 'with-it', deleted);
  await client.send('DELETE', `/v2/${repository}/manifests/${digestOf(deleted)}`);
  await client.send('DELETE', `/v2/${repository}/blobs/${await pushBlob(client, repository, 'deleted')}`);
  await place.emptyTrash();
}

async function rounds(place: Place, count: number): Promise<void> {
  for (let round = 0; round < count; round++) {
    await place.prune();
    await place.emptyTrash();
  }
}

async function whatGoes(t: Test, place: Place): Promise<void> {
  const { client, store, collection } = place;
  const repository = 'prune/all';
  await leaveHistory(place, repository);
  const tags = (name: string): Promise<string[]> => store.list(`repositories/${repository}/_tags/${name}/`);
  const deletions = async (): Promise<string[]> =>
    (await store.list(`repositories/${repository}/`)).filter((key) => key.endsWith('.deleted'));
  t.equal((await deletions()).length, 5, 'three tags’, a manifest’s, a blob’s');
  await place.age('6 days');
  await rounds(place, 2);
  t.equal(collection.counters.records, 0, 'nothing inside the window');

  await place.age('25 hours');
  const foreseen: string[] = [];
  for await (const thing of forecast(collection)) if (thing.kind === 'record') foreseen.push(thing.key);
  const before = await store.list(`repositories/${repository}/`);
  await rounds(place, 1);
  const after = new Set(await store.list(`repositories/${repository}/`));
  t.strictSame(
    foreseen.toSorted(),
    before.filter((key) => !after.has(key)),
    'what was foreseen is what went',
  );
  t.strictSame([(await tags('moved')).length, (await tags('back')).length], [1, 1], 'the newest entry of a tag is left');
  t.strictSame([(await tags('gone')).length, (await tags('with-it')).length], [1, 1], 'and of a deleted one its deletion');
  t.equal((await deletions()).length, 2, 'deletions of what is gone already go at once');

  await rounds(place, 1);
  t.strictSame(await deletions(), [], 'a deletion goes after what it hid');
  t.strictSame([...(await tags('gone')), ...(await tags('with-it'))], []);
  t.equal(collection.counters.records, foreseen.length + 2);
  t.strictSame(await place.sql('SELECT path FROM tombstones'), []);
  t.equal((await place.sql('SELECT name FROM tag_history')).length, 2);
  for (const tag of ['moved', 'back'])
    t.equal((await client.send('GET', `/v2/${repository}/manifests/${tag}`)).body.toString(), image('3'));
  for (const tag of ['gone', 'with-it']) t.equal((await client.send('GET', `/v2/${repository}/manifests/${tag}`)).status, 404);
  await rounds(place, 2);
  t.equal(collection.counters.records, foreseen.length + 2, 'no more');
  const { difference } = await rebuilt(place);
  t.strictSame(difference, [], 'a rebuild gives the same');
}

async function whatStays(t: Test, place: Place): Promise<void> {
  const { client, store } = place;
  const deletedTag = async (repository: string): Promise<string> => {
    await pushBlob(client, repository, '{}');
    await putManifest(client, repository, 'tag', image('1'));
    await client.send('DELETE', `/v2/${repository}/manifests/tag`);
    return `repositories/${repository}/_tags/tag/`;
  };
  const stays = async (prefix: string, why: string): Promise<void> => {
    await rounds(place, 3);
    t.ok(
      (await store.list(prefix)).some((key) => key.endsWith('.deleted')),
      why,
    );
    t.equal((await place.sql('SELECT 1 FROM tombstones WHERE path = $1', [prefix])).length, 1, 'so does its row');
  };
  const goes = async (prefix: string): Promise<void> => {
    await rounds(place, 3);
    t.strictSame(await store.list(prefix), [], 'and goes after that');
  };

  await t.test('a deletion while a write below it is pending', async () => {
    const repository = 'stays/pending';
    await pushBlob(client, repository, '{}');
    await putManifest(client, repository, 'tag', image('1'));
    const hold = place.hold('write.prepared');
    const push = putManifest(client, repository, 'tag', image('2'));
    await hold.reached;
    await client.send('DELETE', `/v2/${repository}/manifests/tag`);
    await place.age('8 days');
    await stays(`repositories/${repository}/_tags/tag/`, 'the deletion');
    hold.release();
    t.equal((await push).status, 201, 'it is written above the deletion');
    t.equal((await client.send('GET', `/v2/${repository}/manifests/tag`)).body.toString(), image('2'));
  });

  await t.test('a deletion while something that it hides is in the store', async () => {
    const prefix = await deletedTag('stays/late');
    await place.age('8 days');
    await rounds(place, 1);
    // A PUT of a write that was given up.
    const late = `${prefix}09223372036854775806.sha256.${digestOf(image('1')).slice(7)}`;
    await store.put(late, Buffer.from('{}'));
    await stays(prefix, 'the deletion');
    await store.delete([late]);
    await goes(prefix);
  });

  await t.test('a deletion while something below it may still land', async () => {
    const prefix = await deletedTag('stays/given-up');
    await place.age('8 days');
    await place.sql(`INSERT INTO object_trash (key, reason, not_before) VALUES ($1, 'expired', now() + interval '12 hours')`, [
      `${prefix}09223372036854775806.sha256.${'0'.repeat(64)}`,
    ]);
    await stays(prefix, 'the deletion');
    await place.age('13 hours');
    await goes(prefix);
  });

  await t.test('history whose newer entry the store has lost', async () => {
    const repository = 'stays/lost';
    await pushBlob(client, repository, '{}');
    for (const v of ['1', '2']) await putManifest(client, repository, 'tag', image(v));
    const [newest = '', older = ''] = await store.list(`repositories/${repository}/_tags/tag/`);
    await store.delete([newest]);
    await place.age('8 days');
    await rounds(place, 2);
    t.strictSame(await store.list(`repositories/${repository}/_tags/tag/`), [older]);
  });

  await t.test('all of what was taken over from another program’s store, which may be taken over again', async () => {
    const prefix = await deletedTag('stays/foreign');
    const foreign = 'docker/registry/v2/repositories/stays/foreign/_manifests/tags/tag/current/link';
    await store.put(foreign, Buffer.from(digestOf(image('1'))));
    await place.age('8 days');
    await stays(prefix, 'the deletion');
    t.equal((await store.list(prefix)).length, 2, 'with what it hides');
    await store.delete([foreign]);
    await goes(prefix);
  });

  await t.test('whatever has a longer window of its own', async () => {
    const prefix = await deletedTag('stays/longer');
    await place.age('8 days');
    await stays(prefix, 'the deletion');
    await place.age('3 days');
    await goes(prefix);
  });

  await t.test('everything where nothing may be collected', async () => {
    const prefix = await deletedTag('stays/hindered');
    await place.age('8 days');
    await place.sql(`UPDATE cluster SET gc_not_before = 'infinity'`);
    await stays(prefix, 'the deletion');
    await place.sql('UPDATE cluster SET gc_not_before = NULL');
    await goes(prefix);
  });
}

/** Whoever is held for ever has crashed there, as far as the store and the database can tell. */
async function crash(t: Test, place: Place, gap: string): Promise<void> {
  await leaveHistory(place, 'prune/crash');
  await place.age('8 days');
  const before = await databaseState(place.databaseUrl);
  const hold = place.hold(gap);
  const round = rounds(place, 2);
  await Promise.race([hold.reached, round.then(() => Promise.reject(new Error(`${gap} was not reached`)))]);
  const left = await databaseState(place.databaseUrl);
  const { state } = await rebuilt(place);
  const { tag_history: history = [], tombstones = [], ...live } = state;
  t.strictSame(live, withoutRecords(before), 'what counts is as it was');
  for (const [rows, table] of [
    [history, 'tag_history'],
    [tombstones, 'tombstones'],
  ] as const) {
    t.strictSame(
      rows.filter((row) => before[table]?.includes(row) !== true),
      [],
      `nothing that was not there, in ${table}`,
    );
    t.strictSame(
      left[table]?.filter((row) => !rows.includes(row)),
      [],
      `all that is left, in ${table}`,
    );
  }
  hold.release();
  await round;
  t.strictSame(withoutRecords(await databaseState(place.databaseUrl)), withoutRecords(before), 'nor does it matter who goes on');
}

async function pushesInGaps(t: Test, place: Place): Promise<void> {
  const { client } = place;
  for (const gap of gaps) {
    const repository = `prune/${gap}`;
    await leaveHistory(place, repository);
    await place.age('8 days');
    for (const tag of ['gone', 'moved']) {
      const pushed = await meet(
        place,
        gap,
        () => rounds(place, 2),
        () => putManifest(client, repository, tag, image(gap)),
      );
      t.equal(pushed.status, 201, `${tag} at ${gap}: ${pushed.body.toString()}`);
      t.equal((await client.send('GET', `/v2/${repository}/manifests/${tag}`)).body.toString(), image(gap));
      // There is something to prune for the next.
      await putManifest(client, repository, 'back', image(tag));
      await place.age('8 days');
    }
    await rounds(place, 3);
    for (const tag of ['gone', 'moved'])
      t.equal((await client.send('GET', `/v2/${repository}/manifests/${tag}`)).body.toString(), image(gap));
  }
  t.strictSame((await rebuilt(place)).difference, [], 'a rebuild gives the same');
}

/** The store as a rebuild reads it, into a database of its own. The store goes with that one from then on. */
async function rebuilt(place: Place): Promise<{ readonly state: Record<string, string[]>; readonly difference: string[] }> {
  const { url } = await freshDatabase();
  const settings = JSON.parse(await readFile(place.configFile, 'utf8')) as object;
  const file = path.join(place.root, 'rebuild.yaml');
  await writeFile(file, JSON.stringify({ ...settings, database: { url } }));
  const { code, stdout, stderr } = await ha(['rebuild', '--config', file, '--root', place.root]);
  if (code !== 0) throw new Error(stdout + stderr);
  return { state: await databaseState(url), difference: await stateDifferences(url, await databaseState(place.databaseUrl)) };
}

function withoutRecords({ tag_history: _history, tombstones: _tombstones, ...live }: Record<string, string[]>): Record<string, string[]> {
  return live;
}
