// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** `ha-registry rebuild`: the index is lost, and comes back from the store. */
import { createHash } from 'node:crypto';
import { rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import t, { type Test } from 'tap';
import { differences, populate, type Expected } from './support/populate.js';
import { databaseState, rowsOf, stateDifferences, tagTimes } from './support/database-state.js';
import { freshDatabase } from './support/postgres.js';
import { HttpClient } from './support/http-client.js';
import { ha, haKilled, main, type Ending } from './support/program.js';
import { quickDirectory, startRegistry, temporaryDirectory } from './support/registry.js';
import { s3Server, s3Settings, stopS3Servers, type S3Server } from './support/s3-server.js';
import { filesOf, objectsOf, storedTagTimes, type StoredObjects } from './support/stored-objects.js';
import { describe, digestOf, imageOf, imageWithBlobs, indexOf, pushBlob, putManifest, types, until } from './support/wire-suite.js';

t.jobs = 2;
const server = await s3Server();
t.teardown(stopS3Servers);
const missing = 'missing' in server && `A REBUILD FROM S3 IS NOT TESTED: ${server.missing}`;
if (missing) console.error(missing);
const s3 = server as S3Server;

/** A store, and what reads it behind the registry's back. */
interface Store {
  readonly storage: object;
  readonly objects: StoredObjects;
}

interface Place extends Store {
  readonly url: string;
  readonly configFile: string;
}

type NewStore = () => Promise<Store>;

async function directoryStore(): Promise<Store> {
  const root = await quickDirectory('rebuild-');
  return { storage: { fs: { root_dir: root } }, objects: filesOf(root) };
}

async function bucketStore(prefix: string): Promise<Store> {
  const settings = await s3Settings(s3, prefix === '' ? {} : { prefix });
  return { storage: { s3: settings }, objects: objectsOf(s3, settings.bucket, prefix === '' ? '' : `${prefix}/`) };
}

/** Each of them on every store. */
function onStores(title: string, test: (t: Test, newStore: NewStore) => Promise<void>): void {
  void t.test(`${title}: a directory`, { buffered: true }, (t) => test(t, directoryStore));
  void t.test(`${title}: a bucket, below a prefix`, { buffered: true, skip: missing }, (t) => test(t, () => bucketStore('deep/down')));
}

/** The store with a new database. */
async function placeOf({ storage, objects }: Store): Promise<Place> {
  const { url } = await freshDatabase();
  return withDatabase({ storage, objects }, url);
}

async function withDatabase({ storage, objects }: Store, url: string): Promise<Place> {
  const configFile = path.join(await temporaryDirectory('config-'), 'registry.yaml');
  await writeFile(configFile, JSON.stringify(configOf(storage, url)));
  return { storage, objects, url, configFile };
}

function configOf(storage: object, url: string): object {
  return { database: { url }, storage, workers: { threads: 1 }, log: { level: 'warn' } };
}

async function withNode<T>({ storage, url }: Place, use: (client: HttpClient) => Promise<T>): Promise<T> {
  const registry = await startNode({ storage, url });
  const client = new HttpClient(registry.port);
  try {
    return await use(client);
  } catch (error) {
    throw new Error(`${String(error)}\n${registry.log()}`, { cause: error });
  } finally {
    client.close();
    await registry.stop();
  }
}

/** Without --root, which would win over the file. */
function startNode({ storage, url }: Pick<Place, 'storage' | 'url'>): ReturnType<typeof startRegistry> {
  return startRegistry({
    config: configOf(storage, url),
    launch: ({ port, configFile }) => ({
      command: process.execPath,
      args: [main, 'serve', '--config', configFile ?? '', '-p', String(port)],
    }),
  });
}

function startRefused(place: Place): Promise<string> {
  return startNode(place).then(
    (registry) => registry.stop().then(() => 'started'),
    (error: unknown) => String(error),
  );
}

function rebuild({ configFile }: Place, ...args: string[]): Promise<Ending> {
  return ha(['rebuild', '--config', configFile, ...args]);
}

interface Report {
  readonly repositories: number;
  readonly manifests: number;
  readonly links: number;
  readonly tags: number;
  readonly findings: number;
  readonly listed: readonly { readonly key: string; readonly reason: string; readonly kept?: boolean }[];
}

async function report(t: Test, place: Place, ...args: string[]): Promise<Report> {
  const { code, stdout, stderr } = await rebuild(place, '--json', ...args);
  t.strictSame([code, stderr], [0, ''], `rebuild ${args.join(' ')}`);
  return JSON.parse(stdout) as Report;
}

onStores('everything comes back', async (t, newStore) => {
  const place = await placeOf(await newStore());
  const expected = await withNode(place, async (client) => {
    const all = await populate(client, { repositories: 12, tags: 3 });
    await until('what is superseded has been deleted', async () => (await rowsOf(place.url, 'SELECT FROM object_trash')).length === 0);
    return all;
  });
  const before = await databaseState(place.url);
  const files = await place.objects.keys(/./);

  const lost = await placeOf(place);
  const refused = await startRefused(lost);
  t.match(refused, 'ha-registry rebuild', 'beside a store of another database, a node names the command');

  const { repositories, manifests, links, tags, findings } = await report(t, lost);
  t.strictSame(await stateDifferences(lost.url, before), [], 'row by row');
  t.same(await unqueued(lost.url), [], 'the collector will look at each link and manifest');
  const count = (table: string): number => before[table]?.length ?? 0;
  t.strictSame(
    [repositories, manifests, links, tags, findings],
    [count('repositories'), count('manifests'), count('repository_blobs'), count('tags'), 0],
    'and as many as were counted',
  );
  t.strictSame(
    await tagTimes(lost.url),
    await storedTagTimes(place.objects),
    'times of tags, those of their deletions too, are as they were',
  );
  t.strictSame(await place.objects.keys(/./), files, 'the store is as it was');
  const [old] = await rowsOf<{ last: string }>(place.url, 'SELECT last_value AS last FROM entry_sequence');
  const [state] = await rowsOf<{ last: string; waits: boolean; begun: boolean; same: boolean }>(
    lost.url,
    `SELECT last_value AS last, gc_not_before > now() + interval '1 hour' AS waits, rebuild_started_at IS NOT NULL AS begun FROM entry_sequence, cluster`,
  );
  t.ok(BigInt(state?.last ?? 0) > BigInt(old?.last ?? 0), 'sequences go on above the old ones');
  t.strictSame([state?.waits, state?.begun], [true, false], 'collection waits, and the rebuild is over');

  await withNode(lost, async (client) => {
    t.strictSame(await differences(client, expected), [], 'every answer is as before');
    const image = await imageWithBlobs(client, 'team0', ['something new']);
    t.equal((await putManifest(client, 'team0', 'tag-0', image)).status, 201, 'pushes go on');
    t.equal((await client.send('GET', '/v2/team0/manifests/tag-0')).body.toString(), image, 'on top of what was there');
  });

  const again = await rebuild(lost);
  t.equal(again.code, 1, 'a database that is not empty');
  t.match(again.stderr, '--replace', 'is refused, with what to do');
  const afterPush = await databaseState(lost.url);
  await report(t, lost, '--replace', '--verify');
  t.strictSame(await stateDifferences(lost.url, afterPush), [], 'replaced by the same');
});

void t.test('beside a node it is refused', { buffered: true }, async (t) => {
  const place = await placeOf(await directoryStore());
  await withNode(place, async (client) => {
    await pushBlob(client, 'alive', 'x');
    for (const args of [[], ['--replace']]) {
      const { code, stderr } = await rebuild(place, ...args);
      t.equal(code, 1, `rebuild ${args.join(' ')}`);
      t.match(stderr, 'a node is running', 'says why');
      t.notMatch(stderr, /\n\s+at /, 'without a stack');
    }
    t.equal((await client.send('GET', `/v2/alive/blobs/${digestOf('x')}`)).status, 200, 'nothing is lost');
  });
});

void t.test('the embedded database', { buffered: true }, async (t) => {
  const root = await temporaryDirectory('embedded-');
  const start = async () => {
    const registry = await startRegistry({ root, config: { workers: { threads: 1 } } });
    return { registry, client: new HttpClient(registry.port) };
  };
  const first = await start();
  const image = await imageWithBlobs(first.client, 'embedded', ['layer']);
  await putManifest(first.client, 'embedded', 'v1', image);
  const refused = await ha(['rebuild', '--root', root]);
  t.equal(refused.code, 1, 'while the node runs');
  t.match(refused.stderr, 'a node is running', 'the command finds its database, and the node in it');
  first.client.close();
  await first.registry.stop();
  await rm(path.join(root, 'postgres'), { recursive: true });
  const { code, stdout, stderr } = await ha(['rebuild', '--root', root]);
  t.strictSame([code, stderr], [0, ''], 'without a node it starts the database itself');
  t.match(stdout, 'restored 1 repositories, 1 manifests, 2 links, 1 tags');
  const second = await start();
  t.equal((await second.client.send('GET', '/v2/embedded/manifests/v1')).body.toString(), image, 'and a node finds it');
  second.client.close();
  await second.registry.stop();
});

onStores('what does not fit is reported and not served', async (t, newStore) => {
  const place = await placeOf(await newStore());
  const { objects } = place;
  const key = async (pattern: RegExp): Promise<string> => (await objects.keys(pattern))[0] ?? '';
  const damage = async (at: string, change: (bytes: Buffer) => string | Uint8Array) => objects.write(at, change(await objects.read(at)));
  const dataOf = async (text: string): Promise<string> => {
    const uuid = (await key(linkOf(text))).split('.').at(-1) ?? '';
    return `data/${uuid.slice(-2)}/${uuid}`;
  };
  const images: Record<string, string> = {};
  const expected: Expected = new Map();
  await withNode(place, async (client) => {
    for (const name of ['whole', 'torn', 'bent', 'dataless', 'rotten', 'cut', 'vanished', 'undone', 'kept']) {
      images[name] = await imageWithBlobs(client, 'faults', [`layer of ${name}`], { annotations: { name } });
      await putManifest(client, 'faults', name, images[name]);
    }
    const referrer = imageOf([], { artifactType: 'application/x', subject: describe(types.manifest, images['whole'] ?? '') });
    await putManifest(client, 'faults', digestOf(referrer), referrer);
    // As a crash leaves a deletion: the manifest's entry is there, the tag's is not.
    await client.send('DELETE', `/v2/faults/manifests/${digestOf(images['undone'] ?? '')}`);
    await until('nothing is left to delete', async () => (await rowsOf(place.url, 'SELECT FROM object_trash')).length === 0);
  });
  const image = (name: string): string => images[name] ?? '';
  expected.set('/v2/faults/manifests/whole', digestOf(image('whole')));
  // Manifests: one cut short, one with another byte, one whose entry is gone.
  const torn = await key(manifestOf(image('torn')));
  await damage(torn, (bytes) => bytes.subarray(0, 40));
  const bent = await key(manifestOf(image('bent')));
  await damage(bent, (bytes) => bytes.toString().replace('bent', 'Bent'));
  const vanished = await key(/_tags\/vanished\//);
  await objects.remove(await key(manifestOf(image('vanished'))));
  for (const name of ['torn', 'bent', 'vanished']) {
    expected.set(`/v2/faults/manifests/${name}`, '404');
    expected.set(`/v2/faults/manifests/${digestOf(image(name))}`, '404');
  }
  // Blobs: data gone, another byte in them, fewer bytes.
  const dataless = await key(linkOf('layer of dataless'));
  await objects.remove(await dataOf('layer of dataless'));
  const rotten = await dataOf('layer of rotten');
  await objects.write(rotten, 'LAYER of rotten');
  const cut = await dataOf('layer of cut');
  await damage(cut, (bytes) => bytes.subarray(0, 3));
  for (const name of ['dataless', 'rotten', 'cut']) {
    expected.set(`/v2/faults/blobs/${digestOf(`layer of ${name}`)}`, '404');
    expected.set(`/v2/faults/manifests/${name}`, digestOf(image(name)));
  }
  const undone = await key(/_tags\/undone\/.*deleted$/);
  await objects.remove(undone);
  expected.set('/v2/faults/manifests/undone', '404');
  const referrer = await key(/_referrers\//);
  await objects.remove(referrer);
  // An entry that a newer one has passed, as a crash before its deletion leaves it, and what is no entry at all.
  const kept = await key(manifestOf(image('kept')));
  const older = `${path.dirname(kept)}/${'9'.repeat(19)}8`.replace('/99999999999999999998', '/09223372036854775806');
  await objects.write(older, 'Content-Type: x\n\n{}');
  const strange = 'repositories/faults/_manifests/sha256/readme.txt';
  await objects.write(strange, 'hello');
  expected.set('/v2/faults/manifests/kept', digestOf(image('kept')));

  const lost = await placeOf(place);
  const { listed } = await report(t, lost, '--verify');
  const found = new Map(listed.map((finding) => [finding.key, finding]));
  for (const [what, at, served] of [
    ['a manifest without an end', torn, false],
    ['a manifest with another byte', bent, false],
    ['a tag whose manifest was cut short', await key(/_tags\/torn\//), false],
    ['a tag whose manifest is gone', vanished, false],
    ['a link without data', dataless, false],
    ['data with other bytes', rotten, false],
    ['data with fewer bytes', cut, false],
    ['a file that is no entry', strange, false],
    ['a tag that should have gone with its manifest', await key(/_tags\/undone\/.*sha256/), true],
    ['a referrer without its entry', referrer, true],
  ] as const) {
    t.ok(found.has(at), `${what}: ${at}: ${found.get(at)?.reason}`);
    t.equal(found.get(at)?.kept, served ? true : undefined, 'and whether it counts');
  }
  t.equal(found.size, 11, `nothing else, but the tag of the other bad manifest: ${[...found.keys()].join('\n')}`);
  const quarantined = (await rowsOf<{ key: string }>(lost.url, 'SELECT key FROM quarantine')).map((row) => row.key);
  t.strictSame(
    quarantined.sort(),
    listed
      .filter(({ kept: counts }) => counts === undefined)
      .map((finding) => finding.key)
      .sort(),
    'is in quarantine',
  );
  t.same(await objects.keys(new RegExp(`^(${[undone, referrer].join('|')})$`)), [referrer, undone].sort(), 'what could be repaired was');
  t.same(await rowsOf(lost.url, 'SELECT key FROM object_trash'), [{ key: older }], 'what is passed goes to the trash');
  await withNode(lost, async (client) => {
    t.strictSame(await differences(client, expected), [], 'what is whole is served, and nothing else');
    await pushBlob(client, 'faults', 'layer of dataless');
    await pushBlob(client, 'faults', 'layer of rotten');
    for (const name of ['dataless', 'rotten']) {
      const { body } = await client.send('GET', `/v2/faults/blobs/${digestOf(`layer of ${name}`)}`);
      t.equal(body.toString(), `layer of ${name}`, `${name}: pushed again it is healed`);
    }
    t.equal((await client.send('GET', '/v2/faults/tags/list')).status, 200, 'tags are listed');
  });
});

onStores('two copies of a blob', async (t, newStore) => {
  const place = await placeOf(await newStore());
  await withNode(place, async (client) => {
    for (const repository of ['one', 'two']) {
      const image = await imageWithBlobs(client, repository, ['same']);
      await putManifest(client, repository, 'v1', image);
    }
  });
  // As a node leaves it that dies between its link and its commit, which another upload had overtaken.
  const { objects } = place;
  const [link = ''] = await objects.keys(new RegExp(`two/_blobs/sha256/${digestOf('same').slice(7)}/`));
  const uuid = link.split('.').at(-1) ?? '';
  const other = `${uuid.slice(0, -4)}${uuid.endsWith('beef') ? 'cafe' : 'beef'}`;
  await objects.remove(link);
  await objects.write(link.replace(uuid, other), '');
  await objects.write(`data/${other.slice(-2)}/${other}`, 'same');
  const lost = await placeOf(place);
  await report(t, lost);
  t.equal((await rowsOf(lost.url, `SELECT FROM blobs WHERE digest = $1`, [column('same')])).length, 1, 'one of them counts');
  await withNode(lost, async (client) => {
    for (const repository of ['one', 'two']) {
      t.equal((await client.send('GET', `/v2/${repository}/blobs/${digestOf('same')}`)).body.toString(), 'same', `${repository} has it`);
      t.equal((await client.send('GET', `/v2/${repository}/manifests/v1`)).status, 200, 'and its manifest');
    }
  });
  t.same(await rowsOf(lost.url, 'SELECT FROM missing_references'), [], 'nothing is missing');
  const state = await databaseState(lost.url);
  const third = await placeOf(place);
  await report(t, third);
  t.strictSame(
    (await databaseState(third.url))['repository_blobs']?.length,
    state['repository_blobs']?.length,
    'and a second rebuild agrees',
  );
});

onStores('killed in the middle', async (t, newStore) => {
  const place = await placeOf(await newStore());
  await withNode(place, async (client) => {
    await populate(client, { repositories: 30, tags: 4 });
    await until('what is superseded has been deleted', async () => (await rowsOf(place.url, 'SELECT FROM object_trash')).length === 0);
  });
  const before = await databaseState(place.url);
  const lost = await placeOf(place);
  // Each batch is a transaction; the rebuild is killed as soon as one is there.
  const killed = await haKilled(['rebuild', '--config', lost.configFile], async (ended) => {
    await until('something is restored', async () => ended() || (await hasBegun(lost)), 120_000);
  });
  if (!killed) t.comment('it was faster than the kill');
  else {
    const refused = await startRefused(lost);
    t.match(refused, /rebuild/, 'no node starts on half an index');
    await report(t, lost);
  }
  t.strictSame(await stateDifferences(lost.url, before), [], 'it goes on to the same end');
});

onStores('a database that went back in time', async (t, newStore) => {
  const place = await placeOf(await newStore());
  const images = new Map<string, string>();
  const tag = async (client: HttpClient, repository: string, name: string, text: string): Promise<void> => {
    const image = await imageWithBlobs(client, repository, [`layer of ${text}`], { annotations: { text } });
    images.set(text, image);
    if ((await putManifest(client, repository, name, image)).status !== 201) throw new Error(`pushing ${repository}:${name}`);
  };
  const digest = (text: string): string => digestOf(images.get(text) ?? '');
  const settled = () =>
    until('what is superseded has been deleted', async () => (await rowsOf(place.url, 'SELECT FROM object_trash')).length === 0);
  await withNode(place, async (client) => {
    for (const name of ['stays', 'moves', 'goes', 'dies', 'again']) await tag(client, 'old', name, name);
    await pushBlob(client, 'old', 'unlinked');
    await client.send('POST', '/v2/old/blobs/uploads/', { body: '' });
    await settled();
  });
  const backup = await copyDatabase(place.url);
  const before = await databaseState(place.url);
  await withNode(place, async (client) => {
    await tag(client, 'old', 'moves', 'moved');
    await client.send('DELETE', '/v2/old/manifests/goes');
    await client.send('DELETE', `/v2/old/manifests/${digest('dies')}`);
    await client.send('DELETE', `/v2/old/manifests/${digest('again')}`);
    await putManifest(client, 'old', 'again', images.get('again') ?? '');
    await client.send('DELETE', `/v2/old/blobs/${digestOf('unlinked')}`);
    await tag(client, 'new', 'v1', 'new');
    const child = images.get('new') ?? '';
    await putManifest(client, 'new', 'index', indexOf([describe(types.manifest, child)]), types.index);
    const referrer = imageOf([], { artifactType: 'application/x', subject: describe(types.manifest, child) });
    await putManifest(client, 'new', digestOf(referrer), referrer);
    await client.send('POST', `/v2/mounted/blobs/uploads/?mount=${digestOf('layer of new')}&from=new`, { body: '' });
    await settled();
  });
  const newest = await databaseState(place.url);
  t.not(JSON.stringify(before), JSON.stringify(newest), 'it has missed something');

  const old = await withDatabase(place, backup);
  const { code, stdout, stderr } = await rebuild(old, '--catch-up', '--json');
  t.strictSame([code, stderr], [0, ''], 'rebuild --catch-up');
  t.ok((JSON.parse(stdout) as { adopted: number }).adopted > 5, stdout.trim());
  await withNode(old, async (client) => {
    const pulls = Array.from({ length: 200 }, () => client.send('GET', '/v2/old/manifests/stays'));
    const beside = await rebuild(old, '--catch-up', '--json');
    t.match(JSON.parse(beside.stdout), { adopted: 0, dropped: 0 }, 'a second time, beside a node, there is nothing to do');
    t.ok(
      (await Promise.all(pulls)).every(({ status }) => status === 200),
      'pulls go on',
    );
    t.strictSame(await stateDifferences(backup, newest), [], 'everything it missed is there, row by row');
    t.equal((await client.send('GET', '/v2/new/manifests/v1')).body.toString(), images.get('new'), 'and is pulled');
    t.equal((await client.send('GET', '/v2/old/manifests/dies')).status, 404, 'what was deleted is gone');
    await tag(client, 'old', 'stays', 'after');
    t.equal((await client.send('GET', '/v2/old/manifests/stays')).body.toString(), images.get('after'), 'pushes come out on top');
  });
  const [{ waits } = { waits: false }] = await rowsOf<{ waits: boolean }>(
    backup,
    `SELECT gc_not_before > now() + interval '1 hour' AND gc_not_before < now() + interval '2 days' AS waits FROM cluster`,
  );
  t.ok(waits, 'collection waits for a day');

  // The other way round: rows whose entries are not in the store.
  for (const key of await place.objects.keys(/^repositories\/new\//)) await place.objects.remove(key);
  const kept = JSON.stringify((await databaseState(backup))['manifests']?.filter((row) => row.includes('"old"')));
  const lost = await rebuild(old, '--catch-up');
  t.strictSame([lost.code, lost.stderr], [0, ''], 'a store that lost a repository');
  const state = await databaseState(backup);
  t.equal(JSON.stringify(state['manifests']), kept, 'its rows are dropped, the others stay');
  for (const table of ['tags', 'tag_history', 'repository_blobs', 'manifest_blobs']) {
    t.notOk(
      state[table]?.some((row) => row.startsWith('["new"')),
      table,
    );
  }
});

const without = (table: string, queue: string): string =>
  `SELECT repository_id, digest FROM ${table} t WHERE NOT EXISTS (SELECT FROM ${queue} q WHERE q.repository_id = t.repository_id AND q.digest = t.digest)`;

/** What no queue of the collector leads to. */
function unqueued(url: string): Promise<object[]> {
  return rowsOf(url, `${without('repository_blobs', 'gc_links')} UNION ALL ${without('manifests', 'gc_manifests')}`);
}

/** As a dump that is restored: the same rows under another name. Nobody may be connected. */
async function copyDatabase(url: string): Promise<string> {
  const copy = new URL(url);
  copy.pathname = `${copy.pathname}_copy`;
  const admin = new URL(url);
  admin.pathname = '/postgres';
  await until('nobody is connected', () =>
    rowsOf(admin.href, `CREATE DATABASE ${copy.pathname.slice(1)} TEMPLATE ${new URL(url).pathname.slice(1)}`).then(
      () => true,
      () => false,
    ),
  );
  return copy.href;
}

async function hasBegun({ url }: Place): Promise<boolean> {
  const rows = await rowsOf(url, 'SELECT FROM rebuild_progress').catch(() => []);
  return rows.length > 0;
}

function manifestOf(text: string): RegExp {
  return new RegExp(`_manifests/sha256/${digestOf(text).slice(7)}/`);
}

function linkOf(text: string): RegExp {
  return new RegExp(`_blobs/sha256/${digestOf(text).slice(7)}/`);
}

function column(text: string): Buffer {
  return Buffer.concat([Buffer.from([1]), createHash('sha256').update(text).digest()]);
}
