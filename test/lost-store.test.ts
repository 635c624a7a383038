// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** A store that vanishes as a whole under a running node: nothing is acknowledged, nothing is taken for lost or for deleted, and all goes on when it is back. */
import { cp, mkdir, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import t, { type Test } from 'tap';
import { openPlace } from './gc/place.js';
import { rowsOf } from './support/database-state.js';
import { errorCode, HttpClient, jsonOf, type Answer } from './support/http-client.js';
import { freshDatabase } from './support/postgres.js';
import { ha } from './support/program.js';
import { startRegistry, type RunningRegistry } from './support/registry.js';
import { stopS3Servers } from './support/s3-server.js';
import { missingStore, newStore, type TestStore } from './support/stores.js';
import { vanishingStore } from './support/vanishing-store.js';
import { bytesOf, digestOf, imageWithBlobs, openSession, pushBlob, putManifest, until, withDigest } from './support/wire-suite.js';

t.jobs = 2;
t.teardown(stopS3Servers);

const layer = bytesOf(200_000, 'layer');
const refused = bytesOf(300_000, 'refused');
const upload = bytesOf(200_000, 'upload');
const goneMessage = 'has lost its marks';

interface Stage {
  readonly store: TestStore;
  readonly url: string;
  readonly config: object;
  readonly node: RunningRegistry;
  readonly client: HttpClient;
}

async function open(kind: 'filesystem' | 's3', settings: object): Promise<Stage> {
  const { url } = await freshDatabase();
  const store = await newStore(kind);
  const config = { database: { url }, storage: store.storage, workers: { threads: 1 }, log: { level: 'info' }, ...settings };
  const node = await startRegistry({ root: store.root, config });
  return { store, url, config, node, client: new HttpClient(node.port) };
}

/** Everything that a scrub may change. */
async function rows({ url }: Stage): Promise<object> {
  const all = (text: string): Promise<object[]> => rowsOf(url, text);
  return {
    damaged: await all('SELECT digest FROM blobs WHERE damaged'),
    links: await all('SELECT digest, sequence FROM repository_blobs ORDER BY digest'),
    manifests: await all('SELECT digest, sequence FROM manifests ORDER BY digest'),
    tags: await all('SELECT name, sequence FROM tag_history ORDER BY sequence'),
  };
}

const readiness = async ({ client }: Stage): Promise<{ status: number; state: string }> => {
  const answer = await client.send('GET', '/readyz');
  return { status: answer.status, state: jsonOf<{ status: string }>(answer).status };
};

const untilLost = (stage: Stage) => until('the loss is noticed', async () => (await readiness(stage)).status === 503);
const untilBack = (stage: Stage) => until('the node is ready', async () => (await readiness(stage)).state === 'ready');
const lines = ({ node }: Stage, text: string): number => node.log().split(text).length - 1;

async function isUnavailable(t: Test, what: string, asked: Promise<Answer>): Promise<void> {
  const answer = await asked;
  t.strictSame([answer.status, errorCode(answer)], [503, 'UNAVAILABLE'], `${what} is refused`);
  t.match(answer.headers['retry-after'], /^\d+$/, `${what}: Retry-After`);
}

for (const kind of ['filesystem', 's3'] as const) {
  void t.test(`${kind}: the store is away`, { buffered: true, skip: await missingStore(kind) }, async (t) => {
    const stage = await open(kind, { server: { engine: kind === 's3' ? 'node' : 'uws' }, scrub: { enabled: true, cycle: '1s' } });
    const { client, node, store, url } = stage;
    t.teardown(() => client.close());
    const place = vanishingStore(store);
    const image = await imageWithBlobs(client, 'one', [layer]);
    t.equal((await putManifest(client, 'one', 'v1', image)).status, 201);
    const session = await openSession(client, 'one');
    t.equal((await client.send('PATCH', session, { body: upload.subarray(0, 100_000) })).status, 202);
    const before = await rows(stage);

    await place.vanish();
    const push = (bytes: Uint8Array) => client.send('POST', `/v2/one/blobs/uploads/?digest=${digestOf(bytes)}`, { body: bytes });
    if (kind === 'filesystem') {
      await isUnavailable(t, 'the first blob', push(refused));
      await isUnavailable(t, 'the first manifest', putManifest(client, 'one', 'v2', image));
    }
    await untilLost(stage);
    await isUnavailable(t, 'a blob', push(refused));
    await isUnavailable(t, 'a small blob', push(refused.subarray(0, 10)));
    await isUnavailable(t, 'a manifest', putManifest(client, 'one', 'v2', image));
    await isUnavailable(t, 'a deletion', client.send('DELETE', '/v2/one/manifests/v1'));
    await isUnavailable(t, 'an upload under way', client.send('PATCH', session, { body: upload.subarray(100_000) }));
    await isUnavailable(t, 'a pull', client.send('GET', `/v2/one/blobs/${digestOf(layer)}`));
    t.match((await client.send('GET', '/metrics')).body.toString(), /^registry_store_lost 1$/m, 'it is a metric');
    t.strictSame(await rows(stage), before, 'nothing is damaged, nothing was written again');
    t.strictSame(await place.bare.list(/^(?!cluster\/check)/), [], 'nothing was left in its place');

    await place.comeBack();
    await untilBack(stage);
    t.ok((await client.send('GET', `/v2/one/blobs/${digestOf(layer)}`)).body.equals(layer), 'a pull');
    t.equal((await client.send('GET', '/v2/one/manifests/v2')).status, 404, 'what was refused is not there');
    await until('the upload is free', async () => (await client.send('GET', session)).status === 204);
    t.equal((await client.send('PATCH', session, { body: upload.subarray(100_000) })).status, 202, 'the upload goes on');
    t.equal((await client.send('PUT', withDigest(session, digestOf(upload)), { body: '' })).status, 201);
    t.ok((await client.send('GET', `/v2/one/blobs/${digestOf(upload)}`)).body.equals(upload));
    t.equal((await push(refused)).status, 201, 'a push');
    t.strictSame([lines(stage, goneMessage), lines(stage, 'the store is back')], [1, 1], 'one line when it goes, one when it comes back');
    const errors = node
      .log()
      .split('\n')
      .filter((line) => /"level":("error"|50)/.test(line) && !line.includes(goneMessage));
    t.strictSame(errors, [], 'nothing else is told');

    // A database that has to be verified meanwhile is no reason to mark what is there now.
    await place.vanish();
    await untilLost(stage);
    await rowsOf(url, 'UPDATE cluster SET generation = generation + 1');
    await rowsOf(
      url,
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'ha-registry reads'`,
    );
    await until('the database waits for the store', () => lines(stage, 'the database cannot be verified yet') > 0);
    t.strictSame(await place.bare.list(/^cluster\/generations/), [], 'no mark is made');
    await place.comeBack();
    await untilBack(stage);
    await until('pushes go on', async () => (await putManifest(client, 'one', 'v2', image)).status === 201);
    t.equal(await node.stop(), 0);

    await place.vanish();
    const file = path.join(store.root, 'rebuild.yaml');
    await writeFile(file, JSON.stringify(stage.config));
    const rebuilt = await ha(['rebuild', '--replace', '--root', store.root, '--config', file]);
    t.equal(rebuilt.code, 1, 'nothing is rebuilt from nothing');
    t.match(rebuilt.stderr, /has no owner.*is it mounted/);
    t.equal((await rowsOf(url, 'SELECT FROM manifests')).length, 1, 'and nothing thrown away');
  });

  void t.test(`${kind}: what is to be deleted`, { buffered: true, skip: await missingStore(kind) }, async (t) => {
    const store = await newStore(kind);
    const place = await openPlace(t, { root: store.root, storage: store.storage });
    const vanishing = vanishingStore({ ...store, root: place.root });
    await pushBlob(place.client, 'one', layer);
    t.equal((await place.client.send('DELETE', `/v2/one/blobs/${digestOf(layer)}`)).status, 202);
    await place.age('10d');
    await place.collect();
    const trash = (): Promise<object[]> => place.sql('SELECT key FROM object_trash ORDER BY key');
    await place.age('10d');
    const waiting = await trash();
    t.ok(waiting.length > 0, 'something waits');
    const objects = await vanishing.bare.list(/^(data|repositories)\//);
    const held = place.hold('gc.trash.claimed');
    const emptying = place.emptyTrash({ obstacle: () => place.continuity.obstacle });
    await held.reached;
    await vanishing.vanish();
    held.release();
    await emptying;
    t.strictSame(await trash(), waiting, 'what is missing with all else counts as left');
    t.equal(place.continuity.isStoreLost, true, 'and the loss is known at once');
    await t.rejects(place.continuity.requireStore(), { code: 'UNAVAILABLE' });
    await vanishing.comeBack();
    t.strictSame(await vanishing.bare.list(/^(data|repositories)\//), objects, 'all of it is there');
    await place.continuity.refresh();
    t.equal(place.continuity.isStoreLost, false);
    await place.age('10d');
    await place.emptyTrash({ obstacle: () => place.continuity.obstacle });
    t.ok((await vanishing.bare.list(/^(data|repositories)\//)).length < objects.length, 'and is deleted afterwards');
  });
}

void t.test('a copy from before lies where the store was mounted', { buffered: true }, async (t) => {
  const stage = await open('filesystem', { scrub: { enabled: true, cycle: '1s' } });
  const { client, node, store } = stage;
  t.teardown(async () => {
    client.close();
    await node.stop();
  });
  const directory = path.join(store.root, 'store');
  const image = await imageWithBlobs(client, 'one', []);
  t.equal((await putManifest(client, 'one', 'v1', image)).status, 201);
  await cp(directory, `${directory}.copy`, { recursive: true });
  await rm(`${directory}.copy/cluster/nodes`, { recursive: true });
  await mkdir(`${directory}.copy/cluster/nodes`);
  await imageWithBlobs(client, 'one', [layer]);
  const before = await rows(stage);

  await rename(directory, `${directory}.away`);
  await rename(`${directory}.copy`, directory);
  await isUnavailable(t, 'the first manifest', putManifest(client, 'one', 'v2', image));
  await untilLost(stage);
  t.strictSame(await rows(stage), before, 'nothing is damaged');
  await rename(directory, `${directory}.copy`);
  await rename(`${directory}.away`, directory);
  await untilBack(stage);
  t.strictSame(await rows(stage), before, 'nor afterwards');
  t.equal((await client.send('GET', '/v2/one/manifests/v2')).status, 404, 'what was refused is not there');
  t.equal((await putManifest(client, 'one', 'v2', image)).status, 201, 'pushes go on');
  t.equal(lines(stage, goneMessage), 1);
});
