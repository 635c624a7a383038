// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Several nodes as one: who leads, what does not belong together, and a database that is restarted, replaced, or goes back in time. */
import { cp, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Client } from 'pg';
import t, { type Test } from 'tap';
import { CommandFailed, run } from '../support/command.js';
import { errorCode, HttpClient } from '../support/http-client.js';
import { startOwnPostgres, type OwnPostgres } from '../support/own-postgres.js';
import { freshDatabase } from '../support/postgres.js';
import { freePort, startRegistry, temporaryDirectory, type RunningRegistry } from '../support/registry.js';
import { digestOf, imageOf, imageWithBlobs, pushBlob, putManifest, until } from '../support/wire-suite.js';

t.jobs = 3;
void t.test('leadership', { buffered: true }, leadership);
void t.test('what does not belong together is refused', { buffered: true }, topology);
void t.test('a database that goes back in time', { buffered: true }, backInTime);
void t.test('several servers', { buffered: true }, severalServers);
void t.test('a copy of the database', { buffered: true }, copiedDatabase);

const main = path.resolve(import.meta.dirname, '../../dist/main.js');

interface ClusterNode extends RunningRegistry {
  readonly client: HttpClient;
}

const settings = (database: object): object => ({
  server: { drain_timeout: '5s' },
  workers: { threads: 2 },
  log: { level: 'info' },
  database,
});

async function startNode(t: Test, root: string, database: object): Promise<ClusterNode> {
  const registry = await startRegistry({ root, config: settings(database) });
  const client = new HttpClient(registry.port);
  t.teardown(async () => {
    client.close();
    await registry.stop().catch(() => undefined);
  });
  return { ...registry, client };
}

const leads = ({ log }: ClusterNode): boolean => {
  const told = [...log().matchAll(/this node leads( no more)?/g)].at(-1);
  return told !== undefined && told[1] === undefined;
};

/** A tag by itself, so that each push is a write of its own. */
async function pushTag({ client }: ClusterNode, repository: string, tag: string, content = tag): Promise<string> {
  const image = await imageWithBlobs(client, repository, [content]);
  const answer = await putManifest(client, repository, tag, image);
  if (answer.status !== 201) throw new Error(`pushing ${tag}: ${answer.status} ${answer.body.toString()}`);
  return image;
}

async function pulls(node: ClusterNode, repository: string, tag: string): Promise<string> {
  const ask = () => node.client.send('GET', `/v2/${repository}/manifests/${tag}`);
  // A connection that was idle for ten seconds is closed, perhaps at this very moment.
  return (await ask().catch(ask)).body.toString();
}

/** A client that tries again, as it is told to. */
async function untilPushed(node: ClusterNode, repository: string, tag: string): Promise<void> {
  let last = '';
  const push = async (): Promise<boolean> => {
    try {
      await pushTag(node, repository, tag);
      return true;
    } catch (error) {
      last = String(error);
      return false;
    }
  };
  await until(`${tag} is pushed`, push, 60_000).catch((error: unknown) => {
    throw new Error(`${String(error)}: ${last}\n${node.log().slice(-3000)}`, { cause: error });
  });
}

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

  await second.kill();
  const killedAt = Date.now();
  await until('the first one leads again', () => leads(first));
  t.ok(Date.now() - killedAt < 6_000, 'a killed leader hands over with the next beat');
  for (const tag of ['v1', 'v2', 'v3']) t.equal(await pulls(first, 'team/a', tag), imageOf([tag]), `${tag} is there`);
  t.equal(await first.stop(), 0, 'it stops');
  t.equal((await query(url, 'SELECT id FROM nodes WHERE heartbeat_at > now() - interval $$3 seconds$$')).length, 0, 'and leaves');
}

