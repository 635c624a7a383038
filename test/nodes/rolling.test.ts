// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * An update while clients work: two nodes of an installed version behind HAProxy with the configuration that ships, rolled to another version and back by the
 * rollout that ships. Pulls never fail, and a push is at most tried twice. In place of systemd, which can't run here, this test restarts the processes.
 */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmod, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { parse } from 'yaml';
import { loadConfig } from '../../src/config/config.js';
import { CommandFailed, run, spawnTracked } from '../support/command.js';
import { HttpClient } from '../support/http-client.js';
import { freshDatabase } from '../support/postgres.js';
import { freePort, startRegistry, temporaryDirectory, type RunningRegistry } from '../support/registry.js';
import { findTool } from '../support/tools.js';
import { imageOf, imageWithBlobs, putManifest, until, withDigest } from '../support/wire-suite.js';
import { installVersions, type Installation } from './installed-versions.js';

const tree = path.resolve(import.meta.dirname, '../..');
const haproxy = await findTool('haproxy');
const analyze = await findTool('systemd-analyze');

void t.test('a roll under load', { skip: 'missing' in haproxy ? haproxy.missing : false }, async (t) => {
  const versions = await installVersions('1.0.0', '2.0.0');
  await versions.use('1.0.0');
  const cluster = await startCluster(t, versions);
  const clients = startClients(cluster.port);
  await until('clients are at work', () => clients.failures.length > 0 || (clients.counts.pulls > 50 && clients.counts.pushes > 5));
  t.strictSame(clients.failures, [], 'clients are at work');

  await versions.use('2.0.0');
  t.strictSame(cluster.versions(), ['1.0.0', '1.0.0'], 'a link that points elsewhere changes nothing');
  const report = await cluster.rollout();
  t.match(report, /^\d+: ready after [\d.]+ s\n\d+: ready after [\d.]+ s\n$/, 'one after the other');
  t.strictSame(cluster.versions(), ['2.0.0', '2.0.0'], 'the next start takes what it points to');
  await versions.use('1.0.0');
  await cluster.rollout(...cluster.instances);
  t.strictSame(cluster.versions(), ['1.0.0', '1.0.0'], 'and back');

  await clients.stop();
  const { counts, failures } = clients;
  t.comment(`${counts.pulls} pulls, ${counts.pushes} pushes, ${counts.retries} of them on the second try`);
  t.strictSame(failures, [], 'no pull failed, and no push failed twice');
  t.ok(counts.readBack === counts.pushes, `all ${counts.pushes} pushes are there (${counts.readBack})`);
});

void t.test('an update takes nothing away from what runs', async (t) => {
  const versions = await installVersions('1.0.0', '2.0.0');
  await versions.use('1.0.0');
  const node = await startRegistry({
    launch: launchInstalled(versions),
    config: { workers: { threads: 1 }, database: await freshDatabase().then(({ url }) => ({ url })) },
  });
  await versions.use('2.0.0');
  await versions.remove('2.0.0'); // Whatever the node opened by way of `current` would now be missing.
  const client = new HttpClient(node.port);
  await putManifest(client, 'a', 'b', await imageWithBlobs(client, 'a', [randomBytes(3_000_000)]));
  t.equal((await client.send('GET', '/v2/a/manifests/b')).status, 200, 'it works as before');
  client.close();
  t.equal(await node.stop(), 0, 'to its end');
  t.notMatch(node.log(), 'ENOENT', 'and missed nothing');
});

void t.test('a rollout that fails stops', async (t) => {
  const asked: string[] = [];
  const manager = await startManager(t, (line) => {
    asked.push(line);
    return Promise.resolve({ status: line.includes('@two') ? 1 : 0, text: '' });
  });
  const refused = await run(process.execPath, [
    path.join(tree, 'systemd/rollout.mjs'),
    '--ready',
    'none',
    '--pause',
    '0',
    '--systemctl',
    manager,
    'one',
    'two',
    'three',
  ]).catch((error: unknown) => error);
  t.ok(refused instanceof CommandFailed && refused.outcome === 'exit 1', 'exit code 1');
  t.match(refused instanceof CommandFailed ? refused.result.stderr : '', /two did not restart/, 'and which it was');
  t.strictSame(asked, ['restart ha-registry@one.service', 'restart ha-registry@two.service'], 'the third is left alone');
  const silent = await run(process.execPath, [
    path.join(tree, 'systemd/rollout.mjs'),
    '--timeout',
    '1',
    '--systemctl',
    manager,
    String(await freePort()),
    'three',
  ]).catch((error: unknown) => error);
  t.match(silent instanceof CommandFailed ? silent.result.stderr : '', /is not ready after 1 s/, 'one that never gets ready ends it, too');
  t.notOk(
    asked.some((line) => line.includes('@three')),
    'before the next one',
  );
});

