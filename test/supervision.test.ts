// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What a node tells the service manager that started it, over a real datagram socket, and how it leaves. */
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { cpSync, mkdirSync, symlinkSync } from 'node:fs';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { answersAt, type Listener } from '../src/supervision/watchdog.js';
import { run } from './support/command.js';
import { HttpClient } from './support/http-client.js';
import { openNotifySocket, type NotifySocket } from './support/notify-socket.js';
import { freshDatabase } from './support/postgres.js';
import { freePort, startRegistry, temporaryDirectory, type RegistryOptions, type RunningRegistry } from './support/registry.js';
import { until, type Engine } from './support/wire-suite.js';

const tree = path.resolve(import.meta.dirname, '..');
const withoutPython = await lacks('python3');
const withoutSystemd = withoutPython || (await lacks('systemd-notify'));
const watched = { WATCHDOG_USEC: '1000000' };

t.jobs = 2;
void t.test('ready, alive, stopping', { buffered: true, skip: withoutPython }, async (t) => {
  const directory = await temporaryDirectory('notify-');
  await fromStartToEnd(t, path.join(directory, 'notify.sock'), { env: watched }, 'uws');
});

void t.test('the same over an abstract socket, on the node engine', { buffered: true, skip: withoutPython }, (t) =>
  fromStartToEnd(t, `@ha-registry-test-${randomUUID()}`, { env: watched }, 'node'),
);

void t.test('the same without the addon', { buffered: true, skip: withoutSystemd }, async (t) => {
  const directory = await temporaryDirectory('no-addon-');
  mkdirSync(path.join(directory, 'native'));
  for (const name of ['dist', 'package.json']) cpSync(path.join(tree, name), path.join(directory, name), { recursive: true });
  symlinkSync(path.join(tree, 'node_modules'), path.join(directory, 'node_modules'));
  const launch: RegistryOptions['launch'] = ({ root, port, configFile }) => ({
    command: process.execPath,
    args: [path.join(directory, 'dist/main.js'), 'serve', '--root', root, '-p', String(port), '--config', configFile ?? ''],
  });
  await fromStartToEnd(t, path.join(directory, 'notify.sock'), { launch, env: watched }, 'node');
});

void t.test('a watchdog of another process, and a manager that is gone', { buffered: true, skip: withoutPython }, async (t) => {
  const address = path.join(await temporaryDirectory('notify-'), 'notify.sock');
  const manager = await openNotifySocket(address);
  const node = await start(address, { env: { WATCHDOG_USEC: '200000', WATCHDOG_PID: '1' } }, 'uws');
  await until('ready', () => manager.messages.some((message) => message.includes('READY=1')));
  await sleep(1_000);
  await manager.close();
  t.equal(countOf(manager, 'WATCHDOG=1'), 0, 'WATCHDOG_PID is not this process: no word');
  t.equal(await node.stop(), 0, 'it ends as ever, though nobody listens');
  // Its last words may still be on their way.
  await until('it says that nobody does', () => node.log().includes('service manager'));
  t.equal(
    node
      .log()
      .split('\n')
      .filter((line) => line.includes('service manager')).length,
    1,
    'once',
  );
});

void t.test('what answers, and what does not', { timeout: 60_000 }, async (t) => {
  const closing = await listen((socket) => socket.destroy());
  const held = new Set<Socket>();
  const silent = await listen((socket) => held.add(socket));
  t.equal(await answersAt(at(closing.port), 20_000), true, 'one that turns connections away is alive');
  t.equal(await answersAt(at(silent.port), 300), false, 'one that says nothing is not');
  t.equal(await answersAt(at(await freePort()), 20_000), false, 'nobody is not');
  for (const socket of held) socket.destroy();
  for (const { server } of [closing, silent]) server.close();
});

function at(port: number): Listener {
  return { host: '0.0.0.0', port, tls: false };
}

async function listen(onConnection: (socket: Socket) => void): Promise<{ server: Server; port: number }> {
  const server = createServer(onConnection).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { server, port: (server.address() as AddressInfo).port };
}

async function fromStartToEnd(t: Test, address: string, options: RegistryOptions, engine: Engine): Promise<void> {
  const manager = await openNotifySocket(address);
  t.teardown(() => manager.close());
  const node = await start(address, options, engine);
  const said = (line: RegExp): boolean => manager.messages.some((message) => message.some((text) => line.test(text)));
  await until('ready', () => said(/^READY=1$/));
  const before = manager.messages.slice(
    0,
    manager.messages.findIndex((message) => message.includes('READY=1')),
  );
  const [first] = before;
  t.strictSame(first, ['STATUS=migrating the database', 'EXTEND_TIMEOUT_USEC=60000000'], 'a migration may take its time');
  t.ok(said(new RegExp(`^STATUS=serving on port ${node.port}$`)), 'then it says where it serves');

  await until('alive, again and again', () => countOf(manager, 'WATCHDOG=1') >= 3);
  process.kill(node.pid, 'SIGSTOP');
  await untilQuiet(manager);
  t.pass('a node that is frozen says nothing');
  process.kill(node.pid, 'SIGCONT');
  const heard = countOf(manager, 'WATCHDOG=1');
  await until('alive again', () => countOf(manager, 'WATCHDOG=1') > heard + 1);

  const idle = new HttpClient(node.port);
  t.equal((await idle.send('GET', '/readyz')).status, 200, 'ready');
  const begin = performance.now();
  const stopped = node.stop();
  await until('stopping', () => said(/^STOPPING=1$/));
  // shutdown_delay 6 s, drain_timeout 20 s, and what closing takes.
  t.ok(said(/^EXTEND_TIMEOUT_USEC=66000000$/), 'it says how long that may take');
  const fresh = new HttpClient(node.port);
  t.equal((await fresh.send('GET', '/readyz')).status, 503, 'balancers are told');
  for (const client of [idle, fresh]) {
    const answer = await client.send('GET', '/v2/_catalog');
    t.strictSame([answer.status, answer.headers.connection], [200, 'close'], 'who asks all the same is served, and sent away');
    client.close();
  }
  t.equal(await stopped, 0, 'exit code 0');
  t.ok(performance.now() - begin >= 6_000, 'not before balancers could notice');
}

async function start(address: string, { env, ...options }: RegistryOptions, engine: Engine): Promise<RunningRegistry> {
  const { url } = await freshDatabase();
  const server = { engine, shutdown_delay: '6s', drain_timeout: '20s' };
  const config = { server, workers: { threads: 1 }, database: { url }, log: { level: 'warn' } };
  return startRegistry({ ...options, env: { ...env, NOTIFY_SOCKET: address }, config });
}

function countOf({ messages }: NotifySocket, line: string): number {
  return messages.filter((message) => message.includes(line)).length;
}

/** What was under way has arrived, and for four times the interval of a living node there is no more. */
async function untilQuiet(manager: NotifySocket): Promise<void> {
  await until('silence', async () => {
    const before = manager.messages.length;
    await sleep(2_000);
    return manager.messages.length === before;
  });
}

async function lacks(program: string): Promise<string | false> {
  return run(program, ['--version']).then(
    () => false,
    () => `${program} is not installed`,
  );
}
