// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { chmod, chown, cp, mkdir, mkdtemp, readdir, rm, stat, symlink, unlink, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { Client, type QueryResultRow } from 'pg';
import t, { type Test } from 'tap';
import { locatePackage, prepareBinaries } from '../../src/database/embedded-binaries.js';
import { startEmbeddedPostgres, type EmbeddedPostgres } from '../../src/database/embedded-postgres.js';
import { makeSocketDirectory } from '../../src/database/embedded-socket.js';

const limitMs = 60_000;
const environment = process.env;
const settings = { fsync: 'off' }; // no test cuts the power, and on a busy machine each start would wait for the disk
const isRoot = process.getuid?.() === 0;
const nobody = 65534;
const ordinaryUser = 1; // daemon or bin: in every /etc/passwd, and not what root falls back to
const namelessUser = 64321;

await t.test('data, database and settings survive a stop', async (t) => {
  const dataDirectory = await temporaryDirectory(t);
  const lines: string[] = [];
  const first = await startEmbeddedPostgres({ dataDirectory, environment, log: (line) => lines.push(line) });
  t.equal(first.connection.database, 'ha_registry');
  await query(first, 'CREATE TABLE kept (value int)');
  await query(first, 'INSERT INTO kept VALUES (42)');
  await query(first, `DO $$BEGIN RAISE WARNING 'be careful' USING DETAIL = 'very'; RAISE LOG 'not for you'; END$$`);
  const host = first.connection.host;
  t.equal((await stat(host)).mode & 0o777, 0o700, 'the directory of the socket is private');
  await first.stop();
  await first.stop();
  t.same(
    lines.filter((line) => !line.startsWith('CONTEXT')),
    ['WARNING:  be careful', 'DETAIL:  very'],
    'warnings are logged, less is not',
  );
  t.notOk(existsSync(host), 'the directory of the socket is gone');
  t.ok(wasShutDown(dataDirectory), 'with all data written');

  const second = await startEmbeddedPostgres({ dataDirectory, environment, settings: { work_mem: '7MB' } });
  t.teardown(() => second.stop());
  t.same(await query(second, 'SELECT value FROM kept'), [{ value: 42 }]);
  const shown = `SELECT current_setting('work_mem') work_mem, current_setting('fsync') fsync, current_setting('listen_addresses') addresses,
    current_setting('server_encoding') encoding, current_setting('TimeZone') zone`;
  t.same(await query(second, shown), [{ work_mem: '7MB', fsync: 'on', addresses: '', encoding: 'UTF8', zone: 'UTC' }]);
});

await t.test('killed node: its server ends, and the next start works at once', async (t) => {
  const dataDirectory = await temporaryDirectory(t);
  const node = await startNode(t, { dataDirectory });
  await query(node, 'CREATE TABLE kept AS SELECT 1 AS value');
  const pid = postmasterPid(dataDirectory);
  node.process.kill('SIGKILL');
  await once(node.process, 'exit');
  const next = await startEmbeddedPostgres({ dataDirectory, environment, settings });
  t.teardown(() => next.stop());
  t.notOk(isRunning(pid), 'the old server is gone');
  t.notOk(existsSync(node.connection.host), 'and the directory of its socket');
  t.same(await query(next, 'SELECT value FROM kept'), [{ value: 1 }]);
});

await t.test('killed node: its server ends also when nobody starts another', async (t) => {
  const dataDirectory = await temporaryDirectory(t);
  const node = await startNode(t, { dataDirectory });
  const pid = postmasterPid(dataDirectory);
  node.process.kill('SIGKILL');
  await until('the server is gone', () => !isRunning(pid));
  await until('the directory of its socket is gone', () => !existsSync(node.connection.host));
  t.ok(wasShutDown(dataDirectory), 'with all data written');
});