void t.test('what ships for compose', async (t) => {
  const compose = parse(await readFile(path.join(tree, 'docker-compose.yaml'), 'utf8')) as { configs: { registry: { content: string } } };
  const file = path.join(await temporaryDirectory('compose-'), 'registry.yaml');
  // Compose leaves one dollar sign of two.
  await writeFile(file, compose.configs.registry.content.replaceAll('$$', '$'));
  process.env['POSTGRES_PASSWORD'] = 'secret';
  process.env['PUBLIC_S3'] = 'http://localhost:9000';
  const { storage, access, database } = loadConfig(file);
  t.equal(storage.s3?.public_endpoint, 'http://localhost:9000', 'clients are sent to where they can reach the bucket');
  t.equal(access.anonymous, true, 'that it is open is said');
  t.match(JSON.stringify(database), 'postgres://registry:secret@postgres/registry', 'one database for both nodes');
});

void t.test('what ships for systemd', { skip: 'missing' in analyze ? analyze.missing : false }, async (t) => {
  const program = 'missing' in analyze ? '' : analyze.path;
  for (const unit of ['ha-registry@.service', 'ha-registry.service']) {
    const file = path.join(tree, 'systemd', unit);
    // The last line: `→ Overall exposure level for ha-registry.service: 1.3 OK`.
    const { stdout } = await run(program, ['security', '--offline=true', '--no-pager', file]);
    const level = Number(/Overall exposure level for \S+: ([\d.]+)/.exec(stdout)?.[1]);
    t.ok(level <= 2, `${unit}: exposure ${level}`);
    const text = await readFile(file, 'utf8');
    t.notMatch(text, /^MemoryDenyWriteExecute=(yes|true|1)/m, 'V8 may compile');
    t.match(text, /^Type=notify$/m, 'it is waited for');
  }
});

interface Cluster {
  readonly port: number;
  readonly instances: readonly string[];
  versions(): string[];
  rollout(...instances: readonly string[]): Promise<string>;
}

async function startCluster(t: Test, versions: Installation): Promise<Cluster> {
  const { url } = await freshDatabase();
  const root = await temporaryDirectory('shared-store-');
  const config = { server: { shutdown_delay: '8s', drain_timeout: '30s' }, workers: { threads: 1 }, database: { url } };
  const start = (port: number): Promise<RunningRegistry> => startRegistry({ root, port, config, launch: launchInstalled(versions) });
  const nodes = new Map<string, RunningRegistry>();
  for (const port of [await freePort(), await freePort()]) nodes.set(String(port), await start(port));
  const manager = await startManager(t, async (line) => {
    const [, instance = ''] = /^restart ha-registry@(\d+)\.service$/.exec(line) ?? [];
    if (instance === '')
      return { status: 0, text: [...nodes.keys()].map((name) => `ha-registry@${name}.service loaded active running x\n`).join('') };
    const code = await nodes.get(instance)?.stop();
    nodes.set(instance, await start(Number(instance)));
    return { status: code ?? 1, text: '' };
  });
  const port = await freePort();
  const [first, second] = [...nodes.keys()].map((name) => `127.0.0.1:${name}`);
  const balancer = spawnTracked('path' in haproxy ? haproxy.path : '', ['-db', '-f', path.join(tree, 'systemd/haproxy.cfg')], {
    env: { ...process.env, REGISTRY_BIND: `127.0.0.1:${port}`, REGISTRY_NODE_1: first, REGISTRY_NODE_2: second },
    stdio: ['ignore', 'ignore', 'ignore'],
  });
  t.teardown(async () => {
    balancer.kill('SIGKILL');
    for (const node of nodes.values()) await node.stop();
  });
  const probe = new HttpClient(port);
  await until('the balancer serves', () =>
    probe.send('GET', '/v2/').then(
      ({ status }) => status === 200,
      () => false,
    ),
  );
  probe.close();
  return {
    port,
    instances: [...nodes.keys()],
    versions: () => [...nodes.values()].map((node) => /"version":"([^"]*)"/.exec(node.log())?.[1] ?? ''),
    async rollout(...instances) {
      const { stdout } = await run(process.execPath, [path.join(tree, 'systemd/rollout.mjs'), '--systemctl', manager, ...instances]);
      return stdout;
    },
  };
}

function launchInstalled({ program }: Installation) {
  return ({ root, port, configFile }: { root: string; port: number; configFile: string | undefined }) => ({
    command: program,
    args: ['serve', '--root', root, '-p', String(port), '--config', configFile ?? ''],
  });
}

