// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Pulls while Postgres is away: the same answers, from the store alone, be it a directory or a bucket. */
import { request as httpRequest } from 'node:http';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { bareBucket, bareDirectory } from '../support/bare-store.js';
import { errorCode, HttpClient, jsonOf, type Answer } from '../support/http-client.js';
import { startRegistry, type RunningRegistry } from '../support/registry.js';
import { stopS3Servers } from '../support/s3-server.js';
import { startStoppablePostgres, type StoppablePostgres } from '../support/stoppable-postgres.js';
import { missingStore, newStore, type StoreKind, type TestStore } from '../support/stores.js';
import {
  bytesOf,
  describe,
  digestOf,
  imageOf,
  indexOf,
  openSession,
  pushBlob,
  putManifest,
  types,
  until,
  withDigest,
  type Engine,
} from '../support/wire-suite.js';

/** What a client waits before it gives up. */
const patienceMs = 5_000;
/** "Within seconds", on a machine that does much else. */
const recoveryMs = 20_000;

class Stage {
  readonly engine: Engine;
  readonly postgres: StoppablePostgres;
  node: RunningRegistry;
  client: HttpClient;

  readonly store: TestStore;

  private constructor(engine: Engine, postgres: StoppablePostgres, store: TestStore, node: RunningRegistry) {
    this.store = store;
    this.engine = engine;
    this.postgres = postgres;
    this.node = node;
    this.client = new HttpClient(node.port);
  }

  static async open(engine: Engine, kind: StoreKind): Promise<Stage> {
    const postgres = await startStoppablePostgres();
    const store = await newStore(kind);
    return new Stage(engine, postgres, store, await startNode(engine, postgres.url, store));
  }

  /** Another process on the same store. */
  async restart(): Promise<void> {
    this.client.close();
    const code = await this.node.stop();
    if (code !== 0) throw new Error(`the node ended with ${code}\n${this.node.log()}`);
    this.node = await startNode(this.engine, this.postgres.url, this.store);
    this.client = new HttpClient(this.node.port);
  }

  async state(): Promise<{ status: string; reason?: string }> {
    const answer = await this.client.send('GET', '/readyz');
    if (answer.status !== 200) throw new Error(`/readyz: ${answer.status}`);
    return jsonOf(answer);
  }

  /** Stops Postgres, and waits until the node has noticed. */
  async lose(): Promise<void> {
    await this.postgres.stop();
    await this.untilState('degraded');
  }

  async recover(): Promise<void> {
    await this.postgres.start();
    await this.untilState('ready');
  }

  untilState(status: string): Promise<unknown> {
    return until(`/readyz says ${status}`, async () => (await this.state()).status === status, recoveryMs);
  }

  async close(): Promise<void> {
    this.client.close();
    await this.node.stop();
    await this.postgres.close();
  }
}

function startNode(engine: Engine, url: string, { root, storage }: TestStore): Promise<RunningRegistry> {
  return startRegistry({ root, config: { server: { engine }, database: { url }, storage, workers: { threads: 1 } } });
}

const layer = bytesOf(300_000, 'layer');
const image = imageOf([layer]);
const other = imageOf([layer], { annotations: { 'org.example.version': '2' } });
/** Over what comes along with a look-up. */
const large = imageOf([layer], { annotations: { padding: 'x'.repeat(10_000) } });
const deleted = imageOf([layer], { annotations: { deleted: 'yes' } });
const list = indexOf([describe(types.manifest, image), describe(types.manifest, other)]);
const subject = describe(types.manifest, image);
const referrers = Array.from({ length: 5 }, (_, number) =>
  imageOf([], {
    subject,
    artifactType: `application/vnd.type${number % 2}`,
    // Postgres keeps annotations in an order of its own.
    annotations: { zz: '1', b: 'ä', 'org.example.long': String(number), a: '', 2: 'two', 10: 'ten' },
  }),
);
const listed = imageOf([layer], { annotations: { old: 'client' } });
const goneReferrer = imageOf([], { subject, artifactType: 'application/vnd.gone' });
/** Where the order of keys is not the order of names. */
const tags = ['1', '1-rc', '1.0', '1.0-rc.1', '1.0.1', '10', 'a', 'a-b', 'a.b', 'a0', 'b', 'latest'];
const repositories = ['some', 'some-where', 'some/image', 'some/image/deep', 'some.where', 'zz/only/nested'];
const one = 'some/image';