await t.test('a node that ends without stop() leaves no server', async (t) => {
  const dataDirectory = await temporaryDirectory(t);
  const node = await startNode(t, { dataDirectory, afterwards: '' });
  if (node.process.exitCode === null) await once(node.process, 'exit');
  t.equal(node.process.exitCode, 0, 'the server does not keep it alive');
  await until('the server is gone', () => !existsSync(join(dataDirectory, 'cluster', 'postmaster.pid')));
  t.ok(wasShutDown(dataDirectory), 'with all data written');
});

await t.test('killed server: onExit tells, the next start recovers', async (t) => {
  const dataDirectory = await temporaryDirectory(t);
  const first = await startEmbeddedPostgres({ dataDirectory, environment, settings });
  await query(first, 'CREATE TABLE kept AS SELECT 1 AS value');
  const exit = reasonOfExit(first);
  process.kill(postmasterPid(dataDirectory), 'SIGKILL');
  t.match(await exit, /ended unexpectedly: ended by signal 9/);
  t.equal(await reasonOfExit(first), await exit, 'also told to who asks later');
  await first.stop();
  t.notOk(existsSync(first.connection.host), 'the directory of the socket is gone');
  t.ok(existsSync(join(dataDirectory, 'cluster', 'postmaster.pid')), 'a stale postmaster.pid is left');
  const next = await startEmbeddedPostgres({ dataDirectory, environment, settings });
  t.teardown(() => next.stop());
  t.same(await query(next, 'SELECT value FROM kept'), [{ value: 1 }]);
});

await t.test('killed shell above the server: the server ends, onExit tells', async (t) => {
  const dataDirectory = await temporaryDirectory(t);
  const first = await startEmbeddedPostgres({ dataDirectory, environment, settings });
  const exit = reasonOfExit(first);
  const pid = postmasterPid(dataDirectory);
  process.kill(parentOf(pid), 'SIGKILL');
  t.match(await exit, /ended by signal 9/);
  await (await startEmbeddedPostgres({ dataDirectory, environment, settings })).stop();
  t.notOk(isRunning(pid));
});

await t.test('a stale postmaster.pid whose number now is another process', async (t) => {
  const dataDirectory = await temporaryDirectory(t);
  const cluster = join(dataDirectory, 'cluster');
  await (await startEmbeddedPostgres({ dataDirectory, environment, settings })).stop();
  const unrelated = spawn('sleep', ['600']);
  t.teardown(() => unrelated.kill());
  await writeFile(
    join(cluster, 'postmaster.pid'),
    `${unrelated.pid}\n${cluster}\n1700000000\n5432\n/tmp/gone\n\n  1234567    123456\nready   \n`,
  );
  const next = await startEmbeddedPostgres({ dataDirectory, environment, settings });
  t.not(postmasterPid(dataDirectory), unrelated.pid);
  await next.stop();
  t.ok(isRunning(unrelated.pid ?? 0), 'which was left alone');
});

await t.test('a second node on the same data directory is refused', async (t) => {
  const dataDirectory = await temporaryDirectory(t);
  const node = await startNode(t, { dataDirectory });
  const refusal = new RegExp(`^another ha-registry \\(pid ${node.process.pid}\\) uses .*${dataDirectory}.*database\\.url`);
  await t.rejects(startEmbeddedPostgres({ dataDirectory, environment, settings }), { message: refusal });
  await node.stop();
  const first = await startEmbeddedPostgres({ dataDirectory, environment, settings });
  await t.rejects(
    startEmbeddedPostgres({ dataDirectory, environment, settings }),
    { message: new RegExp(`pid ${process.pid}\\)`) },
    'in one process too',
  );
  t.same(await query(first, 'SELECT 1 AS value'), [{ value: 1 }], 'the first is unharmed');
  await first.stop();
});

