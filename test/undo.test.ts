// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What was moved or deleted comes back, over HTTP and by commands, and stays what it is without Postgres and after a rebuild. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import t, { type Test } from 'tap';
import { age } from './support/ageing.js';
import { databaseState, rowsOf, stateDifferences } from './support/database-state.js';
import { HttpClient, type Answer } from './support/http-client.js';
import { freshDatabase } from './support/postgres.js';
import { ha } from './support/program.js';
import { startRegistry, temporaryDirectory } from './support/registry.js';
import { s3Server, s3Settings, stopS3Servers, type S3Server } from './support/s3-server.js';
import { startStoppablePostgres } from './support/stoppable-postgres.js';
import {
  describe,
  digestOf,
  imageWithBlobs,
  indexOf,
  onBothEngines,
  putManifest,
  startWireNode,
  stopWireNode,
  types,
  until,
} from './support/wire-suite.js';

const server = await s3Server();
t.teardown(stopS3Servers);
const missing = 'missing' in server && `UNDO ON S3 IS NOT TESTED: ${server.missing}`;
if (missing) console.error(missing);

const column = (digest: string) => `'\\x01${digest.slice('sha256:'.length)}'::bytea`;

/** A name made of what stands after names in our paths. */
const repository = 'api/v1/tags/x/history';
const api = `/api/v1/repositories/${repository}`;

interface Change {
  readonly sequence: string;
  readonly at: string;
  readonly by: string | null;
  readonly action: string;
  readonly digest: string | null;
  readonly restorable: boolean;
}

interface History {
  readonly digest: string | null;
  readonly history: readonly Change[];
}

async function history(client: HttpClient, tag: string, query = ''): Promise<History> {
  return json(await client.send('GET', `${api}/tags/${tag}/history${query}`)) as History;
}

function json({ status, body }: Answer, expected = 200): unknown {
  if (status !== expected) throw new Error(`${status} ${body.toString()}`);
  return JSON.parse(body.toString());
}

function post(client: HttpClient, to: string, body: object = {}): Promise<Answer> {
  return client.send('POST', `${api}/${to}`, { body: JSON.stringify(body) });
}

async function pulled(client: HttpClient, reference: string): Promise<string | number> {
  const { status, body } = await client.send('GET', `/v2/${repository}/manifests/${reference}`);
  return status === 200 ? digestOf(body) : status;
}

async function pushImage(client: HttpClient, tag: string, layer: string, more: object = {}): Promise<string> {
  const image = await imageWithBlobs(client, repository, [layer], more);
  const { status } = await putManifest(client, repository, tag, image);
  if (status !== 201) throw new Error(`pushing an image: ${status}`);
  return digestOf(image);
}

