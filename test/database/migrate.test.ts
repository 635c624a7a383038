// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Somebody who migrates and then freezes, or whose server does, holds up nobody for long. */
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { mock } from 'node:test';
import path from 'node:path';
import { Client } from 'pg';
import t, { type Test } from 'tap';
import { isConnectionLoss } from '../../src/database/failures.js';
import { migrateOn } from '../../src/database/migrate.js';
import { openServiceManager } from '../../src/supervision/service-manager.js';
import { spawnTracked } from '../support/command.js';
import { openNotifySocket } from '../support/notify-socket.js';
import { startPostgresProxy } from '../support/postgres-proxy.js';
import { freshDatabase } from '../support/postgres.js';
import { main } from '../support/program.js';
import { freePort, temporaryDirectory } from '../support/registry.js';
import { startStoppablePostgres } from '../support/stoppable-postgres.js';
import { until } from '../support/wire-suite.js';

t.jobs = 5;
void t.test('amid a migration', { buffered: true }, (t) =>
  frozenAt(t, 'INSERT INTO schema_migrations (number, name, breaking) VALUES ($1, $2, $3)'),
);
void t.test('between two', { buffered: true }, (t) => frozenAt(t, 'SELECT number FROM schema_migrations'));
void t.test('a server that goes silent while it is waited for', { buffered: true }, silentServer);
void t.test('a start that waits, and is told to stop', { buffered: true }, stoppedStart);
void t.test('an end is not put off by what goes on', { buffered: true }, endOfReprieve);

async function open(t: Test, url: string): Promise<Client> {
  const client = new Client({ connectionString: url });
  await client.connect();
  t.teardown(() => client.end());
  return client;
}

/** From this statement on the server hears nothing of who migrates, whose connection stays. */
async function frozenAt(t: Test, statement: string): Promise<void> {
  const { url } = await freshDatabase();
  const server = { connectionString: url };
  await migrateOn(server);
  const client = await open(t, url);
  await client.query(
    'ALTER TABLE upload_sessions DROP COLUMN owner; DROP FUNCTION owned_by(uuid, text, text); DELETE FROM schema_migrations WHERE number = 30',
  );
  const proxy = await startPostgresProxy(url);
  t.teardown(() => proxy.close());
  const held = proxy.holdAt(statement);
  const frozen = migrateOn({ connectionString: proxy.url }).then(
    () => undefined,
    (error: unknown) => error,
  );
  await held;
  await migrateOn(server);
  t.pass('another one migrates');
  await client.query('DELETE FROM upload_sessions WHERE owner IS NULL');
  t.pass('and what is to be altered can be written to');
  t.ok(isConnectionLoss(await frozen), 'who froze learns that its connection is gone, and may try again');
}

async function silentServer(t: Test): Promise<void> {
  const postgres = await startStoppablePostgres();
  t.teardown(() => postgres.close());
  const holder = await holdLock(t, postgres.url);
  const server = { connectionString: postgres.url };
  const waiting = t.rejects(migrateOn(server), /timeout/, 'it is not waited for without end');
  const asked = `SELECT FROM pg_stat_activity WHERE application_name = 'ha-registry migrate' AND query LIKE '%advisory_lock%'`;
  await until('it waits', async () => (await holder.query(asked)).rowCount === 1);
  postgres.stall();
  await waiting;
  postgres.flow();
}

async function stoppedStart(t: Test): Promise<void> {
  const { url } = await freshDatabase();
  await holdLock(t, url);
  const root = await temporaryDirectory('waits-');
  const address = path.join(root, 'notify.sock');
  const manager = await openNotifySocket(address);
  t.teardown(() => manager.close());
  const file = path.join(root, 'registry.yaml');
  await writeFile(file, JSON.stringify({ database: { url } }));
  const child = spawnTracked(process.execPath, [main, 'serve', '--config', file, '--root', root, '-p', String(await freePort())], {
    env: { ...process.env, NOTIFY_SOCKET: address },
    stdio: 'ignore',
  });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  await until('it waits', () => manager.messages.some((message) => message.includes('STATUS=migrating the database')));
  child.kill('SIGTERM');
  t.equal(await ended, 0, 'it ends');
}

/** As another node does that migrates. */
async function holdLock(t: Test, url: string): Promise<Client> {
  const holder = await open(t, url);
  await holder.query('SELECT pg_advisory_lock(4872100915)');
  return holder;
}

async function endOfReprieve(t: Test): Promise<void> {
  mock.timers.enable({ apis: ['setInterval'] });
  t.teardown(() => mock.timers.reset());
  const messages: string[] = [];
  const service = openServiceManager(
    (message) => messages.push(message),
    () => t.fail('it can be told'),
  );
  const ending = new AbortController();
  const work = service.during('migrating', once(ending.signal, 'abort'));
  mock.timers.tick(30_000);
  t.equal(messages.length, 3, 'a long work has its time extended');
  service.stopping(5_000);
  mock.timers.tick(60_000);
  t.strictSame(
    messages.slice(3),
    ['STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC=5000000'],
    'until the end begins, which has a time of its own',
  );
  ending.abort();
  await work;
}
