// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** `ha-registry gc`: beside a running node and without one; what it tells is what it then does. And what a rebuild, or a dump of yesterday, leaves to it. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import t, { type Test } from 'tap';
import { run } from '../support/command.js';
import { databaseState, rowsOf, stateDifferences } from '../support/database-state.js';
import { HttpClient } from '../support/http-client.js';
import { freshDatabase } from '../support/postgres.js';
import { ha, main, type Ending } from '../support/program.js';
import { quickDirectory, startRegistry, type RunningRegistry } from '../support/registry.js';
import { digestOf, imageOf, imageWithBlobs, pushBlob, putManifest, until } from '../support/wire-suite.js';
import { timesPassed } from './place.js';

interface Site {
  readonly url: string;
  readonly root: string;
  readonly gc: (...args: readonly string[]) => Promise<Ending>;
  readonly start: (t: Test) => Promise<{ readonly node: RunningRegistry; readonly client: HttpClient }>;
}

async function openSite(url: string, root: string): Promise<Site> {
  // The nodes here do not collect by themselves.
  const config = { database: { url }, workers: { threads: 1 }, log: { level: 'error' }, gc: { interval: '10d' } };
  const file = path.join(root, `${new URL(url).pathname.slice(1)}.yaml`);
  await writeFile(file, JSON.stringify(config));
  return {
    url,
    root,
    gc: (...args) => ha(['gc', ...args, '--config', file, '--root', root]),
    async start(t) {
      const node = await startRegistry({ root, config });
      const client = new HttpClient(node.port);
      t.teardown(async () => {
        client.close();
        await node.stop();
      });
      return { node, client };
    },
  };
}

const age = async (url: string, interval: string): Promise<void> => {
  for (const statement of timesPassed(interval)) await rowsOf(url, statement);
};
const counts = ({ stdout }: Ending): Record<string, number> => JSON.parse(stdout.trim().split('\n').at(-1) ?? '{}') as never;

