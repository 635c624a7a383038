// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * A rolling update's middle: a node of the version before the newest migration beside one of this version, on one database and one store. HA_REGISTRY_PREVIOUS names
 * another commit.
 */
import { existsSync } from 'node:fs';
import { copyFile, symlink } from 'node:fs/promises';
import path from 'node:path';
import t from 'tap';
import { run } from '../support/command.js';
import { HttpClient } from '../support/http-client.js';
import { freshDatabase } from '../support/postgres.js';
import { startRegistry, temporaryDirectory, type RunningRegistry } from '../support/registry.js';
import { bytesOf, digestOf, imageWithBlobs, locationOf, openSession, pushBlob, putManifest, withDigest } from '../support/wire-suite.js';

const top = path.resolve(import.meta.dirname, '../..');
const git = async (...args: string[]): Promise<string> => (await run('git', ['-C', top, ...args])).stdout.trim();

/** The commit before the one that brought the newest migration. */
async function previousCommit(): Promise<string> {
  const named = process.env['HA_REGISTRY_PREVIOUS'];
  if (named !== undefined && named !== '') return git('rev-parse', '--verify', `${named}^{commit}`);
  const newest = await git('log', '--diff-filter=A', '-1', '--format=%H', '--', 'src/database/migrations/*.sql');
  return git('rev-parse', '--verify', `${newest}^`);
}

/** Its tree, built with the packages of this one. */
async function buildOf(commit: string): Promise<string> {
  const directory = path.join(await temporaryDirectory('previous-'), 'tree');
  await run('sh', ['-c', 'mkdir -p "$2" && git -C "$0" archive "$1" | tar -x -C "$2"', top, commit, directory]);
  await symlink(path.join(top, 'node_modules'), path.join(directory, 'node_modules'));
  const addon = path.join(top, 'native/ha_registry.node');
  if (existsSync(addon)) await copyFile(addon, path.join(directory, 'native/ha_registry.node'));
  await run(process.execPath, ['src/start.mjs', '--build-only', '--force'], { cwd: directory });
  return path.join(directory, 'dist/main.js');
}

interface Side {
  readonly name: string;
  readonly node: RunningRegistry;
  readonly client: HttpClient;
}

void t.test('the version before the newest migration beside this one', async (t) => {
  const commit = await previousCommit().catch((error: unknown) => (error instanceof Error ? error : new Error(String(error))));
  if (commit instanceof Error) {
    t.pass('beside a previous version', { skip: `no history to build one from: ${commit.message.split('\n', 1)[0]}` });
    return;
  }
  t.comment(`the previous version is ${commit}`);
  const main = await buildOf(commit);
  const { url } = await freshDatabase();
  const root = await temporaryDirectory('versions-');
  const config = { workers: { threads: 1 }, log: { level: 'warn' }, database: { url } };
  const start = async (name: string, program?: string): Promise<Side> => {
    const launch =
      program === undefined
        ? {}
        : {
            launch: (place: { root: string; port: number; configFile: string | undefined }) => ({
              command: process.execPath,
              args: [program, 'serve', '--root', place.root, '-p', String(place.port), '--config', place.configFile ?? ''],
            }),
          };
    const node = await startRegistry({ root, config, ...launch });
    return { name, node, client: new HttpClient(node.port) };
  };
  const old = await start('the old node', main);
  t.teardown(() => stop(old));
  const before = await pushImage(old.client, 'before');
  const now = await start('the new node');
  t.teardown(() => stop(now));

  for (const { name, client } of [old, now]) {
    const answer = await client.send('GET', '/v2/versions/manifests/before');
    t.equal(answer.body.toString(), before, `${name} serves what was pushed before the migration`);
  }
  for (const [from, to] of [
    [old, now],
    [now, old],
  ] as const) {
    const tag = `by-${from.name.split(' ')[1]}`;
    const image = await pushImage(from.client, tag);
    const pulled = await to.client.send('GET', `/v2/versions/manifests/${tag}`);
    t.equal(pulled.body.toString(), image, `${to.name} serves what ${from.name} was given`);

    const bytes = bytesOf(300_000, `begun by ${from.name}`);
    const location = await openSession(from.client, 'versions');
    const first = await from.client.send('PATCH', location, { body: bytes.subarray(0, 200_000), headers: { 'Content-Range': '0-199999' } });
    t.equal(first.status, 202, `${from.name} takes a first chunk`);
    const second = await to.client.send('PATCH', locationOf(first), {
      body: bytes.subarray(200_000),
      headers: { 'Content-Range': `200000-${bytes.byteLength - 1}` },
    });
    t.equal(second.status, 202, `${to.name} takes the second`);
    const finished = await from.client.send('PUT', withDigest(locationOf(second), digestOf(bytes)), { body: '' });
    t.equal(finished.status, 201, `${from.name} finishes the upload`);
    const blob = await to.client.send('GET', `/v2/versions/blobs/${digestOf(bytes)}`);
    t.ok(blob.body.equals(bytes), `${to.name} serves the blob`);

    t.equal((await to.client.send('DELETE', `/v2/versions/manifests/${tag}`)).status, 202, `${to.name} deletes the tag`);
    t.equal((await from.client.send('GET', `/v2/versions/manifests/${tag}`)).status, 404, `${from.name} does not have it any more`);
  }
  const again = await start('the old node, started again', main);
  t.teardown(() => stop(again));
  t.equal((await again.client.send('GET', '/v2/versions/manifests/before')).body.toString(), before, 'a downgrade finds its way');
});

async function pushImage(client: HttpClient, tag: string): Promise<string> {
  await pushBlob(client, 'versions', `layer of ${tag}`);
  const image = await imageWithBlobs(client, 'versions', [`layer of ${tag}`], { annotations: { tag } });
  const answer = await putManifest(client, 'versions', tag, image);
  if (answer.status !== 201) throw new Error(`push of ${tag}: ${answer.status} ${answer.body.toString()}`);
  return image;
}

async function stop({ node, client, name }: Side): Promise<void> {
  client.close();
  const code = await node.stop();
  if (code !== 0) throw new Error(`${name} ended with ${code}\n${node.log()}`);
}
