// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Writers that die or freeze in the middle: others go on as soon as the node is known to be dead, and who wakes can do no harm. */
import { Client } from 'pg';
import t, { type Test } from 'tap';
import { errorCode, HttpClient, type OpenRequest } from '../support/http-client.js';
import { startPostgresProxy } from '../support/postgres-proxy.js';
import { quickDirectory } from '../support/registry.js';
import { s3Server, s3Settings, stopS3Servers, type S3Server } from '../support/s3-server.js';
import { bytesOf, digestOf, imageWithBlobs, openSession, putManifest, until, withDigest } from '../support/wire-suite.js';
import { idOf, setStage, type Member, type Stage } from './stage.js';

const MiB = 1024 * 1024;

const server = await s3Server();
t.teardown(stopS3Servers);
const missing = 'missing' in server && `WRITERS THAT ARE LOST ARE NOT TESTED ON S3: ${server.missing}`;
if (missing) console.error(missing);

t.jobs = 2;

void t.test('uploads on a shared directory', { buffered: true }, async (t) =>
  uploads(t, await setStage(t, {}, { root: await quickDirectory('nodes-') })),
);
void t.test('uploads on a bucket', { buffered: true, skip: missing }, async (t) =>
  uploads(t, await setStage(t, { s3: await s3Settings(server as S3Server) })),
);
void t.test('a push that was given up is not begun again', { buffered: true }, givenUp);

async function uploads(t: Test, stage: Stage): Promise<void> {
  t.jobs = 2;
  const b = await stage.start();
  t.teardown(() => stop(b));
  const killed = t.test('a node is killed', { buffered: true }, (t) => killedWriter(t, stage, b.client));
  const frozen = t.test('a node is frozen', { buffered: true }, (t) => frozenWriter(t, stage, b.client));
  await Promise.all([killed, frozen]);
}

async function killedWriter(t: Test, stage: Stage, b: HttpClient): Promise<void> {
  const a = await stage.start();
  const bytes = bytesOf(40 * MiB, 'killed');
  const upload = await halfSent(a.client, 'PATCH', bytes);
  const pinned = await pinWriter(stage, upload.session);
  await a.kill();
  await upload.open.answer.catch(() => undefined);
  a.client.close();
  const from = await goOn(t, b, upload.session, bytes);
  t.strictSame(await pinned.facts(), { lives: false, known: true, leased: true }, 'its node is dead, and nothing else has ended');
  await pinned.release();
  t.ok(from >= acknowledged && from <= sentBytes, `from ${from}: at least what was acknowledged`);
  await finish(t, [b], b, upload.session, bytes);
}

async function frozenWriter(t: Test, stage: Stage, b: HttpClient): Promise<void> {
  const a = await stage.start();
  t.teardown(() => stop(a));
  const bytes = bytesOf(40 * MiB, 'frozen');
  const whole = bytesOf(22 * MiB, 'frozen in its PUT');
  const patch = await halfSent(a.client, 'PATCH', bytes);
  const put = await halfSent(a.client, 'PUT', whole);
  const pinned = [await pinWriter(stage, patch.session), await pinWriter(stage, put.session)];
  process.kill(a.pid, 'SIGSTOP');
  await goOn(t, b, patch.session, bytes);
  for (const pin of pinned) t.strictSame(await pin.facts(), { lives: false, known: true, leased: true }, 'its node is as good as dead');
  const told = await b.send('GET', put.session);
  for (const { release } of pinned) await release();
  patch.open.request.end(Buffer.alloc(bytes.length - sentBytes, 'other bytes'));
  put.open.request.end(whole.subarray(sentBytes));
  process.kill(a.pid, 'SIGCONT');
  await lostIt(t, patch.open, 'the one that wakes cannot append');
  await lostIt(t, put.open, 'nor commit');
  t.equal((await b.send('HEAD', `/v2/moving/blobs/${digestOf(whole)}`)).status, 404, 'what it had all the bytes of is no blob');
  t.equal(
    (await b.send('GET', put.session)).headers.range,
    told.headers.range,
    'the upload stands where another client was told that it does',
  );
  await finish(t, [a.client, b], b, patch.session, bytes);
  await goOn(t, b, put.session, whole);
  await finish(t, [a.client, b], b, put.session, whole);
}

async function lostIt(t: Test, { answer }: OpenRequest, what: string): Promise<void> {
  const late = await answer;
  // 503 when the node itself was declared dead meanwhile, and has yet to come back under another id.
  t.match(`${late.status} ${errorCode(late)}`, /^(404 BLOB_UPLOAD_UNKNOWN|503 UNAVAILABLE)$/, what);
}

async function finish(t: Test, readers: readonly HttpClient[], writer: HttpClient, session: string, bytes: Buffer): Promise<void> {
  const digest = digestOf(bytes);
  t.equal((await writer.send('PUT', withDigest(session, digest), { body: '' })).status, 201, 'finished');
  for (const client of readers) t.ok((await client.send('GET', `/v2/moving/blobs/${digest}`)).body.equals(bytes), 'byte for byte');
}

const acknowledged = 100_000;
const sentBytes = 21 * MiB + 4321;

