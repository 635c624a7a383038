// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * A node that dies (SIGKILL) or freezes (SIGSTOP, and wakes when it was long given up) at each named place of a push, of an upload's take-over and of a collection. Another
 * node goes on; nothing that anybody was told is lost, and nothing appears that nobody pushed.
 */
import t, { type Test } from 'tap';
import type { Answer } from '../support/http-client.js';
import { HttpClient } from '../support/http-client.js';
import { openPlace, type Place, type Settings } from '../gc/place.js';
import { startHeld, type HeldProgram } from '../support/held-program.js';
import { freePort } from '../support/registry.js';
import { s3Server, s3Settings, stopS3Servers, type S3Server } from '../support/s3-server.js';
import { bytesOf, digestOf, imageOf, openSession, pushBlob, putManifest, until, withDigest } from '../support/wire-suite.js';

const server = await s3Server();
t.teardown(stopS3Servers);
const missing = 'missing' in server && `CRASHES BESIDE A BUCKET ARE NOT TESTED: ${server.missing}`;
if (missing) console.error(missing);

void t.test('frozen, on a directory', (t) => suite(t, 'SIGSTOP', {}, ['upload.acquired', 'upload.adopted', 'upload.completed']));
void t.test('killed, on a bucket', { skip: missing }, async (t) => {
  const s3 = await s3Settings(server as S3Server);
  await suite(t, 'SIGKILL', { storage: { s3 } }, ['upload.acquired', 'upload.completed']);
});

type Signal = 'SIGSTOP' | 'SIGKILL';

async function suite(t: Test, signal: Signal, settings: Settings, takeOvers: readonly string[]): Promise<void> {
  const place = await openPlace(t, settings);
  await t.test('pushes and uploads', (t) => pushes(t, place, signal, takeOvers));
  if (signal === 'SIGSTOP') await t.test('a deletion', (t) => deletion(t, place));
  for (const gap of ['gc.manifests.let-go', 'gc.links.deleted', 'gc.links.committed', 'gc.trash.claimed', 'gc.trash.deleted']) {
    await t.test(`a collection at ${gap}`, (t) => collection(t, place, signal, gap));
  }
}

async function startVictim(t: Test, place: Place, places: readonly string[]): Promise<{ victim: HeldProgram; other: HttpClient }> {
  const port = await freePort();
  const victim = await startHeld(['serve', '--config', place.configFile, '--root', place.root, '-p', String(port)], places);
  const other = new HttpClient(port);
  t.teardown(() => {
    other.close();
    victim.child.kill('SIGKILL');
  });
  await until(
    'it serves',
    () =>
      other.send('GET', '/v2/').then(
        ({ status }) => status === 200,
        () => false,
      ),
    120_000,
  );
  return { victim, other };
}

/** Carried out by another node, and then by its writer as well: each of its keys has one content for good. */
async function deletion(t: Test, place: Place): Promise<void> {
  const { client, sql, store } = place;
  const known = (await sql<{ id: string }>('SELECT id FROM nodes')).map(({ id }) => id);
  const { victim, other } = await startVictim(t, place, ['write.prepared']);
  const image = imageOf([], { annotations: { in: 'a deletion' } });
  await pushBlob(client, 'crash/deletion', '{}');
  for (const tag of ['one', 'two']) await putManifest(client, 'crash/deletion', tag, image);
  const answer = other.send('DELETE', `/v2/crash/deletion/manifests/${digestOf(image)}`).catch(() => undefined);
  await victim.reached('write.prepared');
  victim.child.kill('SIGSTOP');
  await giveUp(place, known);
  await until('it is carried out', async () => (await sql('SELECT 1 FROM pending_writes')).length === 0);
  const contents = async (): Promise<string[][]> => {
    const keys = (await store.list('repositories/crash/deletion/')).filter((key) => key.endsWith('.deleted'));
    return Promise.all(keys.map(async (key) => [key, Buffer.from((await store.get(key)) ?? '').toString()]));
  };
  const carriedOut = await contents();
  t.equal(carriedOut.length, 3, 'the manifest and its tags');
  await wake(victim, 'SIGSTOP');
  await answer;
  t.strictSame(await contents(), carriedOut, 'what its writer had in hand');
  for (const [key = '', body] of carriedOut) t.match(body, /^{"at":".+","by":""}$/, key);
  await end(victim);
}