async function topology(t: Test): Promise<void> {
  const { url } = await freshDatabase();
  const root = await temporaryDirectory('cluster-');
  const first = await startNode(t, root, { url });
  await pushTag(first, 'team/a', 'v1');

  await t.test('an empty directory beside a database in use', async (t) => {
    const empty = await temporaryDirectory('empty-');
    t.match(
      await refusal(empty, { url }),
      new RegExp(`^ha-registry: the store ${empty}/store is not the one that goes with this database`),
    );
  });
  await t.test('a copy of the store, while a node uses the other one', async (t) => {
    const copy = await temporaryDirectory('copy-');
    await cp(path.join(root, 'store'), path.join(copy, 'store'), { recursive: true });
    const line = await refusal(copy, { url }, () => removeMarks(copy));
    t.match(line, `ha-registry: a node of this database uses another store: filesystem ${root}/store, and this one ${copy}/store`);
  });
  await t.test('another database beside a store that is not its own, and an empty one', async (t) => {
    const other = await freshDatabase();
    t.match(await refusal(root, { url: other.url }), /the database is empty, but the store .* ha-registry rebuild/);
    const node = await startNode(t, await temporaryDirectory('other-'), { url: other.url });
    t.equal(await node.stop(), 0, 'it goes well with a store of its own');
    t.match(
      await refusal(root, { url: other.url }),
      /belongs to the database of cluster [0-9a-f-]{36}, but the database in use is that of cluster/,
    );
  });
  await t.test('a database that forgets what it was told', async (t) => {
    const other = await freshDatabase();
    const name = new URL(other.url).pathname.slice(1);
    await query(other.url, `ALTER DATABASE ${name} SET synchronous_commit = off`);
    t.match(await refusal(await temporaryDirectory('x-'), { url: other.url }), /^ha-registry: the database has synchronous_commit = off/);
  });
  await t.test('a server that allows too few connections', async (t) => {
    const other = await startOwnPostgres();
    t.teardown(() => other.close());
    const [limits] = await other.query<{ most: number }>(
      `SELECT sum(CASE WHEN name = 'max_connections' THEN setting::int ELSE -setting::int END)::int AS most FROM pg_settings
       WHERE name IN ('max_connections', 'superuser_reserved_connections', 'reserved_connections')`,
    );
    const most = limits?.most ?? 0;
    const place = await temporaryDirectory('x-');
    const line = await refusal(place, { url: other.url, pool: { reads: 100 } });
    t.match(line, `ha-registry: the database allows ${most} connections, and a node takes 120`, 'a node alone that takes too many');
    const node = await startNode(t, place, { url: other.url, pool: { reads: 40 } });
    const another = await startNode(t, place, { url: other.url, pool: { reads: 40 } });
    t.match(another.log(), `the database allows ${most} connections, but 2 nodes may take 60 each, 120 in all`, 'together: a warning');
    t.notMatch(node.log(), 'in all', 'which the first one did not need');
  });
  await t.test('a server that cannot be reached', async (t) => {
    const line = await refusal(await temporaryDirectory('x-'), { url: `postgres://nobody@127.0.0.1:${await freePort()}/none` });
    t.match(line, /^ha-registry: the database cannot be reached \(database\.url\): .*ECONNREFUSED/);
  });
  await t.test('settings that contradict each other', async (t) => {
    const failure = await failureOf(await temporaryDirectory('x-'), { url, urls: [url] });
    t.equal(failure.outcome, 'exit 2');
    t.match(failure.result.stderr, 'give one of database.url, database.urls and database.url_file');
  });
  t.equal(await pulls(first, 'team/a', 'v1'), imageOf(['v1']), 'the node that was there is not disturbed');
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
  const [cluster] = await postgres.query('SELECT generation, catch_up_due FROM cluster');
  t.same(cluster, { generation: '2', catch_up_due: '2' }, 'a new generation, and the store has to be walked');
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
  const standby = await startOwnPostgres(await primary.backUp());
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
  const without = await startNode(t, root, { urls: [unreachable, standby.url] });
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
  t.ok(Date.now() - since < 20_000, `the promoted one is found within ${(Date.now() - since) / 1000} s`);
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
  t.equal(await second.stop(), 0);
}

/** The one line with which a node refuses to start. */
async function refusal(root: string, database: object, before: () => Promise<void> = () => Promise.resolve()): Promise<string> {
  await before();
  const { outcome, result } = await failureOf(root, database);
  if (outcome !== 'exit 1' || result.stderr.trim().includes('\n')) throw new Error(`${outcome}: ${result.stderr}`);
  return result.stderr.trim();
}

async function failureOf(root: string, database: object): Promise<CommandFailed> {
  const config = path.join(await temporaryDirectory('config-'), 'registry.yaml');
  await writeFile(config, JSON.stringify(settings(database)));
  try {
    await run(process.execPath, [main, 'serve', '--root', root, '-p', String(await freePort()), '--config', config], { timeoutMs: 60_000 });
  } catch (error) {
    if (error instanceof CommandFailed) return error;
    throw error;
  }
  throw new Error('it started and ended well');
}

async function removeMarks(root: string): Promise<void> {
  await rm(path.join(root, 'store/cluster/nodes'), { recursive: true, force: true });
}

async function query(url: string, text: string): Promise<unknown[]> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(text)).rows;
  } finally {
    await client.end();
  }
}

async function untilRows(url: string, text: string, count: number): Promise<void> {
  await until(`${count} rows of ${text}`, async () => (await query(url, text)).length === count);
}

async function highestSequence(postgres: OwnPostgres): Promise<bigint> {
  const [row] = await postgres.query(
    'SELECT max(sequence) AS highest FROM (SELECT sequence FROM manifests UNION ALL SELECT sequence FROM repository_blobs UNION ALL SELECT sequence FROM tag_history) s',
  );
  return BigInt(String(row?.['highest']));
}
