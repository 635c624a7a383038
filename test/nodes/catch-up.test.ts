// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** A database that was set back while no node ran: what only the store remembers comes back by itself, and nothing is collected before. */
import { existsSync } from 'node:fs';
import { cp, mkdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Client } from 'pg';
import t, { type Test } from 'tap';
import { databaseState, stateDifferences } from '../support/database-state.js';
import { startOwnPostgres, type OwnPostgres } from '../support/own-postgres.js';
import { startPostgresProxy } from '../support/postgres-proxy.js';
import { temporaryDirectory } from '../support/registry.js';
import { bytesOf, digestOf, imageOf, openSession, pushBlob, until, withDigest } from '../support/wire-suite.js';
import { highestSequence, leads, pulls, pushTag, startNode, type ClusterNode } from './cluster-node.js';

t.jobs = 3;
void t.test('an old dump beside a newer store', { buffered: true }, oldDump);
void t.test('a copy from less than a minute before', { buffered: true }, (t) =>
  recentCopy(t, false, 'its server was started anew after all nodes had ended without a word'),
);
void t.test('and from before a node that has come since', { buffered: true }, (t) =>
  recentCopy(t, true, 'nodes that it does not know have used the store'),
);
void t.test('a lock that somebody holds', { buffered: true }, behindALock);
void t.test('no walk where there is nothing to doubt', { buffered: true }, noDoubt);

async function oldDump(t: Test): Promise<void> {
  const postgres = await startOwnPostgres();
  t.teardown(() => postgres.close());
  const root = await temporaryDirectory('catch-up-');
  // Sessions expire at once: one that the dump holds has become a blob since.
  const settings = { uploads: { expire_after: '1s' } };
  const before = await startNode(t, root, { url: postgres.url });
  for (const tag of ['stays', 'moves', 'goes', 'dies']) await pushTag(before, 'old', tag);
  const session = await openSession(before.client, 'old');
  const bytes = bytesOf(100_000, 'unfinished');
  t.equal((await before.client.send('PATCH', session, { body: bytes.subarray(0, 70_000) })).status, 202, 'an upload that is not finished');
  t.equal(await before.stop(), 0);
  await postgres.stop();
  const dump = await postgres.backUp();
  await postgres.start();

  const writers = [await startNode(t, root, { url: postgres.url }), await startNode(t, root, { url: postgres.url })] as const;
  await writeSince(writers, session, bytes);
  const highest = await highestSequence(postgres);
  await until('what is superseded has been deleted', async () => (await postgres.query('SELECT FROM object_trash')).length === 0, 60_000);
  const newest = await databaseState(postgres.url);
  // Nobody is left who remembers what was acknowledged.
  for (const writer of writers) await writer.kill();
  await postgres.stop();
  await postgres.restore(dump);
  await postgres.start();
  const garbage = path.join(root, 'store/data/00/00000000-0000-4000-8000-000000000000');
  await mkdir(path.dirname(garbage), { recursive: true });
  await writeFile(garbage, 'garbage');
  await postgres.query(`INSERT INTO object_trash (key, reason, not_before) VALUES ($1, 'upload', now())`, [
    path.relative(path.join(root, 'store'), garbage),
  ]);

  const proxy = await startPostgresProxy(postgres.url);
  t.teardown(() => proxy.close());
  const held = proxy.holdAt('list-known-links');
  const first = await startNode(t, root, { url: proxy.url }, settings);
  const second = await startNode(t, root, { url: postgres.url }, settings);
  await held;
  t.match(first.log(), /the database (has|may have) gone back in time/, 'it is noticed');
  t.match(first.log(), 'the store is walked for what the database lacks', 'and the leader walks the store');
  t.ok(existsSync(garbage), 'the trash is not emptied meanwhile');
  await pushTag(second, 'old', 'during');
  t.ok((await sequenceOf(postgres, 'during')) > highest, 'what is pushed meanwhile has a newer sequence than all there ever was');
  await first.kill();
  await until('another node leads', () => leads(second));
  await until('it has walked the store from the start', () => second.log().includes('the database has caught up with the store'), 60_000);

  const differences = await stateDifferences(postgres.url, newest);
  t.strictSame(
    differences.filter(
      (line) =>
        !line.includes('during') && !line.includes(digestOf('during').slice(7)) && !line.includes(digestOf(imageOf(['during'])).slice(7)),
    ),
    [],
    'everything newer is adopted, row by row, and nothing else has changed',
  );
  await readSince(t, second, bytes);
  await until('the trash is emptied again', () => !existsSync(garbage));
  t.same(
    await postgres.query('SELECT key FROM object_trash WHERE key IN (SELECT data_key(uuid) FROM blobs)'),
    [],
    'nothing that is linked is to be deleted',
  );
  t.same(
    await postgres.query(`SELECT FROM cluster WHERE catch_up_due IS NULL AND gc_not_before BETWEEN now() AND now() + interval '2 days'`),
    [{}],
    'collection waits for one delay more',
  );
}