void t.test('beside a node, and without one', { buffered: true }, async (t) => {
  const { url } = await freshDatabase();
  const site = await openSite(url, await quickDirectory('gc-command-'));
  await t.test('beside', async (t) => {
    const { client } = await site.start(t);
    const image = await imageWithBlobs(client, 'team/app', ['layer']);
    await putManifest(client, 'team/app', 'v1', image);
    for (const content of ['one', 'another']) await pushBlob(client, 'team/app', content);
    await putManifest(client, 'team/app', digestOf(imageOf([])), imageOf([]));
    await age(url, '8 days');

    const before = await databaseState(url);
    const dry = await site.gc('--dry-run');
    t.equal(dry.code, 0, dry.stderr);
    t.match(dry.stdout, `link      team/app@${digestOf('one')}`);
    t.match(dry.stdout, `blob      ${digestOf('another')} 7`);
    t.match(dry.stdout, `manifest  team/app@${digestOf(imageOf([]))}`);
    t.match(dry.stdout, '1 manifests, 2 links, 2 blobs of 10 bytes, 0 old records; 0 objects of earlier rounds.');
    const asJson = counts(await site.gc('--dry-run', '--json'));
    t.strictSame(await stateDifferences(url, before), [], 'a dry run changes nothing');
    const now = await site.gc('--now', '--json');
    t.equal(now.code, 0, now.stderr);
    const done = counts(now);
    t.match(
      done,
      { manifests: asJson['manifests'], links: asJson['links'], blobs: asJson['blobs'], failedObjects: 0 },
      'what was told is what went',
    );
    t.equal((await client.send('GET', '/v2/team/app/manifests/v1')).body.toString(), image);
    t.match((await site.gc()).stdout, 'In the trash: 2 blobs of 10 bytes');
    t.match(counts(await site.gc('--json')), { dataObjects: 2, dataBytes: 10, queueOverdueSeconds: 0 });
  });
  await t.test('without', async (t) => {
    await age(url, '25 hours');
    const now = await site.gc('--now');
    t.equal(now.code, 0, now.stderr);
    t.match(now.stdout, 'Deleted 2 objects (0 failed), among them 2 blobs collected before, with 10 bytes.');
    t.strictSame(await rowsOf(url, 'SELECT version FROM nodes'), [], 'it leaves no node behind');
  });
  await t.test('not beside a node of the version before', async (t) => {
    await rowsOf(url, `INSERT INTO nodes (id, version, store) VALUES (gen_random_uuid(), 'before', 'x')`);
    await rowsOf(url, `UPDATE nodes SET protocol = 1`);
    const { code, stdout } = await site.gc('--now');
    t.strictSame([code, stdout.split('\n')[0]], [1, 'Nothing was collected: a node of another version is running.']);
  });
  await t.test('on a terminal it shows how far it is', async (t) => {
    await rowsOf(url, 'DELETE FROM nodes');
    const line = [
      process.execPath,
      main,
      'gc',
      '--now',
      '--root',
      site.root,
      '--config',
      path.join(site.root, `${new URL(url).pathname.slice(1)}.yaml`),
    ];
    const { stdout } = await run('script', ['-qec', line.join(' '), '/dev/null']);
    t.match(stdout, /\[#*-*\] \d+ looked at, \d+ manifests/);
  });
  await t.test('wrong options', async (t) => {
    const { code, stderr } = await site.gc('--dry-run', '--now');
    t.equal(code, 2);
    t.match(stderr, '--dry-run and --now exclude each other');
  });
});

void t.test('with the embedded database', { buffered: true }, async (t) => {
  const root = await quickDirectory('gc-embedded-');
  const node = await startRegistry({ root, config: { workers: { threads: 1 }, log: { level: 'error' } } });
  const client = new HttpClient(node.port);
  await pushBlob(client, 'team/app', 'one');
  client.close();
  const options = ['--json', '--root', root];
  t.match(counts(await ha(['gc', ...options])), { links: 1 }, 'the running node’s');
  t.equal(await node.stop(), 0);
  t.match(counts(await ha(['gc', '--now', ...options])), { links: 0, skippedLocked: 0 }, 'or one that it starts: nothing is due');
});

void t.test('after a rebuild, and beside yesterday’s dump', { buffered: true }, async (t) => {
  const { url } = await freshDatabase();
  const root = await quickDirectory('gc-rebuild-');
  const site = await openSite(url, root);
  const { node, client } = await site.start(t);
  const kept = await imageWithBlobs(client, 'team/app', ['kept']);
  await putManifest(client, 'team/app', 'v1', kept);
  await pushBlob(client, 'team/app', 'garbage');
  client.close();
  await node.stop();
  const copy = new URL(url);
  copy.pathname = `${copy.pathname}_copy`;
  const admin = new URL(url);
  admin.pathname = '/postgres';
  await until('nobody is connected', () =>
    rowsOf(admin.href, `CREATE DATABASE ${copy.pathname.slice(1)} TEMPLATE ${new URL(url).pathname.slice(1)}`).then(
      () => true,
      () => false,
    ),
  );
  let newest = '';
  await t.test('what came after the dump', async (t) => {
    const { client } = await site.start(t);
    newest = await imageWithBlobs(client, 'team/new', ['newer']);
    await putManifest(client, 'team/new', 'v1', newest);
    const moved = await imageWithBlobs(client, 'team/app', ['moved']);
    await putManifest(client, 'team/app', 'v1', moved);
  });
  const state = await databaseState(url);
  const old = await openSite(copy.href, root);
  const config = path.join(root, `${copy.pathname.slice(1)}.yaml`);
  const rebuild = (...args: readonly string[]) => ha(['rebuild', ...args, '--config', config, '--root', root]);

  await t.test('nothing is collected before it has caught up, and for a delay after that', async (t) => {
    await age(old.url, '9 days');
    const lagging = await old.gc('--now');
    t.match([lagging.code, lagging.stdout], [1, 'Nothing was collected: the index lags behind the store.']);
    t.equal((await rebuild('--catch-up')).code, 0);
    t.strictSame(await stateDifferences(old.url, state), [], 'all of it is adopted');
    const soon = await old.gc('--now');
    t.match([soon.code, soon.stdout], [1, 'Nothing was collected: the index was rebuilt, or has caught up, less than gc.delay ago.']);
    await age(old.url, '26 hours');
    const late = await old.gc('--now', '--json');
    t.equal(late.code, 0, late.stdout);
    t.equal(counts(late)['links'], 1, 'only the garbage');
  });
  await t.test('what a rebuild restores is looked at when its time has come', async (t) => {
    t.equal((await rebuild('--replace')).code, 0);
    const [queued] = await rowsOf<{ links: number; manifests: number; stale: number }>(
      old.url,
      `SELECT (SELECT count(*)::int FROM gc_links) AS links, (SELECT count(*)::int FROM gc_manifests) AS manifests,
         (SELECT count(*)::int FROM gc_links q WHERE NOT EXISTS (SELECT 1 FROM repositories r WHERE r.id = q.repository_id)) AS stale`,
    );
    const rows = await databaseState(old.url);
    t.strictSame(queued, { links: rows['repository_blobs']?.length, manifests: rows['manifests']?.length, stale: 0 });
    t.equal((await old.gc('--now')).code, 1, 'not yet');
    await age(old.url, '26 hours');
    t.equal((await old.gc('--now')).code, 0);
    const { client } = await old.start(t);
    t.equal((await client.send('GET', '/v2/team/new/manifests/v1')).body.toString(), newest);
    t.equal((await client.send('GET', `/v2/team/new/blobs/${digestOf('newer')}`)).body.toString(), 'newer');
    t.equal(
      (await client.send('GET', `/v2/team/app/manifests/${digestOf(kept)}`)).body.toString(),
      kept,
      'history keeps what the tag left',
    );
  });
});
