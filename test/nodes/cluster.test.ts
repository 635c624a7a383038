// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Several nodes as one: who leads, and a database that is restarted, replaced, or goes back in time. */
import path from 'node:path';
import t, { type Test } from 'tap';
import { bareDirectory } from '../support/bare-store.js';
import { errorCode } from '../support/http-client.js';
import { startOwnPostgres } from '../support/own-postgres.js';
import { freshDatabase } from '../support/postgres.js';
import { freePort, temporaryDirectory } from '../support/registry.js';
import { digestOf, imageOf, pushBlob, until } from '../support/wire-suite.js';
import { highestSequence, leads, pulls, pushTag, query, refusal, startNode, untilPushed, untilRows } from './cluster-node.js';

t.jobs = 3;
void t.test('leadership', { buffered: true }, leadership);
void t.test('a database that goes back in time', { buffered: true }, backInTime);
void t.test('several servers', { buffered: true }, severalServers);
void t.test('a standby that is promoted', { buffered: true }, promotedStandby);
void t.test('a copy of the database', { buffered: true }, copiedDatabase);

async function leadership(t: Test): Promise<void> {
  const { url } = await freshDatabase();
  const root = await temporaryDirectory('cluster-');
  const first = await startNode(t, root, { url });
  const second = await startNode(t, root, { url });
  t.ok(leads(first), 'who is there first leads');
  t.notOk(leads(second), 'nobody else does');
  await pushTag(first, 'team/a', 'v1');
  t.equal(await pulls(second, 'team/a', 'v1'), imageOf(['v1']), 'the other node serves what was pushed to the one');

  process.kill(first.pid, 'SIGSTOP');
  const frozenAt = Date.now();
  try {
    await until('the other one leads', () => leads(second));
    const seconds = (Date.now() - frozenAt) / 1000;
    t.ok(seconds < 15, `a frozen leader hands over within 15 s: ${seconds}`);
    await pushTag(second, 'team/a', 'v2');
    await untilRows(url, 'SELECT id FROM nodes', 1);
    t.pass('it is declared dead soon');
  } finally {
    process.kill(first.pid, 'SIGCONT');
  }
  await until('it knows', () => !leads(first));
  t.ok(leads(second), 'when it wakes, it leads no more');
  await untilRows(url, 'SELECT id FROM nodes', 2);
  await untilPushed(first, 'team/a', 'v3');
  t.equal(await pulls(first, 'team/a', 'v2'), imageOf(['v2']), 'and it serves and takes pushes, under a new id');

  // The other one joined again a moment ago.
  const [{ id } = { id: '' }] = (await query(url, 'SELECT id FROM nodes ORDER BY started_at LIMIT 1')) as { id: string }[];
  await second.kill();
  const killedAt = Date.now();
  await until('the first one leads again', () => leads(first));
  t.ok(Date.now() - killedAt < 10_000, 'a killed leader hands over with the next beat');
  for (const tag of ['v1', 'v2', 'v3']) t.equal(await pulls(first, 'team/a', tag), imageOf([tag]), `${tag} is there`);
  t.equal(await first.stop(), 0, 'it stops');
  t.equal((await query(url, `SELECT id FROM nodes WHERE id <> '${id}'`)).length, 0, 'and leaves');
}