async function tagsComeBack(t: Test, client: HttpClient): Promise<void> {
  const [one, two] = [await pushImage(client, 'v', 'one'), await pushImage(client, 'v', 'two')];
  const between = (await history(client, 'v')).history[1]?.at ?? '';
  await client.send('DELETE', `/v2/${repository}/manifests/v`);
  t.strictSame(
    (await history(client, 'v')).history.map(({ action, digest, restorable, by }) => [action, digest, restorable, by]),
    [
      ['deleted', null, false, null],
      ['moved', two, true, null],
      ['created', one, true, null],
    ],
    'newest first',
  );

  t.match(
    json(await post(client, 'tags/v/restore')),
    { repository, tag: 'v', digest: two, before: null, restored: true, missing: [] },
    'what was deleted',
  );
  t.equal(await pulled(client, 'v'), two, 'is pulled again');
  t.match(json(await post(client, 'tags/v/restore')), { digest: one, before: two, restored: true }, 'what it pointed at before');
  t.match(json(await post(client, 'tags/v/restore', { to: two })), { digest: two }, 'by digest');
  t.match(json(await post(client, 'tags/v/restore', { to: two })), { digest: two, restored: false }, 'nothing to do');
  t.match(json(await post(client, 'tags/v/restore', { at: between })), { digest: one, before: two }, 'as it was then');
  t.equal(await pulled(client, 'v'), one, 'and is pulled');

  const all = await history(client, 'v');
  t.strictSame([all.digest, all.history[0]?.by, all.history.length], [one, 'loopback', 7], 'restores are part of the history');
  const page = await client.send('GET', `${api}/tags/v/history?n=3`);
  t.strictSame((json(page) as History).history, all.history.slice(0, 3), 'a page');
  const next = /^<(.+)>; rel="next"$/.exec(String(page.headers['link']))?.[1] ?? '';
  t.strictSame((json(await client.send('GET', next)) as History).history, all.history.slice(3, 6), 'and the next');
  t.strictSame((await history(client, 'v', '?n=0')).history, [], 'none');

  for (const [what, answer, status] of [
    ['a tag that never was', await post(client, 'tags/never/restore'), 404],
    ['the history of one', await client.send('GET', `${api}/tags/never/history`), 404],
    ['a digest that it never had', await post(client, 'tags/v/restore', { to: digestOf('x') }), 404],
    ['a time before it', await post(client, 'tags/v/restore', { at: '2001-01-01T00:00:00Z' }), 404],
    ['no time', await post(client, 'tags/v/restore', { at: 'yesterday' }), 400],
    ['both', await post(client, 'tags/v/restore', { at: between, to: one }), 400],
    ['an unknown key', await post(client, 'tags/v/restore', { from: one }), 400],
    ['no JSON', await client.send('POST', `${api}/tags/v/restore`, { body: '{' }), 400],
    ['a page after nonsense', await client.send('GET', `${api}/tags/v/history?last=x`), 400],
    ['a tag that is none', await client.send('GET', `${api}/tags/-/history`), 400],
    ['another method', await client.send('DELETE', `${api}/tags/v/history`), 405],
    ['another path', await client.send('GET', `${api}/tags/v/future`), 404],
  ] as const)
    t.equal(answer.status, status, `${what}: ${answer.body.toString()}`);
}

async function manifestsComeBack(t: Test, client: HttpClient): Promise<void> {
  const child = await imageWithBlobs(client, repository, ['of a child']);
  await putManifest(client, repository, digestOf(child), child);
  const index = indexOf([describe(types.manifest, child)]);
  for (const tag of ['a', 'b', 'c']) await putManifest(client, repository, tag, index, types.index);
  const signature = await imageWithBlobs(client, repository, ['signature'], {
    subject: describe(types.index, index),
    artifactType: 'test/signature',
  });
  await putManifest(client, repository, digestOf(signature), signature);
  const digest = digestOf(index);

  const remove = (of: string) => client.send('DELETE', `/v2/${repository}/manifests/${of}`);
  t.equal((await remove(digest)).status, 202);
  t.equal((await remove(digestOf(child))).status, 202);
  t.strictSame([await pulled(client, digest), await pulled(client, 'a')], [404, 404], 'gone');
  await pushImage(client, 'b', 'something else');
  await pushImage(client, 'c', 'for a moment');
  await remove('c');

  t.match(
    json(await post(client, `manifests/${digest}/restore`)),
    { repository, digest, restored: true, tags: ['a'], missing: [] },
    'comes back',
  );
  t.strictSame([await pulled(client, digest), await pulled(client, 'a')], [digest, digest], 'with its tag');
  t.equal(await pulled(client, digestOf(child)), digestOf(child), 'and what it lists');
  t.not(await pulled(client, 'b'), digest, 'a tag that went on stays where it is');
  t.equal(await pulled(client, 'c'), 404, 'one that was deleted again stays deleted');
  const { manifests } = json(await client.send('GET', `/v2/${repository}/referrers/${digest}`)) as { manifests: { digest: string }[] };
  t.strictSame(
    manifests.map((entry) => entry.digest),
    [digestOf(signature)],
    'and its referrers',
  );
  t.match(json(await post(client, `manifests/${digest}/restore`)), { restored: false, tags: [] }, 'nothing to do');

  await remove(digest);
  t.match(json(await post(client, `manifests/${digest}/restore`, { tags: false })), { restored: true, tags: [] }, 'without its tags');
  t.equal(await pulled(client, 'a'), 404);
  t.match(json(await post(client, `manifests/${digest}/restore`)), { restored: true, tags: ['a'] }, 'which may follow');
  t.equal(await pulled(client, 'a'), digest);
  t.match(json(await post(client, `manifests/${digest}/restore`)), { restored: false, tags: [] }, 'once');
  await remove(digest);
  t.match(json(await post(client, 'tags/a/restore')), { digest, restored: true }, 'a tag brings its manifest along');
  t.strictSame([await pulled(client, digest), await pulled(client, 'a')], [digest, digest]);

  const broken = await pushImage(client, 'broken', 'a layer that goes');
  await remove(broken);
  await client.send('DELETE', `/v2/${repository}/blobs/${digestOf('a layer that goes')}`);
  const refused = await post(client, `manifests/${broken}/restore`);
  t.equal(refused.status, 409, 'what has lost a layer');
  t.match(refused.body.toString(), digestOf('a layer that goes'), 'names it');
  t.equal(await pulled(client, broken), 404);
  t.equal((await post(client, `manifests/${digestOf('never')}/restore`)).status, 404, 'a manifest that never was');
}