/** One node, with a request at each of the places when it ends. */
async function pushes(t: Test, place: Place, signal: Signal, takeOvers: readonly string[]): Promise<void> {
  const { client, sql } = place;
  const known = (await sql<{ id: string }>('SELECT id FROM nodes')).map(({ id }) => id);
  const writes = ['write.prepared', 'write.stored'];
  const { victim, other } = await startVictim(t, place, [...writes, ...takeOvers]);

  const answers: Promise<Answer | undefined>[] = [];
  const ask = (answer: Promise<Answer>): void => void answers.push(answer.catch(() => undefined));
  const [theirs, ours] = ['theirs', 'ours'].map((by) => imageOf([], { annotations: { by } })) as [string, string];
  // One after another: each place holds whoever comes first.
  for (const gap of writes) {
    await pushBlob(client, `crash/${gap}`, '{}');
    ask(putManifest(other, `crash/${gap}`, 'tag', theirs));
    await victim.reached(gap);
  }
  const uploads: { readonly session: string; readonly bytes: Buffer; readonly sent: number }[] = [];
  for (const gap of takeOvers) {
    const bytes = bytesOf(6 * 1024 * 1024, gap);
    const sent = bytes.length - 1000;
    const session = await openSession(client, 'crash/uploads');
    if ((await client.send('PATCH', session, { body: bytes.subarray(0, sent) })).status !== 202)
      throw new Error('the upload did not begin');
    // Data of a writer that vanished are copied first.
    if (gap === 'upload.adopted') await sql('UPDATE upload_sessions SET node = gen_random_uuid(), lease_until = now() WHERE node IS NULL');
    uploads.push({ session, bytes, sent });
    ask(other.send('PUT', withDigest(session, digestOf(bytes)), { body: bytes.subarray(sent) }));
    await victim.reached(gap);
  }

  victim.child.kill(signal);
  await giveUp(place, known);
  await until('what it was writing has expired', async () => (await sql('SELECT 1 FROM pending_writes')).length === 0);
  for (const gap of writes) {
    t.equal((await putManifest(client, `crash/${gap}`, 'tag', ours)).status, 201, `another node pushes what was at ${gap}`);
  }
  for (const { session, bytes, sent } of uploads) {
    const stands = await client.send('GET', session);
    const received = stands.status === 204 ? Number(String(stands.headers['range']).split('-')[1]) + 1 : 0;
    t.ok(received >= sent, `${session} stands where the client was told: ${received}`);
    const finished = await client.send('PUT', withDigest(session, digestOf(bytes)), { body: bytes.subarray(received) });
    t.equal(finished.status, 201, finished.body.toString());
  }

  await wake(victim, signal);
  const statuses = (await Promise.all(answers)).map((answer) => answer?.status);
  for (const [index, status] of statuses.entries()) {
    // A push whose client still waits may be begun anew, after ours, by the node that has become another one; nobody's upload ends twice.
    const may = index < writes.length && status === 201;
    t.ok(status === undefined || status >= 400 || may, `whoever it answers late is told so: ${status ?? 'no answer'} (${index})`);
  }
  await end(victim);
  // What it wrote after it was given up is deleted a second time.
  for (let day = 0; day < 3; day++) {
    await place.age('25 hours');
    await place.collect();
  }
  for (const [index, gap] of writes.entries()) {
    const begunAnew = statuses[index] === 201;
    const tag = (await client.send('GET', `/v2/crash/${gap}/manifests/tag`)).body.toString();
    t.equal(tag, begunAnew ? theirs : ours, `${gap}: the tag is where it was put last`);
    for (const [image, entries] of [[ours, 1] as const, [theirs, begunAnew ? 1 : 0] as const]) {
      const hex = digestOf(image).slice('sha256:'.length);
      for (const kind of ['_manifests', '_tags']) {
        const keys = (await place.store.list(`repositories/crash/${gap}/${kind}/`)).filter((key) => key.includes(hex));
        t.equal(keys.length, entries, `${gap}: what was told, and no more, stands in ${kind}: ${keys.join(' ')}`);
      }
    }
  }
}