async function populate(client: HttpClient): Promise<void> {
  const push = async (repository: string, reference: string, body: string, type: string = types.manifest): Promise<void> => {
    const answer = await putManifest(client, repository, reference, body, type);
    if (answer.status !== 201) throw new Error(`${repository}:${reference}: ${answer.status} ${answer.body.toString()}`);
  };
  for (const repository of repositories) {
    for (const blob of ['{}', layer, 'to be deleted', '']) await pushBlob(client, repository, blob);
    await push(repository, 'latest', image);
  }
  for (const tag of tags) await push(one, tag, image);
  for (const manifest of [other, image, other]) await push(one, 'moving', manifest);
  await push(one, 'list', list, types.index);
  await push(one, 'large', large);
  for (const referrer of [...referrers, goneReferrer]) await push(one, digestOf(referrer), referrer);
  await push(one, digestOf(image, 'sha512'), image);
  await push(one, 'listed', listed);
  const fallback = indexOf([describe(types.manifest, listed), describe(types.manifest, 'not here')]);
  await push(one, `sha256-${digestOf(image).slice(7)}`, fallback, types.index);
  await push(one, 'deleted-with-its-manifest', deleted);
  await push(one, 'deleted-alone', image);
  for (const gone of [
    'manifests/deleted-alone',
    `manifests/${digestOf(deleted)}`,
    `manifests/${digestOf(goneReferrer)}`,
    `blobs/${digestOf('to be deleted')}`,
  ]) {
    const { status } = await client.send('DELETE', `/v2/${one}/${gone}`);
    if (status !== 202) throw new Error(`DELETE ${gone}: ${status}`);
  }
  await push(one, 'deleted-and-back', deleted);
  await client.send('DELETE', `/v2/${one}/manifests/deleted-and-back`);
  await push(one, 'deleted-and-back', image);
  await client.send('DELETE', `/v2/${one}/manifests/${digestOf(deleted)}`);
}

interface Question {
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
}

const zeros = `sha256:${'0'.repeat(64)}`;