onBothEngines({}, (t, { client, port }) => {
  void t.test('tags come back', (t) => tagsComeBack(t, client));
  void t.test('deleted manifests come back', (t) => manifestsComeBack(t, client));

  void t.test('for this machine alone', async (t) => {
    for (const [name, value] of [
      ['X-Forwarded-For', '127.0.0.1'],
      ['Forwarded', 'for=127.0.0.1'],
      ['X-Real-IP', '127.0.0.1'],
      ['Via', '1.1 proxy'],
      ['Host', 'registry.example'],
    ] as const) {
      const answer = await client.send('GET', `${api}/tags/v/history`, { headers: { [name]: value } });
      t.strictSame([answer.status, (json(answer, 403) as { errors: { code: string }[] }).errors[0]?.code], [403, 'DENIED'], name);
    }
    const foreign = await client.send('POST', `${api}/tags/v/restore`, { headers: { Origin: 'http://elsewhere.example' } });
    t.equal(foreign.status, 403, 'no page of another site');
    t.not(
      (await client.send('GET', `${api}/tags/v/history`, { headers: { Host: `localhost:${port}` } })).status,
      403,
      'localhost is this machine',
    );
  });
});

void t.test('on S3', { buffered: true, skip: missing }, async (t) => {
  const node = await startWireNode('uws', { storage: { s3: await s3Settings(server as S3Server) } });
  t.teardown(() => stopWireNode(node));
  await tagsComeBack(t, node.client);
  await manifestsComeBack(t, node.client);
});

void t.test('what a deleted manifest consists of is kept for the window', { buffered: true }, async (t) => {
  const { url } = await freshDatabase();
  const node = await startRegistry({ config: { database: { url }, workers: { threads: 1 }, log: { level: 'warn' } } });
  const client = new HttpClient(node.port);
  const child = await imageWithBlobs(client, repository, ['of a child']);
  await putManifest(client, repository, digestOf(child), child);
  const index = indexOf([describe(types.manifest, child)]);
  await putManifest(client, repository, 'index', index, types.index);
  await pushImage(client, digestOf(await imageWithBlobs(client, repository, ['s'], { subject: describe(types.index, index) })), 's', {
    subject: describe(types.index, index),
  });
  const image = await pushImage(client, 'image', 'layer');
  for (const digest of [digestOf(index), image]) await client.send('DELETE', `/v2/${repository}/manifests/${digest}`);
  const rows = await rowsOf<{ manifests: string; links: string; bytes: string }>(
    url,
    `SELECT (SELECT count(*) FROM manifests WHERE due_at > now() + interval '6 days') AS manifests,
            (SELECT count(*) FROM repository_blobs WHERE digest IN (${column(digestOf('layer'))}, ${column(digestOf('{}'))}) AND due_at > now() + interval '6 days') AS links,
            (SELECT count(*) FROM deleted_manifests WHERE keep_until > now() + interval '6 days') AS bytes`,
  );
  t.match(rows[0], { manifests: '2', links: '2', bytes: '2' }, 'child and signature, config and layer, both manifests');
  client.close();
  await node.stop();
});