await t.test('of many that start at once, one gets the data directory', async (t) => {
  const dataDirectory = await temporaryDirectory(t);
  const starts = await Promise.allSettled(Array.from({ length: 8 }, () => startEmbeddedPostgres({ dataDirectory, environment, settings })));
  const started = starts.flatMap((start) => (start.status === 'fulfilled' ? [start.value] : []));
  for (const postgres of started) await postgres.stop();
  t.equal(started.length, 1);
  const reasons = starts.flatMap((start) => (start.status === 'rejected' ? [String(start.reason)] : []));
  t.ok(
    reasons.every((reason) => reason.includes('another ha-registry')),
    'the others are told who has it',
  );
});

await t.test('a server that was started by other hands is waited for', async (t) => {
  const dataDirectory = await temporaryDirectory(t);
  await (await startEmbeddedPostgres({ dataDirectory, environment, settings })).stop();
  const native = locatePackage();
  const prefix = isRoot ? ['unshare', '-U', `--map-user=${nobody}`, `--map-group=${nobody}`] : ['env'];
  const command = [
    ...prefix,
    join(native, 'bin', 'postgres'),
    '-D',
    join(dataDirectory, 'cluster'),
    '-c',
    'listen_addresses=',
    '-k',
    dataDirectory,
  ];
  const env = { ...process.env, LD_LIBRARY_PATH: join(dataDirectory, 'binaries', 'lib') };
  const other = spawn(command[0] ?? '', command.slice(1), { stdio: 'ignore', env });
  t.teardown(() => other.kill('SIGQUIT'));
  await until('it runs', () => /ready/.test(readIfThere(join(dataDirectory, 'cluster', 'postmaster.pid'))));
  const starting = startEmbeddedPostgres({ dataDirectory, environment, settings });
  t.equal(await Promise.race([starting, delay(500, 'waits')]), 'waits');
  t.equal(other.exitCode, null, 'it was left alone');
  t.equal(postmasterPid(dataDirectory), other.pid, 'and its postmaster.pid');
  other.kill('SIGINT');
  await (await starting).stop();
});

await t.test('a node killed during initdb', async (t) => {
  const dataDirectory = await temporaryDirectory(t);
  const unfinished = join(dataDirectory, 'cluster.new');
  const node = launchNode(t, { dataDirectory });
  await until('initdb is at work', () => existsSync(join(unfinished, 'PG_VERSION')));
  node.kill('SIGKILL');
  await once(node, 'exit');
  t.notOk(existsSync(join(dataDirectory, 'cluster')), 'no cluster yet');
  await mkdir(join(unfinished, 'base'), { recursive: true }); // as after a power loss, when initdb could not tidy up
  const next = await startEmbeddedPostgres({ dataDirectory, environment, settings });
  t.teardown(() => next.stop());
  t.same(await query(next, 'SELECT 1 AS value'), [{ value: 1 }]);
  t.notOk(existsSync(unfinished));
});

await t.test('a server that does not obey is ended all the same', async (t) => {
  const dataDirectory = await temporaryDirectory(t);
  const first = await startEmbeddedPostgres({ dataDirectory, environment, settings, shutdownGraceSeconds: 1 });
  const pid = postmasterPid(dataDirectory);
  process.kill(pid, 'SIGSTOP');
  await first.stop();
  t.notOk(isRunning(pid));
  await (await startEmbeddedPostgres({ dataDirectory, environment, settings })).stop();
});

await t.test('a cluster of another major version', async (t) => {
  const dataDirectory = await temporaryDirectory(t);
  await mkdir(join(dataDirectory, 'cluster'));
  await writeFile(join(dataDirectory, 'cluster', 'PG_VERSION'), '17\n');
  await t.rejects(startEmbeddedPostgres({ dataDirectory, environment, settings }), {
    message: /written by Postgres 17, .* Postgres 18; .*database\.url/,
  });
  t.equal(readFileSync(join(dataDirectory, 'cluster', 'PG_VERSION'), 'utf8'), '17\n', 'is not touched');
});