/** `gc --now` as the process that ends. */
async function collection(t: Test, place: Place, signal: Signal, gap: string): Promise<void> {
  const { client, sql } = place;
  const repository = `crash/${gap}`;
  const kept = imageOf(['kept'], { annotations: { gap } });
  const dropped = imageOf([], { annotations: { dropped: gap } });
  for (const content of ['{}', 'kept', `lost ${gap}`]) await pushBlob(client, repository, content);
  t.equal((await putManifest(client, repository, 'tag', kept)).status, 201);
  await putManifest(client, repository, digestOf(dropped), dropped);
  await place.age('9 days');
  const known = (await sql<{ id: string }>('SELECT id FROM nodes')).map(({ id }) => id);
  const victim = await startHeld(['gc', '--now', '--config', place.configFile, '--root', place.root], [gap]);
  t.teardown(() => void victim.child.kill('SIGKILL'));
  await victim.reached(gap);
  victim.child.kill(signal);
  // Postgres ends what a frozen process has begun after 10 s by itself, and what a dead one has at once.
  await sql(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'`);
  await giveUp(place, known);
  await place.age('10 minutes');
  await place.collect();
  t.equal(await linkExists(place, repository, `lost ${gap}`), false, 'another collects what it had begun to');
  await pushBlob(client, repository, `lost ${gap}`);
  await wake(victim, signal);
  const code = await victim.ended;
  t.ok(signal === 'SIGKILL' ? code === -1 : code >= 0, `it ends: ${code}`);
  await place.age('23 hours');
  await place.collect();
  for (const content of ['kept', `lost ${gap}`]) {
    t.equal((await client.send('GET', `/v2/${repository}/blobs/${digestOf(content)}`)).body.toString(), content, `${content} is there`);
  }
  t.equal((await client.send('GET', `/v2/${repository}/manifests/tag`)).body.toString(), kept);
  const left = await place.store.list(`repositories/${repository}/_blobs/sha256/${digestOf(`lost ${gap}`).slice(7)}/`);
  t.equal(left.length, 1, `the entry that was collected is gone from the store, and the newer one is there: ${left.join(' ')}`);
  t.equal((await client.send('GET', `/v2/${repository}/manifests/${digestOf(dropped)}`)).status, 404);
}

async function linkExists({ sql }: Place, repository: string, content: string): Promise<boolean> {
  const rows = await sql(
    `SELECT 1 FROM repository_blobs l JOIN repositories r ON r.id = l.repository_id WHERE r.name = $1 AND l.digest = decode($2, 'hex')`,
    [repository, `01${digestOf(content).slice(7)}`],
  );
  return rows.length > 0;
}

/** Its sign of life is too old: what a minute would do. */
async function giveUp({ sql }: Place, known: readonly string[]): Promise<void> {
  await sql(`UPDATE nodes SET heartbeat_at = heartbeat_at - interval '2 minutes' WHERE id <> ALL ($1)`, [known]);
  await until('it is given up', async () => {
    await sql('SELECT delete_dead_nodes()');
    return (await sql('SELECT 1 FROM nodes WHERE id <> ALL ($1)', [known])).length === 0;
  });
}

async function wake(victim: HeldProgram, signal: Signal): Promise<void> {
  if (signal === 'SIGSTOP') victim.child.kill('SIGCONT');
  await victim.release();
}

async function end({ child, ended }: HeldProgram): Promise<void> {
  child.kill('SIGTERM');
  await ended;
}