void t.test('garbage collection takes what cannot come back any more, and nothing else', { buffered: true }, async (t) => {
  const { url } = await freshDatabase();
  const window = '2h';
  const gc = {
    delay: window,
    interval: '100ms',
    untagged_after: '0s',
    keep_pulled: '0s',
    repositories: [{ match: 'brief/*', undo_window: window }],
  };
  const node = await startRegistry({ config: { database: { url }, gc, workers: { threads: 1 }, log: { level: 'warn' } } });
  const client = new HttpClient(node.port);
  const push = async (name: string, layer: string): Promise<string> => {
    const image = await imageWithBlobs(client, name, [layer]);
    await putManifest(client, name, 'v', image);
    return digestOf(image);
  };
  const kept = await push('kept/app', 'kept');
  const lost = await push('brief/app', 'lost');
  t.equal((await client.send('DELETE', `/v2/kept/app/manifests/${kept}`)).status, 202);
  t.equal((await client.send('DELETE', `/v2/brief/app/manifests/${lost}`)).status, 202);
  await age((statement, values) => rowsOf(url, statement, values), '3 hours');
  const rows = (table: string, digest: string) => rowsOf(url, `SELECT FROM ${table} WHERE digest = ${column(digest)}`);
  await until('what cannot come back is gone', async () => (await rows('repository_blobs', digestOf('lost'))).length === 0);
  await until('and is forgotten', async () => (await rows('deleted_manifests', lost)).length === 0);
  const restore = (name: string, digest: string) => client.send('POST', `/api/v1/repositories/${name}/manifests/${digest}/restore`);
  t.equal((await restore('brief/app', lost)).status, 404, 'outside of its window');
  t.match(json(await restore('kept/app', kept)), { restored: true, tags: ['v'] }, 'inside of it');
  t.equal((await client.send('GET', `/v2/kept/app/blobs/${digestOf('kept')}`)).body.toString(), 'kept', 'with its bytes');
  client.close();
  await node.stop();
});

void t.test('without Postgres, and after a rebuild', { buffered: true }, async (t) => {
  const postgres = await startStoppablePostgres();
  const config = { database: { url: postgres.url }, workers: { threads: 1 }, log: { level: 'fatal' } };
  const node = await startRegistry({ config });
  const client = new HttpClient(node.port);
  const [one, two] = [await pushImage(client, 'v', 'one'), await pushImage(client, 'v', 'two')];
  json(await post(client, 'tags/v/restore'));
  const gone = await pushImage(client, 'gone', 'three');
  const back = await pushImage(client, 'back', 'four');
  for (const digest of [gone, back]) await client.send('DELETE', `/v2/${repository}/manifests/${digest}`);
  json(await post(client, `manifests/${back}/restore`));
  await until('what is deleted has left the store', async () => (await rowsOf(postgres.url, 'SELECT FROM object_trash')).length === 0);
  const state = await databaseState(postgres.url);
  await postgres.stop();
  await until(
    'the node notices',
    async () => (await client.send('GET', '/readyz')).body.toString().includes('degraded') || (await pulled(client, 'v')) === one,
  );
  t.strictSame(
    [
      await pulled(client, 'v'),
      await pulled(client, two),
      await pulled(client, 'back'),
      await pulled(client, 'gone'),
      await pulled(client, gone),
    ],
    [one, two, back, 404, 404],
    'reads without Postgres see what is there, and nothing that is deleted',
  );
  t.equal((await client.send('GET', `${api}/tags/v/history`)).status, 503, 'a history is the database’s to tell');
  client.close();
  await node.stop();
  await postgres.close();

  const { url } = await freshDatabase();
  const configFile = path.join(await temporaryDirectory('config-'), 'registry.yaml');
  await writeFile(configFile, JSON.stringify({ database: { url }, workers: { threads: 1 }, log: { level: 'warn' } }));
  const at = ['--root', node.root, '--config', configFile];
  t.strictSame((await ha(['rebuild', ...at])).code, 0);
  t.strictSame(await stateDifferences(url, state), [], 'row by row');
  const shown = await ha(['tag', 'history', `${repository}:v`, '--json', ...at]);
  t.strictSame(
    (JSON.parse(shown.stdout) as { history: Change[] }).history.map(({ action, digest, by }) => [action, digest, by]),
    [
      ['moved', one, 'loopback'],
      ['moved', two, null],
      ['created', one, null],
    ],
    'the history, with who did it',
  );
  const restored = await ha(['tag', 'restore', `${repository}:v`, ...at]);
  t.strictSame([restored.code, restored.stdout], [0, `${repository}:v points at ${two} again, no longer at ${one}\n`], 'and on it goes');
  const lost = await ha(['manifest', 'restore', `${repository}@${gone}`, ...at]);
  t.strictSame([lost.code, lost.stderr], [1, `ha-registry: the manifest ${gone} is not in ${repository}, nor can it come back\n`]);
});