await t.test('a server that cannot start says why', async (t) => {
  const dataDirectory = await temporaryDirectory(t);
  const start = startEmbeddedPostgres({ dataDirectory, environment, settings: { shared_buffers: 'plenty' } });
  await t.rejects(start, { message: /^embedded Postgres did not start: .*invalid value for parameter "shared_buffers".*database\.url/ });
  await (await startEmbeddedPostgres({ dataDirectory, environment, settings })).stop();
});

await t.test('without the optional package', (t) => {
  t.throws(() => locatePackage('@embedded-postgres/plan9-mips'), { message: /plan9-mips is not installed .*database\.url/ });
  t.end();
});

await t.test('the socket goes where its path is short enough', async (t) => {
  const long = join(await temporaryDirectory(t), 'x'.repeat(100));
  await mkdir(long);
  const directory = await makeSocketDirectory(long, { prefix: [], user: {} });
  t.teardown(() => rm(directory, { recursive: true }));
  t.not(dirname(directory), long);
});

await t.test('as an ordinary user', { skip: ordinaryUserSkip() }, async (t) => {
  const home = await temporaryDirectory(t);
  const dataDirectory = join(home, 'data');
  await chown(home, ordinaryUser, ordinaryUser);
  const node = await startNode(t, { dataDirectory, uid: ordinaryUser });
  await query(node, 'CREATE TABLE kept AS SELECT 1 AS value');
  const pid = postmasterPid(dataDirectory);
  t.equal((await stat(join(dataDirectory, 'cluster'))).uid, ordinaryUser);
  await node.stop();
  t.notOk(isRunning(pid));

  // root finds the data of that user: served as that user, and nothing changes its owner
  const asRoot = await startEmbeddedPostgres({ dataDirectory, environment, settings });
  t.same(await query(asRoot, 'SELECT value FROM kept'), [{ value: 1 }]);
  t.equal((await stat(`/proc/${postmasterPid(dataDirectory)}`)).uid, ordinaryUser);
  await asRoot.stop();
  const again = await startNode(t, { dataDirectory, uid: ordinaryUser });
  t.same(await query(again, 'SELECT value FROM kept'), [{ value: 1 }]);
  await again.stop();
});

await t.test('a user without an entry in /etc/passwd', { skip: ordinaryUserSkip() || userNamespaceSkip(namelessUser) }, async (t) => {
  const home = await temporaryDirectory(t);
  await chown(home, namelessUser, namelessUser);
  const node = await startNode(t, { dataDirectory: join(home, 'data'), uid: namelessUser });
  t.same(await query(node, 'SELECT 1 AS value'), [{ value: 1 }]);
  await node.stop();
});

await t.test('binaries without the x bit in a package that may not be changed', { skip: ordinaryUserSkip() }, async (t) => {
  const home = await temporaryDirectory(t);
  await chmod(home, 0o755);
  const [native, mirror] = [join(home, 'native'), join(home, 'mirror')];
  await mkdir(mirror);
  await chown(mirror, nobody, nobody);
  await mkdir(native);
  await cp(join(locatePackage(), 'bin'), join(native, 'bin'), { recursive: true });
  await cp(join(locatePackage(), 'pg-symlinks.json'), join(native, 'pg-symlinks.json'));
  for (const name of ['lib', 'share']) await symlink(join(locatePackage(), name), join(native, name));
  for (const name of await readdir(join(native, 'bin'))) await chmod(join(native, 'bin', name), 0o644);

  const code = `
    import { prepareBinaries } from ${JSON.stringify(sourceUrl('embedded-binaries.ts'))};
    console.log(JSON.stringify(await prepareBinaries(${JSON.stringify(native)}, ${JSON.stringify(join(mirror, 'binaries'))})));`;
  const { stdout } = await runScript(t, code, nobody);
  const { initdb, libraries } = JSON.parse(stdout) as Awaited<ReturnType<typeof prepareBinaries>>;
  t.equal(dirname(dirname(initdb)), join(mirror, 'binaries'), 'they are copied');
  const made = spawn(initdb, ['-D', join(mirror, 'cluster'), '--no-sync'], {
    env: { LD_LIBRARY_PATH: libraries },
    uid: nobody,
    gid: nobody,
    cwd: '/',
  });
  const [status] = (await once(made, 'exit')) as [number];
  t.equal(status, 0, 'and work, with what they need beside them');

  const own = await prepareBinaries(native, join(home, 'own'));
  t.equal(dirname(dirname(own.initdb)), native, 'who may change the package does that instead');
});

