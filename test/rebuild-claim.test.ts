// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** A rebuild's claim on its database, and what its role there may do. */
import type { ChildProcess } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { databaseState, rowsOf, stateDifferences } from './support/database-state.js';
import { startHeld } from './support/held-program.js';
import { HttpClient } from './support/http-client.js';
import { populate } from './support/populate.js';
import { freshDatabase } from './support/postgres.js';
import { ha, main } from './support/program.js';
import { quickDirectory, startRegistry, temporaryDirectory } from './support/registry.js';
import { filesOf } from './support/stored-objects.js';
import { until } from './support/wire-suite.js';

interface Place {
  readonly root: string;
  readonly url: string;
  readonly configFile: string;
}

async function placeOf(root: string, url: string): Promise<Place> {
  const configFile = path.join(await temporaryDirectory('config-'), 'registry.yaml');
  await writeFile(configFile, JSON.stringify(configOf(root, url)));
  return { root, url, configFile };
}

function configOf(root: string, url: string): object {
  return { database: { url }, storage: { fs: { root_dir: root } }, workers: { threads: 1 }, log: { level: 'warn' } };
}

async function withNode<T>({ root, url }: Place, use: (client: HttpClient) => Promise<T>): Promise<T> {
  const node = await startRegistry({
    config: configOf(root, url),
    launch: ({ port, configFile }) => ({
      command: process.execPath,
      args: [main, 'serve', '--config', configFile ?? '', '-p', String(port)],
    }),
  });
  const client = new HttpClient(node.port);
  try {
    return await use(client);
  } finally {
    client.close();
    await node.stop();
  }
}

const rebuild = ({ configFile }: Place) => ha(['rebuild', '--config', configFile]);

async function restored(t: Test, place: Place): Promise<void> {
  const { code, stderr } = await rebuild(place);
  t.strictSame([code, stderr], [0, ''], 'rebuild');
}

const root = await quickDirectory('claim-');
const original = await placeOf(root, (await freshDatabase()).url);
await withNode(original, async (client) => {
  await populate(client, { repositories: 6, tags: 2 });
  await until('what is superseded has been deleted', async () => (await rowsOf(original.url, 'SELECT FROM object_trash')).length === 0);
});
const whole = await databaseState(original.url);
// A link that a newer one has passed, as a crash before its deletion leaves it.
const files = filesOf(root);
const [link = ''] = await files.keys(/_blobs\/sha256\/[0-9a-f]+\/[0-9.a-f-]+$/);
const [count = '', uuid = ''] = /[^/]+$/.exec(link)?.[0].split('.') ?? [];
const older = link.replace(count, String(BigInt(count) + 1n).padStart(20, '0'));
await files.write(older, '');

for (const privileged of [true, false]) {
  void t.test(`with a role that ${privileged ? 'may' : 'may not'} switch triggers off`, async (t) => {
    const place = await placeOf(root, privileged ? (await freshDatabase()).url : await ownedByAnother(t));
    await restored(t, place);
    t.strictSame(await stateDifferences(place.url, whole), [], 'row by row as it was');
    const rows = async (table: string): Promise<number> => (await rowsOf(place.url, `SELECT FROM ${table}`)).length;
    t.equal(await rows('gc_links'), await rows('repository_blobs'), 'each link is queued, once');
    t.equal(await rows('gc_manifests'), await rows('manifests'), 'each manifest, too');
    t.strictSame(
      await rowsOf(place.url, 'SELECT key, kind, uuid FROM object_trash'),
      [{ key: older, kind: 'link', uuid }],
      'what is passed is in the trash, as a link',
    );
  });
}

for (const [place, asleep] of [
  ['rebuild.read.t', 'between its transactions'],
  ['rebuild.claimed', 'in a transaction, which Postgres ends after half a minute'],
] as const) {
  void t.test(`one that slept ${asleep} while another came to its end`, async (t) => {
    const { url, ...rest } = await placeOf(root, (await freshDatabase()).url);
    const sleeper = await startHeld(['rebuild', '--config', rest.configFile], [place]);
    t.teardown(() => sleeper.child.kill('SIGKILL'));
    await sleeper.reached(place);
    await freeze(sleeper.child, url, place === 'rebuild.claimed' ? 1 : 0);
    t.match(await rebuild({ url, ...rest }), { code: 1, stderr: /another rebuild/ }, 'while it has its lock no other begins');
    const held = `SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`;
    t.equal(
      (await rowsOf(url, `SELECT pg_terminate_backend(pid) FROM (${held}) held`)).length,
      1,
      'its lock goes, as with a connection that was given up',
    );
    await restored(t, { url, ...rest });
    await withNode({ url, ...rest }, async (client) => {
      for (const { name, tag } of await rowsOf<{ name: string; tag: string }>(
        url,
        'SELECT r.name, t.name AS tag FROM tags t JOIN repositories r ON r.id = t.repository_id',
      ))
        await client.send('DELETE', `/v2/${name}/manifests/${tag}`);
    });
    const before = await databaseState(url);
    t.strictSame(before['tags'], [], 'a node has deleted all tags');
    sleeper.child.kill('SIGCONT');
    await sleeper.release();
    t.equal(await sleeper.ended, 1, 'it gives up');
    t.strictSame(await stateDifferences(url, before), [], 'and has written nothing');
  });
}

/** Its other loaders go on until they have nothing to do: freezes it at a moment when so many of them are in a transaction. */
async function freeze(child: ChildProcess, url: string, inTransactions: number): Promise<void> {
  const open = `SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'ha-registry rebuild' AND state <> 'idle'`;
  await until('it sleeps', async () => {
    child.kill('SIGSTOP');
    await sleep(50); // What Postgres has to do for it is done.
    if ((await rowsOf(url, open)).length === inTransactions) return true;
    child.kill('SIGCONT');
    await sleep(50);
    return false;
  });
}

/** As on a server that somebody else runs. */
async function ownedByAnother(t: Test): Promise<string> {
  const database = await freshDatabase();
  const [theirs, admin] = [new URL(database.url), new URL(database.url)];
  const role = theirs.pathname.slice(1);
  admin.pathname = '/postgres';
  await rowsOf(admin.href, `CREATE ROLE ${role} LOGIN PASSWORD '${role}'`);
  await rowsOf(admin.href, `ALTER DATABASE ${role} OWNER TO ${role}`);
  t.teardown(async () => {
    await database.drop();
    await rowsOf(admin.href, `DROP ROLE ${role}`);
  });
  theirs.username = role;
  theirs.password = role;
  return theirs.href;
}