async function backInTime(t: Test): Promise<void> {
  const postgres = await startOwnPostgres();
  t.teardown(() => postgres.close());
  const root = await temporaryDirectory('cluster-');
  const first = await startNode(t, root, { url: postgres.url });
  const second = await startNode(t, root, { url: postgres.url });
  const old = await pushTag(first, 'team/a', 'old');
  await pushTag(first, 'team/a', 'gone');

  await postgres.stop();
  const backup = await postgres.backUp();
  const refused = await first.client.send('POST', '/v2/team/a/blobs/uploads/', { body: '' });
  t.strictSame([refused.status, errorCode(refused)], [503, 'UNAVAILABLE'], 'without the database: 503');
  t.ok(Number(refused.headers['retry-after']) > 0, 'and when to try again');
  await postgres.start();
  for (const node of [first, second]) await untilPushed(node, 'team/a', `restarted-${node.port}`);
  t.same(
    await postgres.query('SELECT generation, catch_up_due FROM cluster'),
    [{ generation: '1', catch_up_due: null }],
    'a restart is no going back',
  );

  // What only the newer database knows: new repositories, shared blobs, an index, a moved tag, deletions.
  const moved = await pushTag(first, 'team/a', 'old', 'moved');
  const fresh = await pushTag(second, 'team/b', 'fresh');
  await first.client.send('POST', `/v2/team/c/blobs/uploads/?mount=${digestOf('fresh')}&from=team/b`, { body: '' });
  const blob = await pushBlob(second.client, 'team/c', 'a blob by itself');
  t.equal((await second.client.send('DELETE', '/v2/team/a/manifests/gone')).status, 202);
  await pushTag(second, 'team/d', 'dead');
  t.equal((await first.client.send('DELETE', `/v2/team/d/manifests/${digestOf(imageOf(['dead']))}`)).status, 202);
  const before = await highestSequence(postgres);

  await postgres.stop();
  await postgres.restore(backup);
  await postgres.start();
  await untilPushed(second, 'team/e', 'later');
  await untilPushed(first, 'team/e', 'later-still');
  for (const node of [first, second]) {
    t.equal(await pulls(node, 'team/a', 'old'), moved, 'a tag that was moved is where it was');
    t.equal(await pulls(node, 'team/b', 'fresh'), fresh, 'a repository that the database had forgotten');
    t.equal((await node.client.send('GET', `/v2/team/c/blobs/${digestOf('fresh')}`)).body.toString(), 'fresh', 'a mount');
    t.equal((await node.client.send('GET', `/v2/team/c/blobs/${blob}`)).body.toString(), 'a blob by itself', 'a blob');
    t.equal((await node.client.send('GET', '/v2/team/a/manifests/gone')).status, 404, 'a deleted tag stays deleted');
    t.equal((await node.client.send('GET', `/v2/team/d/manifests/${digestOf(imageOf(['dead']))}`)).status, 404, 'a deleted manifest, too');
  }
  t.not(moved, old);
  await until('the store is walked', () => /the database has caught up with the store/.test(first.log() + second.log()));
  t.same(
    await postgres.query('SELECT generation, catch_up_due FROM cluster'),
    [{ generation: '2', catch_up_due: null }],
    'a new generation, and a walk over the store by whoever leads',
  );
  t.ok((await highestSequence(postgres)) > before, 'sequences go on above the old ones');
  t.match(first.log() + second.log(), /\d+ acknowledged writes of the last hour were verified, [1-9]\d* of them given back/);
  const trashed = await postgres.query('SELECT key FROM object_trash WHERE key IN (SELECT data_key(uuid) FROM blobs)');
  t.same(trashed, [], 'nothing that is linked is to be deleted');
}

async function severalServers(t: Test): Promise<void> {
  const primary = await startOwnPostgres();
  t.teardown(() => primary.close());
  const root = await temporaryDirectory('cluster-');
  const alone = await startNode(t, root, { url: primary.url });
  await pushTag(alone, 'team/a', 'v1');
  t.equal(await alone.stop(), 0);
  await primary.stop();
  const standby = await startOwnPostgres({ backup: await primary.backUp() });
  t.teardown(() => standby.close());
  await primary.start();
  // As a standby answers, but for the log that it would replay.
  await standby.query('ALTER DATABASE ha_registry SET default_transaction_read_only = on');

  const unreachable = `postgres://ha_registry@127.0.0.1:${await freePort()}/ha_registry`;
  const node = await startNode(t, root, { urls: [unreachable, standby.url, primary.url] });
  await pushTag(node, 'team/a', 'v2');
  t.same(
    await primary.query('SELECT name FROM tags ORDER BY name'),
    [{ name: 'v1' }, { name: 'v2' }],
    'the one that takes writes is found',
  );
  const without = await startNode(t, root, { urls: [standby.url, unreachable] });
  t.match(
    (await without.client.send('GET', '/readyz')).body.toString(),
    /"status":"degraded"/,
    'without it a node serves what the store holds',
  );
  t.equal(await pulls(without, 'team/a', 'v2'), imageOf(['v2']));
  t.equal((await without.client.send('POST', '/v2/team/a/blobs/uploads/', { body: '' })).status, 503, 'and takes no pushes');
  t.equal(await without.stop(), 0);

  await primary.stop();
  await standby.query('BEGIN READ WRITE; ALTER DATABASE ha_registry RESET default_transaction_read_only; COMMIT');
  const since = Date.now();
  await untilPushed(node, 'team/a', 'v3');
  t.ok(Date.now() - since < 40_000, `the promoted one is found within ${(Date.now() - since) / 1000} s`);
  t.same(
    await standby.query('SELECT name FROM tags ORDER BY name'),
    [{ name: 'v1' }, { name: 'v2' }, { name: 'v3' }],
    `with what it had not heard of\n${node.log()}`,
  );
  await primary.start();
  await pushTag(node, 'team/a', 'v4');
  t.equal((await primary.query('SELECT name FROM tags')).length, 2, 'the old primary comes back, and nothing is written to it');
  t.match(await refusal(root, { url: primary.url }), /generation 1, but the store goes with generation 2: an old database has come back/);
}

