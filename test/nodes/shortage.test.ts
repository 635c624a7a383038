// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** A server that lets nobody else in: whoever is in goes on, and whoever waits leaves room for the others. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import t, { type Test } from 'tap';
import { Availability } from '../../src/database/availability.js';
import { openDatabase } from '../../src/database/pool.js';
import { openServers } from '../../src/database/servers.js';
import { startOwnPostgres } from '../support/own-postgres.js';
import { freshDatabase } from '../support/postgres.js';
import { temporaryDirectory } from '../support/registry.js';
import { imageOf, until } from '../support/wire-suite.js';
import { pulls, pushTag, query, startNode, untilPushed } from './cluster-node.js';

const pool = { reads: 2, writes: 2 };

t.jobs = 3;
void t.test('connections that there are', { buffered: true }, kept);
void t.test('a start without a free connection', { buffered: true }, noneFree);
void t.test('a password that is changed', { buffered: true }, rotation);

interface Limited {
  readonly url: string;
  /** How many connections there may be; those that there are stay. */
  limit(connections: number): Promise<void>;
  /** On a connection that does not count. */
  ask(text: string): Promise<unknown[]>;
}

/** A database whose limit counts, as it does for everybody but superusers. */
async function limitedDatabase(): Promise<Limited> {
  const { url } = await freshDatabase();
  const own = new URL(url);
  const name = own.pathname.slice(1);
  const server = new URL(url);
  server.pathname = '/postgres';
  const ask = (text: string): Promise<unknown[]> => query(server.href, text);
  await ask(`CREATE ROLE ${name} LOGIN`);
  await ask(`ALTER DATABASE ${name} OWNER TO ${name}`);
  own.username = name;
  return { url: own.href, ask, limit: async (connections) => void (await ask(`ALTER DATABASE ${name} CONNECTION LIMIT ${connections}`)) };
}

async function kept(t: Test): Promise<void> {
  const limited = await limitedDatabase();
  const database = openDatabase({
    servers: openServers([limited.url]),
    sizes: pool,
    gcDelayMs: 0,
    undoWindows: '[]',
    onLoss: () => undefined,
  });
  const lost: string[] = [];
  const turnedAway: string[] = [];
  const availability = new Availability({
    probe: () => database.reads.query('SELECT 1'),
    isConnected: () => database.reads.totalCount > 0,
    onTurnedAway: (reason) => turnedAway.push(reason),
    onLost: (reason) => lost.push(reason),
    onRecovered: () => undefined,
  });
  const reads = availability.guardReads(database.reads);
  const busy = await database.reads.connect();
  await limited.limit(0);
  await t.rejects(reads.query('SELECT 1'), { code: '53300' }, 'no further connection');
  await until('it is looked for', () => turnedAway.length + lost.length > 0);
  t.strictSame([lost, availability.degraded], [[], false], 'the database is not given up');
  t.match(turnedAway, [/too many connections/], 'and why is told');
  busy.release();
  t.equal((await reads.query('SELECT 1')).rowCount, 1, 'it is asked on the connection that there is');

  await limited.ask(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '${new URL(limited.url).pathname.slice(1)}'`);
  await until('none is left', () => database.reads.totalCount === 0);
  await t.rejects(reads.query('SELECT 1'), { code: '53300' });
  await until('it is given up', () => lost.length > 0);
  t.match(lost, [/too many connections/]);
  availability.close();
  await database.close();
}

async function noneFree(t: Test): Promise<void> {
  const limited = await limitedDatabase();
  const root = await temporaryDirectory('limited-');
  const before = await startNode(t, root, { url: limited.url, pool });
  await pushTag(before, 'team/a', 'v1');
  t.equal(await before.stop(), 0);

  await limited.limit(0);
  const node = await startNode(t, root, { url: limited.url, pool });
  t.match(node.log(), /the database is away, so pulls are served from the store and nothing can be pushed: too many connections/);
  t.equal(await pulls(node, 'team/a', 'v1'), imageOf(['v1']), 'pulls are served');
  const begun = async (): Promise<number> => {
    const rows = await limited.ask(
      `SELECT sessions::int AS count FROM pg_stat_database WHERE datname = '${new URL(limited.url).pathname.slice(1)}'`,
    );
    return (rows as { count: number }[])[0]?.count ?? 0;
  };
  const asked = await begun();
  await limited.limit(1);
  await until('the only one is taken, and given back, again and again', async () => (await begun()) > asked + 3);
  await limited.limit(-1);
  await untilPushed(node, 'team/a', 'v2');
}

async function rotation(t: Test): Promise<void> {
  const postgres = await startOwnPostgres();
  t.teardown(() => postgres.close());
  await postgres.query(`CREATE ROLE node LOGIN PASSWORD 'first'`);
  await postgres.query('ALTER DATABASE ha_registry OWNER TO node');
  const [settings] = await postgres.query<{ hba_file: string }>('SHOW hba_file');
  await writeFile(settings?.hba_file ?? '', 'local all node scram-sha-256\nlocal all all trust\n');
  await postgres.query('SELECT pg_reload_conf()');
  const url = new URL(postgres.url);
  url.username = 'node';
  await until('passwords are asked for', () =>
    query(url.href, 'SELECT 1').then(
      () => false,
      () => true,
    ),
  );
  const root = await temporaryDirectory('rotation-');
  const file = path.join(root, 'password');
  await writeFile(file, 'first\n');
  const node = await startNode(t, root, { url: url.href, password_file: file, pool });
  await pushTag(node, 'team/a', 'v1');
  t.equal(await pulls(node, 'team/a', 'v1'), imageOf(['v1']), 'there is a connection for reads');
  await postgres.query(`ALTER ROLE node PASSWORD 'second'`);
  await postgres.query(`SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'ha-registry writes'`);
  const statuses: number[] = [];
  for (let round = 0; round < 3; round++) statuses.push((await node.client.send('POST', '/v2/team/a/blobs/uploads/', { body: '' })).status);
  t.strictSame(statuses, [503, 503, 503], 'new connections are refused, which is told as a matter of time');
  t.equal(await pulls(node, 'team/a', 'v1'), imageOf(['v1']), 'pulls go on');
  await writeFile(file, 'second\n');
  await untilPushed(node, 'team/a', 'v2');
  t.notMatch(node.log(), 'the database is away', 'and nothing was given up');

  url.password = 'own';
  t.match(openServers([url.href], file).current().connectionString, ':own@', 'a URL with a password of its own keeps it');
}