/** Everything that can be asked without a change. */
function questions(): Question[] {
  const blob = `/v2/${one}/blobs/${digestOf(layer)}`;
  const manifest = `/v2/${one}/manifests`;
  const etag = `"${digestOf(layer)}"`;
  return [
    { path: '/v2/' },
    ...[...tags, 'moving', 'list', 'large', 'listed', 'deleted-and-back', 'deleted-alone', 'deleted-with-its-manifest', 'never', '1.'].map(
      (tag) => ({ path: `${manifest}/${tag}` }),
    ),
    ...[image, other, large, list, deleted, ...referrers, goneReferrer, 'never'].map((body) => ({ path: `${manifest}/${digestOf(body)}` })),
    { path: `${manifest}/${digestOf(image, 'sha512')}` },
    { path: `${manifest}/latest`, headers: { 'If-None-Match': `"${digestOf(image)}"` } },
    { path: `${manifest}/latest`, headers: { 'If-None-Match': `"${zeros}"` } },
    { path: `/v2/some/manifests/${digestOf(other)}` },
    { path: `/v2/never/made/manifests/latest` },
    { path: blob },
    { path: `/v2/${one}/blobs/${digestOf('')}` },
    { path: `/v2/${one}/blobs/${digestOf('to be deleted')}` },
    { path: `/v2/some/blobs/${digestOf('to be deleted')}` },
    { path: `/v2/${one}/blobs/${zeros}` },
    { path: `/v2/never/made/blobs/${digestOf(layer)}` },
    ...['bytes=0-0', 'bytes=100-', 'bytes=-5', 'bytes=1000-1999', 'bytes=300000-', 'bytes=5-1', 'bytes=0-1,10-20'].map((Range) => ({
      path: blob,
      headers: { Range },
    })),
    { path: blob, headers: { Range: 'bytes=0-9', 'If-Range': etag } },
    { path: blob, headers: { Range: 'bytes=0-9', 'If-Range': '"other"' } },
    { path: blob, headers: { 'If-None-Match': etag } },
    ...[
      '',
      '?n=3',
      '?n=0',
      '?n=1&last=1',
      '?n=2&last=1.0',
      '?last=a',
      '?n=2&last=a',
      '?n=2&last=a-a',
      '?last=zzz',
      '?n=x',
      '?last=%C3%A4&n=2',
    ].map((query) => ({ path: `/v2/${one}/tags/list${query}` })),
    ...['some', 'some-where', 'never', 'zz', 'zz/only'].map((repository) => ({ path: `/v2/${repository}/tags/list` })),
    ...['', '?n=1', '?n=2&last=some', '?n=3&last=some-where', '?last=some/image', '?n=0', '?last=zz'].map((query) => ({
      path: `/v2/_catalog${query}`,
    })),
    ...[digestOf(image), digestOf(image, 'sha512'), digestOf(other), zeros].flatMap((digest) =>
      ['', '?artifactType=application/vnd.type1', '?artifactType=', `?last=${digestOf(image)}`, '?artifactType=x'].map((query) => ({
        path: `/v2/${one}/referrers/${digest}${query}`,
      })),
    ),
    { path: `/v2/never/referrers/${digestOf(image)}` },
    { path: `/v2/some/referrers/${digestOf(image)}` },
  ];
}

interface Reply {
  readonly question: string;
  readonly status: number;
  readonly headers: readonly string[];
  readonly body: string;
}

/** Also each page that a Link leads to. */
async function ask(client: HttpClient, all: readonly Question[]): Promise<Reply[]> {
  const replies: Reply[] = [];
  for (const { path, headers = {} } of all) {
    for (const method of ['GET', 'HEAD']) {
      for (let next: string | undefined = path; next !== undefined;) {
        const answer = await client.send(method, next, { headers });
        replies.push(replyOf(`${method} ${next} ${JSON.stringify(headers)}`, answer));
        next = /^<(.+)>; rel="next"$/.exec(String(answer.headers['link'] ?? ''))?.[1];
      }
    }
  }
  return replies;
}

/** Whole, but for what differs each time. */
function replyOf(question: string, { status, rawHeaders, body }: Answer): Reply {
  const boundary = /boundary=(\w+)/.exec(rawHeaders.join(' '))?.[1];
  const stable = (text: string): string => (boundary === undefined ? text : text.replaceAll(boundary, 'boundary'));
  const headers: string[] = [];
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const [name = '', value = ''] = rawHeaders.slice(at, at + 2);
    if (!/^(date|x-request-id)$/i.test(name)) headers.push(`${name}: ${stable(value)}`);
  }
  return { question, status, headers, body: stable(body.toString('latin1')) };
}

async function sameAnswers(t: Test, stage: Stage): Promise<void> {
  const before = await ask(stage.client, questions());
  t.ok(
    before.some(({ headers }) => headers.some((header) => header.startsWith('Link: '))),
    'there are pages',
  );
  t.strictSame(
    [200, 206, 304, 400, 404, 416].filter((status) => !before.some((reply) => reply.status === status)),
    [],
    'every kind of answer is there',
  );
  const told = stage.node.log().length;
  await stage.lose();
  const since = performance.now();
  for (const round of ['first', 'second']) {
    const without = await ask(stage.client, questions());
    t.equal(without.length, before.length);
    for (const [index, reply] of without.entries()) t.strictSame(reply, before[index], `${round}: ${reply.question}`);
  }
  t.ok(performance.now() - since < before.length * 2 * 250, 'and no answer waits for Postgres');
  const readiness = { status: 'degraded', reason: 'the database is away, or cannot be used' };
  t.strictSame(await stage.state(), readiness, 'anybody is told no more than that');
  await stage.recover();
  t.strictSame(await ask(stage.client, questions()), before, 'and afterwards as before');
  const lines = stage.node.log().slice(told).split('\n');
  t.strictSame(
    [
      lines.filter((line) => line.includes('the database is away')).length,
      lines.filter((line) => line.includes('the database is back')).length,
    ],
    [1, 1],
    'one line when it goes, one when it comes back',
  );
  const complaints = lines.filter((line) => /"level":("error"|50)/.test(line) && !line.includes('the database is away'));
  t.strictSame(complaints, [], 'and nothing else is told as a failure');
}

