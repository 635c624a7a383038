// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Nodes that end, by signal or by force, with their embedded database; and what is found after they start again. */
import { readdirSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import t, { type Test } from 'tap';
import { CommandFailed, run } from './support/command.js';
import { errorCode, HttpClient } from './support/http-client.js';
import { freePort, startRegistry, temporaryDirectory, type RunningRegistry } from './support/registry.js';
import {
  bytesOf,
  dataObjects,
  digestOf,
  engines,
  imageWithBlobs,
  openSession,
  pushBlob,
  putManifest,
  until,
  withDigest,
  type Engine,
} from './support/wire-suite.js';

t.jobs = 2;
for (const engine of engines) {
  void t.test(engine, { buffered: true }, async (t) => {
    await t.test('a restart in the middle of an upload', (t) => restartDuringUpload(t, engine));
    await t.test('SIGTERM lets an upload finish', (t) => drain(t, engine));
  });
}
void t.test('a second node', { buffered: true }, secondNode);
void t.test('a taken port', { buffered: true }, takenPort);

const main = path.resolve(import.meta.dirname, '../dist/main.js');

function settings(engine: Engine): object {
  return { server: { engine, drain_timeout: '30s' }, workers: { threads: 2 }, log: { level: 'info' } };
}

/** One data directory through several lives. */
async function restartDuringUpload(t: Test, engine: Engine): Promise<void> {
  const root = await temporaryDirectory('restart-');
  const start = async () => {
    const registry = await startRegistry({ root, config: settings(engine) });
    return { registry, client: new HttpClient(registry.port) };
  };
  let { registry, client } = await start();
  const image = await imageWithBlobs(client, 'restart', ['layer one']);
  await putManifest(client, 'restart', 'v1', image);
  const small = bytesOf(50_000, 'small');
  const large = bytesOf(3_000_000, 'large');
  const smallSession = await openSession(client, 'restart');
  const largeSession = await openSession(client, 'restart', '?digest-algorithm=sha512');
  await client.send('PATCH', smallSession, { body: small.subarray(0, 20_000) });
  await client.send('PATCH', largeSession, { body: large.subarray(0, 1_500_000) });
  let received = 1_500_000;

  for (const signal of ['SIGKILL', 'SIGTERM', 'SIGKILL'] as const) {
    // A request is on its way when the node ends.
    const open = client.open('PATCH', largeSession, { 'Content-Length': String(large.length - received) });
    open.request.write(large.subarray(received, received + 300_000));
    await until('it is being written', async () => {
      const answer = await client.send('PATCH', largeSession, { headers: { 'Content-Range': '1-1' }, body: 'x' });
      return answer.body.toString().includes('another request');
    });
    if (signal === 'SIGKILL') await registry.kill();
    else {
      const stopped = registry.stop();
      // A client that never goes on may hold it up for server.drain_timeout; this one goes away.
      await until('it is stopping', () => registry.log().includes('SIGTERM'));
      open.request.destroy();
      t.equal(await stopped, 0, 'SIGTERM: exit code 0');
    }
    await open.answer.then(
      () => t.fail('an answer to half a request'),
      () => t.pass(`${signal}: the request ends without an answer`),
    );
    client.close();
    ({ registry, client } = await start());
    t.pass(`after ${signal} it starts again without a manual step`);
    t.equal((await client.send('GET', '/v2/restart/manifests/v1')).body.toString(), image, 'what was pushed is there');

    const answer = await client.send('GET', largeSession);
    const stands = Number(/^0-(\d+)$/.exec(String(answer.headers.range))?.[1]) + 1;
    t.equal(answer.status, 204, 'the session is known');
    t.ok(stands >= received && stands <= received + 300_000, `it stands at ${stands}, where ${received} were acknowledged`);
    received = Math.min(stands + 200_000, large.length - 1);
    const patched = await client.send('PATCH', largeSession, {
      headers: { 'Content-Range': `${stands}-${received - 1}` },
      body: large.subarray(stands, received),
    });
    t.strictSame([patched.status, patched.headers.range], [202, `0-${received - 1}`], 'and goes on at once');
  }
  const smallPut = await client.send('PUT', withDigest(smallSession, digestOf(small)), { body: small.subarray(20_000) });
  t.equal(smallPut.status, 201, 'a small upload is completed after three restarts');
  const digest = digestOf(large, 'sha512');
  const largePut = await client.send('PUT', withDigest(largeSession, digest), { body: large.subarray(received) });
  t.equal(largePut.status, 201, `a large one is: ${largePut.body.toString()}`);
  t.ok((await client.send('GET', `/v2/restart/blobs/${digest}`)).body.equals(large), 'byte for byte');
  await until('nothing but the blobs is in the store', async () => (await dataObjects({ root })).size === 4);
  t.pass('what the lives before have left is gone');
  client.close();
  t.equal(await registry.stop(), 0, 'stopped');
}

async function drain(t: Test, engine: Engine): Promise<void> {
  const registry = await startRegistry({ config: settings(engine) });
  const client = new HttpClient(registry.port);
  await pushBlob(client, 'drain', 'x');
  const bytes = bytesOf(500_000, 'drain');
  const digest = digestOf(bytes);
  const open = client.open('POST', `/v2/drain/blobs/uploads/?digest=${digest}`, { 'Content-Length': String(bytes.length) });
  open.request.write(bytes.subarray(0, 200_000));
  await until('the upload is in flight', async () => (await dataObjects(registry)).size > 1);
  const stopped = registry.stop();
  await until('not ready any more', () =>
    client.send('GET', '/readyz').then(
      ({ status }) => status === 503,
      () => true,
    ),
  );
  t.pass('it is not ready any more');
  const fresh = new HttpClient(registry.port);
  await until('new connections are refused', () =>
    fresh.send('GET', '/v2/').then(
      () => false,
      () => true,
    ),
  );
  t.pass('nobody new is let in');
  open.request.end(bytes.subarray(200_000));
  const answer = await open.answer;
  t.equal(answer.status, 201, 'what was in flight is answered');
  t.equal(await stopped, 0, 'exit code 0');
  client.close();
  fresh.close();

  const again = await startRegistry({ root: registry.root, config: settings(engine) });
  const reader = new HttpClient(again.port);
  t.ok((await reader.send('GET', `/v2/drain/blobs/${digest}`)).body.equals(bytes), 'and is there');
  reader.close();
  await again.stop();
}

async function secondNode(t: Test): Promise<void> {
  const first = await startRegistry({ config: settings('uws') });
  const refused = await failureOf(['serve', '--root', first.root, '-p', String(await freePort())]);
  t.equal(refused.outcome, 'exit 1', 'a second node on the same data directory');
  t.match(refused.result.stderr, path.join(first.root, 'postgres'), 'is told which directory');
  t.match(refused.result.stderr, String(first.pid), 'and which process has it');
  t.notMatch(refused.result.stderr, /\n\s+at /, 'without a stack');
  t.equal(await statusOf(first), 200, 'the first one serves on');
  t.ok(processesOf(first.root) > 1, 'a node and its database');
  t.equal(await first.stop(), 0, 'it stops as ever');
  t.equal(processesOf(first.root), 0, 'with its database');
}

async function takenPort(t: Test): Promise<void> {
  const first = await startRegistry({ config: settings('uws') });
  t.teardown(() => first.stop());
  for (const engine of engines) {
    const root = await temporaryDirectory('taken-');
    const config = path.join(await temporaryDirectory('config-'), 'registry.yaml');
    await writeFile(config, JSON.stringify(settings(engine)));
    const refused = await failureOf(['serve', '--config', config, '--root', root, '-p', String(first.port)]);
    t.equal(refused.outcome, 'exit 1', `${engine}: a taken port`);
    t.match(refused.result.stderr, `127.0.0.1:${first.port}`, 'is named');
    t.match(refused.result.stderr, /taken/, 'as the cause');
    t.equal(processesOf(root), 0, 'no Postgres is left behind');
  }
  t.equal(await statusOf(first), 200, 'whoever has it serves on');
  const client = new HttpClient(first.port);
  t.equal(errorCode(await client.send('GET', '/v2/x/manifests/y')), 'MANIFEST_UNKNOWN', 'as ever');
  client.close();
}

async function failureOf(args: readonly string[]): Promise<CommandFailed> {
  try {
    await run(process.execPath, [main, ...args], { timeoutMs: 60_000 });
  } catch (error) {
    if (error instanceof CommandFailed) return error;
    throw error;
  }
  throw new Error('it did not fail');
}

async function statusOf({ port }: RunningRegistry): Promise<number> {
  const client = new HttpClient(port);
  try {
    return (await client.send('GET', '/v2/')).status;
  } finally {
    client.close();
  }
}

/** Processes whose command line names the directory: the node and its database. */
function processesOf(root: string): number {
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name) && commandLine(name).includes(root)).length;
}

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}
