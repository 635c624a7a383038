// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * Databases for tests. All test files of one run share a cluster without fsync: the first that asks starts this file as a process of
 * its own (`serve`), the others find it by the run's name, which is the parent process (tap's runner). Each test process holds a
 * connection to it; it ends, and removes everything, when the runner is gone or nobody has been connected for a while.
 * With TEST_DATABASE_URL (a superuser's or CREATEDB's) databases are made on that server instead.
 */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { Client } from 'pg';
import { startEmbeddedPostgres } from '../../src/database/embedded-postgres.js';

export interface FreshDatabase {
  /** For `new pg.Pool({ connectionString: url })`. */
  readonly url: string;
  /** Ends its connections and removes it. May be left out: the cluster goes with the run. */
  drop(): Promise<void>;
}

/** A new, empty database. */
export async function freshDatabase(): Promise<FreshDatabase> {
  const server = new URL(await (serverUrl ??= findServer()));
  const name = `test_${process.pid}_${randomBytes(4).toString('hex')}`;
  await execute(server.href, `CREATE DATABASE ${name}`);
  const url = new URL(server);
  url.pathname = `/${name}`;
  return { url: url.href, drop: () => execute(server.href, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`) };
}

/** A writing transaction in another database of the same server; resolves when it runs, to its end. */
export async function writeElsewhere(url: string): Promise<() => Promise<void>> {
  const elsewhere = new URL(url);
  elsewhere.pathname = '/postgres';
  const client = new Client({ connectionString: elsewhere.href });
  await client.connect();
  await client.query('BEGIN');
  await client.query('SELECT pg_current_xact_id()');
  return () => client.end();
}

let serverUrl: Promise<string> | undefined;

const startLimitMs = 60_000;
const idleLimitMs = 5_000;

function findServer(): Promise<string> {
  const external = process.env['TEST_DATABASE_URL'];
  return external === undefined || external === '' ? sharedServer() : Promise.resolve(external);
}

async function execute(connectionString: string, statement: string): Promise<void> {
  const client = new Client({ connectionString });
  client.on('error', () => {});
  try {
    await client.connect();
    await client.query(statement);
  } finally {
    await client.end();
  }
}

/** Two runs never share a name: it has the runner's id and, where it can be known, when it started. */
async function sharedServer(): Promise<string> {
  const socketPath = `/tmp/ha-registry-test-${String(process.getuid?.())}-${process.ppid}-${startTime(process.ppid)}.sock`;
  const deadline = Date.now() + startLimitMs;
  let spawned = false;
  while (Date.now() < deadline) {
    const answer = await ask(socketPath);
    if (answer?.url !== undefined) return answer.url;
    if (answer?.error !== undefined) throw new Error(`the tests' Postgres did not start: ${answer.error}`);
    if (!spawned) spawnServer(socketPath);
    spawned = true;
    await delay(20);
  }
  throw new Error("the tests' Postgres did not start in time");
}

interface Answer {
  readonly url?: string;
  readonly error?: string;
}

/** Undefined when nobody listens (yet), or no more. The connection stays open for the life of this process. */
function ask(socketPath: string): Promise<Answer | undefined> {
  return new Promise((resolve) => {
    const socket = connect(socketPath);
    socket.on('error', () => resolve(undefined));
    socket.on('close', () => resolve(undefined));
    socket.on('data', (line) => {
      socket.unref();
      resolve(JSON.parse(line.toString()) as Answer); // short, and written at once
    });
  });
}

/** With tsx, and through env(1) without tap, which adds itself to the environment of every Node process. */
function spawnServer(socketPath: string): void {
  const loader = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href;
  const variables = ['PATH', 'TMPDIR'].flatMap((name) => (process.env[name] === undefined ? [] : [`${name}=${process.env[name]}`]));
  const node = [process.execPath, '--import', loader, fileURLToPath(import.meta.url), socketPath, String(process.ppid)];
  spawn('env', ['-i', ...variables, ...node], { detached: true, stdio: ['ignore', 'ignore', 'inherit'] }).unref();
}

/** Takes the socket first: of several that were started at once, one wins and the others end. */
async function serve(socketPath: string, runner: number): Promise<void> {
  const clients = new Set<Socket>();
  const server = createServer((socket) => {
    clients.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => clients.delete(socket));
    socket.resume();
    void cluster.then(({ answer }) => socket.write(`${JSON.stringify(answer)}\n`));
  });
  if (!(await listen(server, socketPath))) return;
  const cluster = startCluster();
  for (let idleSince = Date.now(); isRunning(runner) || clients.size > 0; await delay(100)) {
    if (clients.size > 0) idleSince = Date.now();
    else if (Date.now() - idleSince > idleLimitMs) break;
  }
  server.close(); // removes the socket: who comes now starts another
  await (await cluster).stop();
}

/** False when another listens there; a socket that a killed one left behind is replaced. */
async function listen(server: Server, socketPath: string): Promise<boolean> {
  for (;;) {
    try {
      server.listen(socketPath);
      await once(server, 'listening');
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
    }
    const other = connect(socketPath);
    const lives = await once(other, 'connect').then(
      () => true,
      () => false,
    );
    other.destroy();
    if (lives) return false;
    await rm(socketPath, { force: true });
  }
}

async function startCluster(): Promise<{ answer: Answer; stop(): Promise<void> }> {
  const dataDirectory = await mkdtemp(join(tmpdir(), 'ha-registry-test-'));
  const remove = (): Promise<void> => rm(dataDirectory, { recursive: true, force: true });
  try {
    const settings = { fsync: 'off', full_page_writes: 'off', max_connections: '200', log_min_messages: 'panic' };
    const postgres = await startEmbeddedPostgres({ dataDirectory, settings });
    const { host, port, user } = postgres.connection;
    const url = `postgres://${user}@localhost/postgres?host=${encodeURIComponent(host)}&port=${port}`;
    return { answer: { url }, stop: () => postgres.stop().then(remove) };
  } catch (error) {
    return { answer: { error: (error as Error).message }, stop: remove };
  }
}

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

/** Field 22 of /proc/<pid>/stat; 0 where there is no /proc. */
function startTime(pid: number): string {
  const path = `/proc/${pid}/stat`;
  return (existsSync(path) ? readFileSync(path, 'utf8').split(') ').at(-1)?.split(' ')[19] : undefined) ?? '0';
}

const [, script, socketPath, runner] = process.argv;
if (script === fileURLToPath(import.meta.url) && socketPath !== undefined) await serve(socketPath, Number(runner));