/** In a key. */
const place = (digest: string): string => digest.replace(':', '/');

/** Some tools leave keys of their own, which list before the entries: markers of folders in a bucket, notes in a directory. A rebuild passes them over, too. */
async function keysOfOthers(t: Test, stage: Stage): Promise<void> {
  const before = await ask(stage.client, questions());
  const { bucket, root } = stage.store;
  const store = bucket === undefined ? bareDirectory(path.join(root, 'store')) : bareBucket(bucket.server, bucket.name);
  const names = ['.DS_Store', '.a', '.b', '00000000000000000000.copy', '0'];
  const directories = [
    '_tags',
    ...['latest', 'moving', 'deleted-alone', '1.0', 'never', 'nested/1'].map((tag) => `_tags/${tag}`),
    ...[image, other, deleted].map((body) => `_manifests/${place(digestOf(body))}`),
    ...[layer, 'to be deleted'].map((body) => `_blobs/${place(digestOf(body))}`),
    `_referrers/${place(digestOf(image))}`,
  ].map((directory) => `repositories/${one}/${directory}/`);
  directories.push('repositories/no/repository/_tags/x/', 'repositories/No Name/_tags/x/');
  for (const directory of directories) {
    for (const name of bucket === undefined ? names : ['', ...names]) await store.write(directory + name, 'not ours');
  }
  await stage.lose();
  const without = await ask(stage.client, questions());
  for (const [index, reply] of without.entries()) t.strictSame(reply, before[index], reply.question);
  await stage.recover();
}

async function refusals(t: Test, stage: Stage): Promise<void> {
  await stage.lose();
  const { client } = stage;
  for (const path of [
    `some/manifests/${digestOf(other)}`,
    `some/blobs/${digestOf('never pushed')}`,
    `never/blobs/${digestOf(layer)}`,
    `${one}/blobs/${digestOf('to be deleted')}`,
    `${one}/manifests/deleted-alone`,
    `${one}/manifests/deleted-with-its-manifest`,
    `${one}/manifests/${digestOf(deleted)}`,
  ]) {
    t.equal((await client.send('GET', `/v2/${path}`)).status, 404, path);
  }
  await stage.recover();
}

