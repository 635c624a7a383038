// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What does not belong together, or cannot be relied upon, is refused with a line that says why. */
import { cp, rm } from 'node:fs/promises';
import path from 'node:path';
import t, { type Test } from 'tap';
import { migrate } from '../../src/database/migrate.js';
import { openDatabase, type Queryer } from '../../src/database/pool.js';
import { openServers } from '../../src/database/servers.js';
import { disconnect } from '../../src/database/single-client.js';
import { startOwnPostgres } from '../support/own-postgres.js';
import { freshDatabase } from '../support/postgres.js';
import { startPooler } from '../support/pooler.js';
import { startPostgresProxy } from '../support/postgres-proxy.js';
import { jsonOf } from '../support/http-client.js';
import { freePort, temporaryDirectory } from '../support/registry.js';
import { findTool } from '../support/tools.js';
import { imageOf, until } from '../support/wire-suite.js';
import { failureOf, leads, pulls, pushTag, query, refusal, startNode, untilPushed, type ClusterNode } from './cluster-node.js';

void t.test('servers that will not do', { buffered: true }, servers);
void t.test('a late start that is refused', { buffered: true }, lateRefusal);
t.jobs = 2;
void t.test('what does not belong together', { buffered: true }, async (t) => {
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
});

async function servers(t: Test): Promise<void> {
  const { url } = await freshDatabase();
  const direct = await startPostgresProxy(url);
  t.teardown(() => direct.close());
  await t.test('one that is too old', async (t) => {
    const [{ version }] = (await query(url, `SELECT current_setting('server_version_num') AS version`)) as [{ version: string }];
    const proxy = await startPostgresProxy(url, { rewrite: (piece) => replaced(piece, version, '130022') });
    t.teardown(() => proxy.close());
    t.match(
      await refusal(await temporaryDirectory('x-'), { url: proxy.url }),
      /^ha-registry: the database server is Postgres \S+; ha-registry needs 14/,
    );
  });
  const pgbouncer = await findTool('pgbouncer');
  const missing = 'missing' in pgbouncer && `POOLERS ARE NOT TESTED: ${pgbouncer.missing}`;
  if (missing) console.error(missing);
  for (const [mode, pattern] of [
    ['transaction', /^ha-registry: a connection pooler in transaction mode stands before the database; .* \(database\.url\)$/],
    ['session', undefined],
  ] as const) {
    await t.test(`a pooler in ${mode} mode`, { skip: missing }, async (t) => {
      const pooler = await startPooler((pgbouncer as { path: string }).path, new URL(direct.url), mode);
      t.teardown(() => pooler.stop());
      const place = await temporaryDirectory('x-');
      if (pattern !== undefined) {
        t.match(await refusal(place, { url: pooler.url }), pattern, 'is refused');
        return;
      }
      const pool = { reads: 2, writes: 2 };
      const node = await startNode(t, place, { url: pooler.url, pool });
      await pushTag(node, 'team/a', 'v1');
      t.equal(await pulls(node, 'team/a', 'v1'), imageOf(['v1']), 'goes well');
      await sessionsAreTold(t, pooler.url, 'behind the pooler');
      await handsOver(t, node, await startNode(t, place, { url: pooler.url, pool }));
    });
  }
  await t.test('what sessions are told', async (t) => {
    await migrate(url);
    const own = new URL(direct.url);
    own.searchParams.set('options', '-c work_mem=8MB');
    await sessionsAreTold(t, own.href, 'a URL with options of its own');
    const before = direct.roundTrips.length;
    await sessionsAreTold(t, direct.url, 'directly');
    t.equal(direct.roundTrips.slice(before).filter((text) => text.includes('set_config')).length, 1, 'the first one alone is asked');
  });
}