/** What the walk cannot adopt at once is not passed over: after its end whatever is pending from before would be given up. */
async function behindALock(t: Test): Promise<void> {
  const postgres = await startOwnPostgres();
  t.teardown(() => postgres.close());
  const root = await temporaryDirectory('catch-up-');
  const before = await startNode(t, root, { url: postgres.url });
  await pushTag(before, 'old', 'v1');
  t.equal(await before.stop(), 0);
  await postgres.stop();
  const dump = await postgres.backUp();
  await postgres.start();
  const writer = await startNode(t, root, { url: postgres.url });
  await pushTag(writer, 'new', 'v1');
  await writer.kill();
  await postgres.stop();
  await postgres.restore(dump);
  await postgres.start();

  // As of a node whose host was lost within its commit.
  const blocker = new Client({ connectionString: postgres.url });
  blocker.on('error', () => undefined);
  await blocker.connect();
  t.teardown(() => blocker.end());
  await blocker.query('BEGIN');
  await blocker.query(`INSERT INTO repositories (name) VALUES ('new')`);
  const node = await startNode(t, root, { url: postgres.url });
  const waiting = async (): Promise<string | undefined> => {
    const rows = await postgres.query(
      `SELECT xact_start::text FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%adopt_entry%'`,
    );
    return (rows[0] as { xact_start: string } | undefined)?.xact_start;
  };
  const caughtUp = (): boolean => node.log().includes('the database has caught up with the store');
  const first = await until('the walk waits', waiting);
  await until('it tries again, or goes on', async () => caughtUp() || ![undefined, first].includes(await waiting()), 60_000);
  t.notOk(caughtUp(), 'it does not go on');
  await blocker.query('ROLLBACK');
  await until('it comes to its end', caughtUp, 60_000);
  t.equal(await pulls(node, 'new', 'v1'), imageOf(['v1']), 'nothing was passed over');
}

/** What only the newer database knows. */
async function writeSince([one, other]: readonly [ClusterNode, ClusterNode], session: string, bytes: Buffer): Promise<void> {
  await pushTag(one, 'old', 'moves', 'moved');
  await pushTag(other, 'new', 'v1', 'new');
  await pushBlob(other.client, 'old', 'a blob by itself');
  const answers = [
    await one.client.send('POST', `/v2/mounted/blobs/uploads/?mount=${digestOf('new')}&from=new`, { body: '' }),
    await one.client.send('DELETE', '/v2/old/manifests/goes'),
    await other.client.send('DELETE', `/v2/old/manifests/${digestOf(imageOf(['dies']))}`),
    await other.client.send('PUT', withDigest(session, digestOf(bytes)), { body: bytes.subarray(70_000) }),
  ];
  const codes = answers.map(({ status }) => status).join(' ');
  if (codes !== '201 202 202 201') throw new Error(`${codes}: ${answers.map(({ body }) => body.toString()).join(' ')}`);
}