async function writes(t: Test, stage: Stage): Promise<void> {
  await stage.lose();
  const { client } = stage;
  const fail = async (what: string, answer: Promise<Answer>): Promise<void> => {
    const since = performance.now();
    const { status, headers, ...rest } = await answer;
    t.strictSame([status, errorCode({ status, headers, ...rest })], [503, 'UNAVAILABLE'], what);
    t.match(headers['retry-after'], /^\d+$/, `${what}: Retry-After`);
    t.ok(performance.now() - since < patienceMs, `${what}: at once`);
  };
  const session = `/v2/${one}/blobs/uploads/00000000-0000-4000-8000-000000000000`;
  await fail('POST', client.send('POST', `/v2/${one}/blobs/uploads/`, { body: '' }));
  await fail('POST with the blob', client.send('POST', `/v2/${one}/blobs/uploads/?digest=${digestOf('new')}`, { body: 'new' }));
  await fail('mount', client.send('POST', `/v2/${one}/blobs/uploads/?mount=${digestOf(layer)}&from=some`, { body: '' }));
  await fail('PATCH', client.send('PATCH', session, { body: bytesOf(100_000) }));
  await fail('PUT', client.send('PUT', `${session}?digest=${digestOf('new')}`, { body: 'new' }));
  await fail('GET of an upload', client.send('GET', session));
  await fail('DELETE of an upload', client.send('DELETE', session));
  await fail('PUT of a manifest', putManifest(client, one, 'new', image));
  await fail('DELETE of a tag', client.send('DELETE', `/v2/${one}/manifests/latest`));
  await fail('DELETE of a blob', client.send('DELETE', `/v2/${one}/blobs/${digestOf(layer)}`));
  // A body that never ends is not waited for.
  const { request, answer } = client.open('PATCH', session, { 'Transfer-Encoding': 'chunked' });
  request.write('begin');
  await fail('PATCH without an end', answer);
  request.destroy();
  t.equal((await client.send('GET', `/v2/${one}/manifests/latest`)).status, 200, 'nothing was deleted');
  await stage.recover();
  t.equal((await client.send('GET', `/v2/${one}/manifests/new`)).status, 404, 'nothing was written');
  t.equal((await putManifest(client, one, 'new', image)).status, 201, 'and pushes go on');
}

async function uploadGoesOn(t: Test, stage: Stage): Promise<void> {
  const { client } = stage;
  const bytes = bytesOf(200_000, `upload ${stage.engine}`);
  const session = await openSession(client, one);
  t.equal((await client.send('PATCH', session, { body: bytes.subarray(0, 120_000) })).status, 202);
  await stage.lose();
  t.equal((await client.send('PATCH', session, { body: bytes.subarray(120_000) })).status, 503);
  await stage.recover();
  const { status, headers } = await client.send('GET', session);
  t.strictSame([status, headers['range']], [204, '0-119999'], 'it stands where it stood');
  t.equal((await client.send('PATCH', session, { body: bytes.subarray(120_000) })).status, 202);
  t.equal((await client.send('PUT', withDigest(session, digestOf(bytes)), { body: '' })).status, 201);
  t.equal(Buffer.compare((await client.send('GET', `/v2/${one}/blobs/${digestOf(bytes)}`)).body, bytes), 0);
}

/** Pulls go on all the time, and none takes longer than a client waits. */
async function losses(t: Test, stage: Stage): Promise<void> {
  const { postgres } = stage;
  const faults: Record<string, readonly [lose: () => Promise<void> | void, recover: () => Promise<void> | void]> = {
    'refused connections': [() => postgres.stop(), () => postgres.start()],
    'a frozen server': [() => postgres.freeze(), () => postgres.thaw()],
    'a network that drops everything': [() => postgres.stall(), () => postgres.flow()],
    'a network that forgets connections': [() => postgres.stall(), () => postgres.forget()],
  };
  for (const [title, [lose, recover]] of Object.entries(faults)) {
    await t.test(title, async (t) => {
      const pulls = startPulls(stage.node.port);
      await until('pulls', () => pulls.count > 20);
      await lose();
      await stage.untilState('degraded');
      const before = pulls.count;
      await until('pulls from the store', () => pulls.count > before + 50);
      const push = performance.now();
      t.equal((await putManifest(stage.client, one, 'latest', image)).status, 503, 'a push');
      t.ok(performance.now() - push < patienceMs, 'fails at once');
      await recover();
      const since = performance.now();
      await stage.untilState('ready');
      t.comment(`ready ${Math.round(performance.now() - since)} ms after the recovery`);
      await until('a push', async () => (await putManifest(stage.client, one, 'latest', image)).status === 201, recoveryMs);
      await pulls.stop();
      t.strictSame(pulls.failures, [], 'no pull failed');
      t.ok(pulls.slowestMs < 2 * patienceMs, `the slowest pull took ${Math.round(pulls.slowestMs)} ms`);
    });
  }
}

interface Pulls {
  count: number;
  slowestMs: number;
  readonly failures: string[];
  stop(): Promise<void>;
}