/** Every connection of a node has the settings that its statements rely upon, whatever stands between. */
async function sessionsAreTold(t: Test, url: string, place: string): Promise<void> {
  const undoWindows = JSON.stringify([{ pattern: '', ms: 30 * 24 * 3_600_000 }]);
  const sizes = { reads: 2, writes: 2 };
  const database = openDatabase({ servers: openServers([url]), sizes, gcDelayMs: 5_400_000, undoWindows, onLoss: () => undefined });
  try {
    const ofSession = `(SELECT string_agg(current_setting(name), ' ' ORDER BY name) FROM pg_settings
      WHERE name IN ('idle_in_transaction_session_timeout', 'lock_timeout', 'statement_timeout'))`;
    const alone = await database.connectAlone('presence', { idle_session_timeout: '10s', lock_timeout: '2s' }, 10_000);
    const sessions = [await database.reads.connect(), await database.writes.connect(), await database.writes.connect()];
    for (const session of sessions) {
      t.equal(await value(session, ofSession), '30s 10s 30s', `${place}: what may take how long`);
      session.release();
    }
    t.equal(await value(database.collector, ofSession), '10s 200ms 30s', `${place}: the collector's own`);
    t.equal(await value(alone, `current_setting('idle_session_timeout') || ' ' || current_setting('lock_timeout')`), '10s 2s', place);
    t.equal(await value(database.reads, 'round(extract(epoch FROM next_due() - clock_timestamp()) / 60)'), '90', `${place}: gc.delay`);
    await database.writes.query(`INSERT INTO repositories (name) VALUES ('team/told') ON CONFLICT DO NOTHING`);
    t.equal(
      await value(database.reads, `SELECT undo_window(id) FROM repositories WHERE name = 'team/told'`),
      '720:00:00',
      `${place}: gc.undo_window`,
    );
    await disconnect(alone);
  } finally {
    await database.close();
  }
}

async function value(queryer: Queryer, text: string): Promise<string | undefined> {
  const { rows } = await queryer.query<{ value: string }>(`SELECT (${text})::text AS value`);
  return rows[0]?.value;
}

async function handsOver(t: Test, first: ClusterNode, second: ClusterNode): Promise<void> {
  t.ok(leads(first), 'who is there first leads');
  process.kill(first.pid, 'SIGSTOP');
  try {
    await until('the other one leads', () => leads(second));
    t.pass('a frozen leader hands over');
  } finally {
    process.kill(first.pid, 'SIGCONT');
  }
  await untilPushed(first, 'team/a', 'v2');
}

/** A node that began without its database says why it does not use the one that has come. */
async function lateRefusal(t: Test): Promise<void> {
  const { url } = await freshDatabase();
  const root = await temporaryDirectory('cluster-');
  const first = await startNode(t, root, { url });
  await pushTag(first, 'team/a', 'v1');
  t.equal(await first.stop(), 0);
  const port = await freePort();
  const away = new URL(url);
  away.search = '';
  away.host = `127.0.0.1:${port}`;
  const node = await startNode(t, root, { url: away.href });
  t.match(node.log(), /the database is away, so pulls are served from the store and nothing can be pushed: .*ECONNREFUSED/);
  await query(url, `ALTER DATABASE ${away.pathname.slice(1)} SET synchronous_commit = off`);
  const proxy = await startPostgresProxy(url, { port });
  t.teardown(() => proxy.close());
  const reason = 'the database has synchronous_commit = off';
  await until('it says why', () => node.log().includes(reason));
  const asked = proxy.roundTrips.length;
  await until('it has tried again and again', () => proxy.roundTrips.length > 5 * asked + 20);
  t.equal(node.log().split(reason).length, 2, 'once');
  const readiness = { status: 'degraded', reason: 'the database is away, or cannot be used' };
  t.strictSame(jsonOf(await node.client.send('GET', '/readyz')), readiness, 'its readiness, which anybody may ask for, does not say it');
  t.equal(await pulls(node, 'team/a', 'v1'), imageOf(['v1']), 'pulls go on');
  await query(url, `ALTER DATABASE ${away.pathname.slice(1)} RESET synchronous_commit`);
  await untilPushed(node, 'team/a', 'v2');
}

/** As another server would say it. */
function replaced(piece: Buffer, text: string, by: string): Buffer {
  const at = piece.indexOf(text);
  if (at >= 0) piece.write(by, at);
  return piece;
}

async function removeMarks(root: string): Promise<void> {
  await rm(path.join(root, 'store/cluster/nodes'), { recursive: true, force: true });
}