/** A program that is called as systemctl is, and hands its arguments to this process. */
async function startManager(t: Test, act: (line: string) => Promise<{ status: number; text: string }>): Promise<string> {
  const server = createServer((request, response) => {
    void act(decodeURIComponent((request.url ?? '').slice(1))).then(
      (result) => response.end(JSON.stringify(result)),
      (error: unknown) => response.end(JSON.stringify({ status: 1, text: String(error) })),
    );
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const file = path.join(await temporaryDirectory('manager-'), 'systemctl.mjs');
  const { port } = server.address() as AddressInfo;
  await writeFile(
    file,
    `#!${process.execPath}
const response = await fetch('http://127.0.0.1:${port}/' + encodeURIComponent(process.argv.slice(2).join(' ')));
const { status, text } = await response.json();
process.stdout.write(text);
process.exitCode = status;
`,
  );
  await chmod(file, 0o755);
  return file;
}

interface Clients {
  readonly counts: { pulls: number; pushes: number; retries: number; readBack: number };
  readonly failures: readonly string[];
  stop(): Promise<void>;
}

/** Three that pull what was pushed, and three that push: in one request, in chunks, and small ones; all over connections that they keep. */
function startClients(port: number): Clients {
  const counts = { pulls: 0, pushes: 0, retries: 0, readBack: 0 };
  const failures: string[] = [];
  const pushed: { path: string; sha256: string }[] = [];
  const stopping = new AbortController();
  const loop = async (work: (client: HttpClient) => Promise<void>): Promise<void> => {
    const client = new HttpClient(port);
    while (!stopping.signal.aborted && failures.length === 0) await work(client);
    client.close();
  };
  const readBack = async (client: HttpClient, { path, sha256 }: { path: string; sha256: string }): Promise<boolean> => {
    const { status, body } = await client.send('GET', path);
    if (status === 200 && hex(body) === sha256) return true;
    failures.push(`GET ${path}: ${status} ${body.subarray(0, 100).toString()}`);
    return false;
  };
  const pull = (client: HttpClient): Promise<void> => {
    const one = pushed[Math.floor(Math.random() * pushed.length)];
    if (one === undefined) return sleep(20);
    return readBack(client, one).then(
      (good) => void (good && counts.pulls++),
      (error: unknown) => void failures.push(`GET ${one.path}: ${String(error)}`),
    );
  };
  const push = (sizeBytes: number, inChunks: boolean) => async (client: HttpClient) => {
    const bytes = randomBytes(sizeBytes);
    for (let attempt = 1; ; attempt++) {
      try {
        pushed.push(...(await (inChunks ? pushInChunks : pushAtOnce)(client, bytes)));
        counts.pushes++;
        if (attempt > 1) counts.retries++;
        return;
      } catch (error) {
        if (attempt === 2) return void failures.push(`push of ${sizeBytes} bytes, twice: ${String(error)}`);
      }
    }
  };
  const loops = [pull, pull, pull, push(20_000, false), push(2_000_000, false), push(1_000_000, true)].map(loop);
  return {
    counts,
    failures,
    async stop() {
      stopping.abort();
      await Promise.all(loops);
      const client = new HttpClient(port);
      for (const one of pushed) if (one.path.includes('/manifests/') && (await readBack(client, one))) counts.readBack++;
      client.close();
    },
  };
}

const repository = 'rolled';

async function pushAtOnce(client: HttpClient, bytes: Buffer): Promise<{ path: string; sha256: string }[]> {
  const image = await imageWithBlobs(client, repository, [bytes]);
  return finish(client, bytes, image);
}

async function pushInChunks(client: HttpClient, bytes: Buffer): Promise<{ path: string; sha256: string }[]> {
  const expect = async (method: string, target: string, wanted: number, body: Buffer | string = ''): Promise<string> => {
    const { status, headers, body: said } = await client.send(method, target, { body });
    if (status !== wanted) throw new Error(`${method} ${target}: ${status} ${said.toString()}`);
    return headers.location ?? target;
  };
  await expect('POST', `/v2/${repository}/blobs/uploads/?digest=sha256:${hex(Buffer.from('{}'))}`, 201, '{}');
  let location = await expect('POST', `/v2/${repository}/blobs/uploads/`, 202);
  const middle = Math.floor(bytes.length / 2);
  location = await expect('PATCH', location, 202, bytes.subarray(0, middle));
  location = await expect('PATCH', location, 202, bytes.subarray(middle));
  await expect('PUT', withDigest(location, `sha256:${hex(bytes)}`), 201);
  return finish(client, bytes, imageOf([bytes]));
}

async function finish(client: HttpClient, bytes: Buffer, image: string): Promise<{ path: string; sha256: string }[]> {
  const tag = `t${hex(bytes).slice(0, 12)}`;
  const { status, body } = await putManifest(client, repository, tag, image);
  if (status !== 201) throw new Error(`PUT manifest: ${status} ${body.toString()}`);
  return [
    { path: `/v2/${repository}/manifests/${tag}`, sha256: hex(Buffer.from(image)) },
    { path: `/v2/${repository}/blobs/sha256:${hex(bytes)}`, sha256: hex(bytes) },
  ];
}

function hex(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