await t.test('root without user namespaces', { skip: ordinaryUserSkip() || userNamespaceSkip(0) }, async (t) => {
  const home = await temporaryDirectory(t);
  await chmod(home, 0o755);
  const dataDirectory = join(home, 'data');
  const first = await startEmbeddedPostgres({ dataDirectory, environment, settings });
  await query(first, 'CREATE TABLE kept AS SELECT 1 AS value');
  await first.stop();
  t.equal((await stat(join(dataDirectory, 'cluster'))).uid, 0, 'in a user namespace the files stay ours');

  const path = await pathWithout('unshare', home);
  const second = await startEmbeddedPostgres({ dataDirectory, settings, environment: { PATH: path } });
  t.same(await query(second, 'SELECT value FROM kept'), [{ value: 1 }]);
  t.equal((await stat(`/proc/${postmasterPid(dataDirectory)}`)).uid, nobody, 'without, nobody serves them');
  await second.stop();
  const third = await startEmbeddedPostgres({ dataDirectory, environment, settings });
  t.same(await query(third, 'SELECT value FROM kept'), [{ value: 1 }]);
  await third.stop();

  const closed = join(home, 'closed', 'data');
  await mkdir(dirname(closed), { mode: 0o700 });
  await t.rejects(startEmbeddedPostgres({ dataDirectory: closed, settings, environment: { PATH: path } }), {
    message: /refuses to run as root.*uid 65534: .*ordinary user, or set database\.url/,
  });
  const bare = await pathWithout('flock', home);
  await t.rejects(startEmbeddedPostgres({ dataDirectory, environment: { PATH: bare } }), {
    message: /needs the flock command.*database\.url/,
  });
});

/** The server does not keep the process alive, so waiting for it alone would end the test. */
function reasonOfExit(postgres: EmbeddedPostgres): Promise<string> {
  const awake = setTimeout(() => {}, limitMs);
  return new Promise((resolve) => {
    postgres.onExit((reason) => {
      clearTimeout(awake);
      resolve(reason);
    });
  });
}

interface NodeOptions {
  readonly dataDirectory: string;
  readonly uid?: number;
  /** What the node does when its server runs. */
  readonly afterwards?: string;
}

interface Node {
  readonly process: ChildProcess;
  readonly connection: EmbeddedPostgres['connection'];
  stop(): Promise<void>;
}

/** A process of its own with a server, which ends when its standard input does. */
async function startNode(t: Test, options: NodeOptions): Promise<Node> {
  const child = launchNode(t, options);
  if (child.stdout === null) throw new Error('no pipe');
  for await (const line of createInterface({ input: child.stdout })) {
    return {
      process: child,
      connection: JSON.parse(line) as EmbeddedPostgres['connection'],
      async stop() {
        child.stdin?.end();
        await once(child, 'exit');
      },
    };
  }
  throw new Error('the node ended before its server ran');
}

function launchNode(
  t: Test,
  { dataDirectory, uid, afterwards = 'process.stdin.resume().on("end", () => postgres.stop());' }: NodeOptions,
): ChildProcess {
  const code = `
    import { startEmbeddedPostgres } from ${JSON.stringify(sourceUrl('embedded-postgres.ts'))};
    const postgres = await startEmbeddedPostgres({ dataDirectory: ${JSON.stringify(dataDirectory)}, settings: ${JSON.stringify(settings)}, environment: process.env });
    console.log(JSON.stringify(postgres.connection));
    ${afterwards}`;
  return launchScript(t, code, uid);
}