async function readSince(t: Test, node: ClusterNode, bytes: Buffer): Promise<void> {
  const get = async (where: string): Promise<string> => {
    const { status, body } = await node.client.send('GET', where);
    return status === 200 ? body.toString('latin1') : String(status);
  };
  for (const [repository, tag, content] of [
    ['old', 'stays', 'stays'],
    ['old', 'moves', 'moved'],
    ['new', 'v1', 'new'],
  ] as const)
    t.equal(await pulls(node, repository, tag), imageOf([content]), `${repository}:${tag}`);
  t.equal(await get(`/v2/old/blobs/${digestOf(bytes)}`), bytes.toString('latin1'), 'the upload that the dump took for unfinished');
  t.equal(await get(`/v2/old/blobs/${digestOf('a blob by itself')}`), 'a blob by itself', 'a blob');
  t.equal(await get(`/v2/mounted/blobs/${digestOf('new')}`), 'new', 'a mount');
  t.equal(await get('/v2/old/manifests/goes'), '404', 'a deleted tag stays deleted');
  t.equal(await get(`/v2/old/manifests/${digestOf(imageOf(['dies']))}`), '404', 'so does a manifest');
}

/** Neither the minute's high-water nor the server's identity tells. */
async function recentCopy(t: Test, withAnother: boolean, reason: string): Promise<void> {
  const postgres = await startOwnPostgres();
  t.teardown(() => postgres.close());
  const root = await temporaryDirectory('catch-up-');
  const node = await startNode(t, root, { url: postgres.url });
  await pushTag(node, 'team/a', 'v1');
  await postgres.stop();
  const copy = await postgres.backUp();
  const highWater = path.join(root, 'store/cluster/high-water');
  await mkdir(highWater, { recursive: true });
  await cp(highWater, path.join(root, 'high-water'), { recursive: true });
  await postgres.start();
  await until('it is pushed to again', () => pushTag(node, 'team/a', 'v2').catch(() => undefined), 60_000);
  const another = withAnother ? await startNode(t, root, { url: postgres.url }) : undefined;
  await Promise.all([node.kill(), another?.kill()]);
  // The store has not been told since how far the database is, which is done once a minute.
  await rm(highWater, { recursive: true, force: true });
  await cp(path.join(root, 'high-water'), highWater, { recursive: true });
  await postgres.stop();
  await postgres.restore(copy);
  await postgres.start();
  // A node that may be alive would verify what it remembers.
  await until('nobody counts as alive', async () => (await postgres.query('SELECT FROM nodes WHERE node_lives(id)')).length === 0);
  const next = await startNode(t, root, { url: postgres.url });
  t.match(next.log(), `the database may have gone back in time (${reason})`, 'it is suspected');
  await until('the store is walked', () => next.log().includes('the database has caught up with the store'));
  t.equal(await pulls(next, 'team/a', 'v2'), imageOf(['v2']), 'what it had lost is back');
}

async function noDoubt(t: Test): Promise<void> {
  const postgres = await startOwnPostgres();
  t.teardown(() => postgres.close());
  const generation = async (): Promise<unknown> => (await postgres.query('SELECT generation FROM cluster'))[0]?.['generation'];
  const root = await temporaryDirectory('catch-up-');
  const first = await startNode(t, root, { url: postgres.url });
  await pushTag(first, 'team/a', 'v1');
  await first.kill();
  await until('nobody counts as alive', async () => (await postgres.query('SELECT FROM nodes WHERE node_lives(id)')).length === 0);
  const second = await startNode(t, root, { url: postgres.url });
  t.equal(await generation(), '1', 'nodes that are killed while the server goes on');
  await pushTag(second, 'team/a', 'v2');
  t.equal(await second.stop(), 0);
  await postgres.stop();
  await postgres.start();
  const third = await startNode(t, root, { url: postgres.url });
  t.equal(await generation(), '1', 'a server that is started anew after its nodes have left');
  t.equal(await pulls(third, 'team/a', 'v2'), imageOf(['v2']));
}

async function sequenceOf(postgres: OwnPostgres, tag: string): Promise<bigint> {
  const [row] = await postgres.query('SELECT sequence FROM tags WHERE name = $1', [tag]);
  return BigInt(String(row?.['sequence']));
}