/** A request of which A has received the first half. */
async function halfSent(a: HttpClient, method: 'PATCH' | 'PUT', bytes: Buffer) {
  const session = await openSession(a, 'moving');
  const first = await a.send('PATCH', session, { body: bytes.subarray(0, acknowledged) });
  if (first.status !== 202) throw new Error(`begun with ${first.status}`);
  const target = method === 'PUT' ? withDigest(session, digestOf(bytes)) : session;
  const open = a.open(method, target, { 'Content-Length': String(bytes.length - acknowledged) });
  open.request.write(bytes.subarray(acknowledged, sentBytes));
  await until('A has received them', () => open.request.socket?.writableLength === 0);
  return { session, open };
}

/** The lease of a session's writer lasts, and the row of its node stays, until `release`: only that the node does not live can tell that nobody is writing. */
async function pinWriter({ database, databaseUrl }: Stage, session: string) {
  const { rows } = await database.query<{ node: string }>('SELECT node FROM upload_sessions WHERE id = $1', [idOf(session)]);
  const node = rows[0]?.node ?? '';
  const pin = new Client({ connectionString: databaseUrl });
  await pin.connect();
  await pin.query(`UPDATE upload_sessions SET lease_until = now() + interval '1 hour' WHERE id = $1`, [idOf(session)]);
  const since = await leaseOf(pin, session);
  await pin.query('BEGIN');
  await pin.query('SELECT FROM nodes WHERE id = $1 FOR KEY SHARE', [node]);
  return {
    async facts() {
      const { rows: found } = await database.query<Record<'lives' | 'known' | 'leased', boolean>>(
        'SELECT node_lives($1) AS lives, EXISTS (SELECT 1 FROM nodes WHERE id = $1) AS known, $2::timestamptz > clock_timestamp() AS leased',
        [node, since],
      );
      return { ...found[0] };
    },
    release: () => pin.end(),
  };
}

async function leaseOf(client: Client, session: string): Promise<string> {
  const { rows } = await client.query<{ until: string }>('SELECT lease_until::text AS until FROM upload_sessions WHERE id = $1', [
    idOf(session),
  ]);
  return rows[0]?.until ?? '';
}

/** What a client does that resumes: it asks where the upload stands, and goes on from there. What it was told holds, once it is taken. */
async function goOn(t: Test, b: HttpClient, session: string, bytes: Buffer): Promise<number> {
  const done = await until(
    'B goes on',
    async () => {
      const told = await b.send('GET', session);
      const from = Number(/^0-(\d+)$/.exec(String(told.headers.range))?.[1]) + 1;
      const headers = { 'Content-Range': `${from}-${bytes.length - 1}` };
      const answer = await b.send('PATCH', session, { headers, body: bytes.subarray(from) });
      return answer.status === 202 ? { answer, from } : undefined;
    },
    60_000,
  );
  t.equal(done.answer.headers.range, `0-${bytes.length - 1}`, `B takes the rest, from ${done.from}`);
  return done.from;
}

/**
 * A node is frozen while it commits a push to a tag. Its client gives up, and somebody deletes the tag at another node. The commit finds that when the node wakes, and
 * would start again, with a newer sequence, if there were still somebody to do it for.
 */
async function givenUp(t: Test): Promise<void> {
  const stage = await setStage(t, {}, { root: await quickDirectory('nodes-') });
  const b = await stage.start();
  t.teardown(() => stop(b));
  // One of each engine.
  for (let count = 0; count < 2; count++) {
    const proxy = await startPostgresProxy(stage.databaseUrl);
    const a = await stage.start(proxy.url);
    t.teardown(async () => {
      await stop(a);
      proxy.close();
    });
    const repository = `given-up/${count}`;
    const [first, second] = [await imageWithBlobs(b.client, repository, ['first']), await imageWithBlobs(b.client, repository, ['second'])];
    t.equal((await putManifest(b.client, repository, 'tag', first)).status, 201, 'a tag');
    const held = proxy.holdAt('commit-manifest');
    const client = new HttpClient(a.port);
    const pushing = putManifest(client, repository, 'tag', second).catch(() => undefined);
    const release = await held;
    process.kill(a.pid, 'SIGSTOP');
    client.close();
    await pushing;
    t.equal((await b.client.send('DELETE', `/v2/${repository}/manifests/tag`)).status, 202, 'is deleted, while a push to it is frozen');
    const before = proxy.roundTrips.length;
    release();
    process.kill(a.pid, 'SIGCONT');
    const since = (): readonly string[] => proxy.roundTrips.slice(before);
    await until('the commit has failed, and what it had written is gone', () => since().includes('delete-trash'));
    // Whatever starts again does so within a tenth of a second; there is no event for that which does not come.
    for (let look = 0; look < 10; look++) t.equal((await putManifest(a.client, repository, `other-${look}`, second)).status, 201);
    await new Promise((resolve) => void setTimeout(resolve, 300));
    t.equal(since().filter((statements) => statements === 'prepare-manifest').length, 10, 'the push is not begun again');
    t.equal((await b.client.send('GET', `/v2/${repository}/manifests/tag`)).status, 404, 'the tag stays deleted');
  }
}

async function stop(member: Member): Promise<void> {
  member.client.close();
  await member.stop();
}