async function runScript(t: Test, code: string, uid: number): Promise<{ stdout: string }> {
  const child = launchScript(t, code, uid);
  let stdout = '';
  child.stdout?.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  const [status] = (await once(child, 'close')) as [number];
  if (status !== 0) throw new Error(`exit status ${status}`);
  return { stdout };
}

/** With tsx, and through env(1) without tap: it adds itself to the environment of every Node process, and writes into our tree. */
function launchScript(t: Test, code: string, uid?: number): ChildProcess {
  const loader = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href;
  const user = uid === undefined ? {} : { uid, gid: uid };
  const variables = ['PATH', 'TMPDIR'].flatMap((name) => (process.env[name] === undefined ? [] : [`${name}=${process.env[name]}`]));
  const args = ['-i', ...variables, process.execPath, '--import', loader, '--input-type=module', '--eval', code];
  const child = spawn('env', args, { stdio: ['pipe', 'pipe', 'inherit'], cwd: '/', ...user });
  t.teardown(() => child.kill('SIGKILL'));
  return child;
}

function sourceUrl(name: string): string {
  return new URL(`../../src/database/${name}`, import.meta.url).href;
}

async function query(server: { connection: EmbeddedPostgres['connection'] }, text: string): Promise<QueryResultRow[]> {
  const client = new Client({ ...server.connection, ssl: false });
  client.on('error', () => {});
  try {
    await client.connect();
    return (await client.query<QueryResultRow>(text)).rows;
  } finally {
    await client.end();
  }
}

async function temporaryDirectory(t: Test): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'embedded-postgres-'));
  t.teardown(() => rm(path, { recursive: true, force: true }));
  return path;
}

/** A PATH with what the server's start needs, but not `name`. */
async function pathWithout(name: string, home: string): Promise<string> {
  const directory = join(home, `without-${name}`);
  await mkdir(directory);
  for (const needed of ['sh', 'flock', 'unshare', 'sleep', 'rm']) {
    const found = ['/usr/bin', '/bin'].map((place) => join(place, needed)).find((path) => existsSync(path));
    if (found !== undefined) await symlink(found, join(directory, needed));
  }
  await unlink(join(directory, name));
  return directory;
}

function ordinaryUserSkip(): string | false {
  if (!isRoot) return 'not root: all the other tests run as an ordinary user';
  if (process.platform !== 'linux') return 'only known on Linux';
  for (let path = import.meta.dirname; path !== '/'; path = dirname(path)) {
    if ((statSync(path).mode & 0o005) !== 0o005) return `uid ${nobody} cannot reach ${path}`;
  }
  return false;
}

function userNamespaceSkip(uid: number): string | false {
  const { status } = spawnSync('unshare', ['-U', `--map-user=${nobody}`, 'true'], { uid });
  return status === 0 ? false : `uid ${uid} may make no user namespaces here`;
}

function postmasterPid(dataDirectory: string): number {
  return Number.parseInt(readFileSync(join(dataDirectory, 'cluster', 'postmaster.pid'), 'utf8'), 10);
}

/** The state in `pg_control.h`, 1 of which needs no recovery, follows two numbers of 4 bytes and one of 8. */
function wasShutDown(dataDirectory: string): boolean {
  return readFileSync(join(dataDirectory, 'cluster', 'global', 'pg_control')).readUInt32LE(16) === 1;
}

function parentOf(pid: number): number {
  return Number(/^PPid:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
}

function readIfThere(path: string): string {
  return existsSync(path) ? readFileSync(path, 'utf8') : '';
}

function isRunning(pid: number): boolean {
  if (existsSync('/proc/self/status')) return /^State:\s+[^ZX\s]/m.test(readIfThere(`/proc/${pid}/status`));
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

async function until(what: string, condition: () => boolean): Promise<void> {
  const deadline = Date.now() + limitMs;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`not within ${limitMs} ms: ${what}`);
    await delay(2);
  }
}