/** Four clients that pull by tag, by digest, and a layer's beginning. */
function startPulls(port: number): Pulls {
  const end = new AbortController();
  const pulls = { count: 0, slowestMs: 0, failures: [] as string[], stop: () => Promise.resolve() };
  const paths = [
    [`manifests/latest`, image],
    [`manifests/${digestOf(other)}`, other],
    [`manifests/large`, large],
    [`blobs/${digestOf(layer)}`, layer],
  ] as const;
  const working = paths.map(async ([path, expected]) => {
    while (!end.signal.aborted) {
      const since = performance.now();
      const got = await pull(port, `/v2/${one}/${path}`).catch((error: unknown) => String(error));
      if (got !== digestOf(expected)) pulls.failures.push(`${path}: ${got}`);
      pulls.slowestMs = Math.max(pulls.slowestMs, performance.now() - since);
      pulls.count++;
      await sleep(5);
    }
  });
  pulls.stop = async () => {
    end.abort();
    await Promise.all(working);
  };
  return pulls;
}

function pull(port: number, path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = httpRequest({ host: '127.0.0.1', port, path, timeout: 30_000 }, (response) => {
      const pieces: Buffer[] = [];
      response.on('data', (piece: Buffer) => pieces.push(piece));
      response.on('error', reject);
      response.on('end', () => resolve(response.statusCode === 200 ? digestOf(Buffer.concat(pieces)) : `status ${response.statusCode}`));
    });
    request.on('timeout', () => request.destroy(new Error('no answer')));
    request.on('error', reject);
    request.end();
  });
}

async function oneConnection(t: Test, stage: Stage): Promise<void> {
  const { default: pg } = await import('pg');
  const admin = new pg.Client({ connectionString: stage.postgres.url });
  await admin.connect();
  const pulls = startPulls(stage.node.port);
  const away = (): number => stage.node.log().split('the database is away').length;
  const before = away();
  for (let round = 0; round < 5; round++) {
    const { rowCount } = await admin.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ha-registry reads' LIMIT 1`,
    );
    t.equal(rowCount, 1, 'a connection is cut');
    const { count } = pulls;
    await until('pulls', () => pulls.count > count + 20);
  }
  await pulls.stop();
  await admin.end();
  t.strictSame(pulls.failures, [], 'no pull failed');
  t.equal(away(), before, 'and Postgres was not given up');
}

async function lateStart(t: Test, stage: Stage): Promise<void> {
  const before = await ask(stage.client, questions());
  await stage.lose();
  await stage.restart();
  t.equal((await stage.state()).status, 'degraded');
  t.strictSame(await ask(stage.client, questions()), before, 'pulls are served');
  t.equal((await putManifest(stage.client, one, 'late', image)).status, 503, 'pushes are not');
  await stage.recover();
  t.equal((await putManifest(stage.client, one, 'late', image)).status, 201, 'until Postgres comes');
  t.equal((await stage.client.send('DELETE', `/v2/${one}/manifests/late`)).status, 202);
}

t.jobs = 3;
t.teardown(stopS3Servers);
for (const [engine, store] of [
  ['uws', 'filesystem'],
  ['node', 'filesystem'],
  ['uws', 's3'],
] as const) {
  void t.test(`${engine}, ${store}`, { buffered: true, skip: await missingStore(store) }, async (t) => {
    const stage = await Stage.open(engine, store);
    t.teardown(() => stage.close());
    await populate(stage.client);
    await t.test('the same answers without Postgres', (t) => sameAnswers(t, stage));
    await t.test('keys of others', (t) => keysOfOthers(t, stage));
    await t.test('nothing is served that may not be', (t) => refusals(t, stage));
    await t.test('writes', (t) => writes(t, stage));
    await t.test('an upload goes on afterwards', (t) => uploadGoesOn(t, stage));
    await t.test('Postgres goes and comes back', (t) => losses(t, stage));
    await t.test('one lost connection is no outage', (t) => oneConnection(t, stage));
    await t.test('a node that starts without Postgres', (t) => lateStart(t, stage));
  });
}