/** A real one, by streaming replication; what it had not received yet is lost to it. */
async function promotedStandby(t: Test): Promise<void> {
  const primary = await startOwnPostgres({ replicates: true });
  t.teardown(() => primary.close());
  const root = await temporaryDirectory('cluster-');
  const alone = await startNode(t, root, { url: primary.url });
  await pushTag(alone, 'team/a', 'v1');
  t.equal(await alone.stop(), 0);
  await primary.stop();
  const backup = await primary.backUp();
  await primary.start();
  const standby = await startOwnPostgres({ backup, follows: primary });
  t.teardown(() => standby.close());
  t.same(await standby.query('SELECT pg_is_in_recovery() AS follows'), [{ follows: true }], 'it follows');
  t.match(
    await refusal(await temporaryDirectory('x-'), { url: standby.url }),
    'the database server is a standby or read-only',
    'alone it is refused',
  );

  const node = await startNode(t, root, { urls: [standby.url, primary.url] });
  await pushTag(node, 'team/a', 'v2');
  const tagsOf = async (): Promise<string> =>
    (await standby.query('SELECT name FROM tags ORDER BY name')).map(({ name }) => String(name)).join(' ');
  await until('it has received the push', async () => (await tagsOf()) === 'v1 v2');
  await standby.query(`ALTER SYSTEM SET primary_conninfo = ''`);
  await standby.query('SELECT pg_reload_conf()');
  await until('it receives nothing more', async () => (await standby.query('SELECT FROM pg_stat_wal_receiver')).length === 0);
  await pushTag(node, 'team/a', 'v3');
  await primary.stop();
  t.equal(await pulls(node, 'team/a', 'v3'), imageOf(['v3']), 'without a primary pulls go on');
  t.same(await standby.query('SELECT pg_promote() AS promoted'), [{ promoted: true }]);
  await untilPushed(node, 'team/a', 'v4');
  t.equal(await tagsOf(), 'v1 v2 v3 v4', `what it had not received is given back to it\n${node.log()}`);
  t.match(
    node.log(),
    /the database has gone back in time \(it was (\d+\/\d+)\/00000001 and is \1\/00000002\)/,
    'since it is on another timeline',
  );
  await until('the store is walked', () => node.log().includes('the database has caught up with the store'));
}

async function copiedDatabase(t: Test): Promise<void> {
  const { url } = await freshDatabase();
  const root = await temporaryDirectory('cluster-');
  const first = await startNode(t, root, { url });
  await pushTag(first, 'team/a', 'v1');
  t.equal(await first.stop(), 0);
  const name = new URL(url).pathname.slice(1);
  const copy = new URL(url);
  copy.pathname = `/${name}_copy`;
  const server = new URL(url);
  server.pathname = '/postgres';
  await query(server.href, `CREATE DATABASE ${name}_copy TEMPLATE ${name}`);

  const second = await startNode(t, root, { url: copy.href });
  t.match(
    second.log(),
    /the database has gone back in time \(it was \S+ and is \S+\): a new generation begins/,
    'a copy is another database',
  );
  await pushTag(second, 'team/a', 'v2');
  t.match(await refusal(root, { url }), /an old database has come back/, 'the original is an old one from then on');

  // Had the original been taken for the newest as well, at the same moment, its mark would be the one that is left.
  const marks = bareDirectory(path.join(root, 'store'));
  const [newest = ''] = await marks.list(/^cluster\/generations\//);
  await marks.remove(newest);
  await marks.write(newest, JSON.stringify({ fingerprint: 'another' }));
  await until('a generation of its own', async () => (await marks.list(/^cluster\/generations\//)).length === 3);
  t.match(second.log(), /the store goes with another, and this is/, 'two databases are not written to under one generation');
  await untilPushed(second, 'team/a', 'v3');
  t.equal(await second.stop(), 0);
}
