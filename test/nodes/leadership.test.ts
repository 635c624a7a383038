// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Who is there, and who leads: by the database alone, whatever becomes of the way to the store. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { startPresence, type Presence } from '../../src/cluster/leadership.js';
import { joinCluster } from '../../src/cluster/membership.js';
import { undoWindowsOf } from '../../src/collector/lifetimes.js';
import { loadConfig } from '../../src/config/config.js';
import { migrate } from '../../src/database/migrate.js';
import { openDatabase } from '../../src/database/pool.js';
import { openServers } from '../../src/database/servers.js';
import type { BlobStore } from '../../src/storage/blob-store.js';
import { memoryStore } from '../access/memory-store.js';
import { rowsOf } from '../support/database-state.js';
import { freshDatabase } from '../support/postgres.js';
import { temporaryDirectory } from '../support/registry.js';
import { until } from '../support/wire-suite.js';

interface Present {
  readonly id: string;
  readonly presence: Presence;
  mayLead: boolean;
}

/** A node's presence in the cluster, and nothing else of it. */
async function enter(t: Test, url: string, store = memoryStore()): Promise<Present> {
  const file = path.join(await temporaryDirectory('presence-'), 'registry.yaml');
  await writeFile(file, JSON.stringify({ database: { url } }));
  const config = loadConfig(file, {});
  const { servers, pool: sizes } = config.database;
  const options = { sizes, gcDelayMs: config.gc.delay, undoWindows: undoWindowsOf(config) };
  const database = openDatabase({ ...options, servers: openServers(servers), onLoss: (error) => t.fail(error.message) });
  const part = Object.assign(store, { kind: 'filesystem', location: 'memory' }) as unknown as BlobStore;
  const membership = await joinCluster(database.writes, { version: 'test', store: part, generation: () => 1n });
  const node = { id: membership.id, mayLead: true };
  const presence = startPresence({
    database,
    membership,
    store: part,
    mayLead: () => node.mayLead,
    onChange: () => undefined,
    onError: (error) => t.fail(String(error)),
  });
  t.teardown(async () => {
    await presence.stop();
    await database.close();
  });
  await presence.settled;
  return Object.assign(node, { presence });
}

function hangsOnce(deletions: unknown[]): (keys: readonly string[]) => Promise<void> {
  return (keys) => (deletions.push(keys) === 1 ? new Promise(() => undefined) : Promise.resolve());
}

t.jobs = 2;
void t.test('a leader that cannot do the work leaves it to another', { buffered: true }, async (t) => {
  const { url } = await freshDatabase();
  await migrate(url);
  const [first, second] = [await enter(t, url), await enter(t, url)];
  t.strictSame([first.presence.isLeader, second.presence.isLeader], [true, false], 'who is there first leads');
  first.mayLead = false;
  await until('the other one leads', () => second.presence.isLeader);
  t.notOk(first.presence.isLeader);
  first.mayLead = true;
  second.mayLead = false;
  await until('the first one leads again', () => first.presence.isLeader);
  t.notOk(second.presence.isLeader);
});

void t.test('a store that takes long to forget a dead node', { buffered: true }, async (t) => {
  const { url } = await freshDatabase();
  await migrate(url);
  const store = memoryStore();
  const deletions: unknown[] = [];
  const node = await enter(t, url, Object.assign(store, { delete: hangsOnce(deletions) }));
  await rowsOf(
    url,
    `INSERT INTO nodes (id, version, protocol, gc_protocol, store, generation, heartbeat_at)
     SELECT gen_random_uuid(), version, protocol, gc_protocol, store, generation, now() - interval '1 hour' FROM nodes`,
  );
  await until('the dead one is found', () => deletions.length === 1);
  const heard = async (): Promise<string> => JSON.stringify(await rowsOf(url, `SELECT heartbeat_at FROM nodes WHERE id = '${node.id}'`));
  for (let beat = 1; beat <= 5; beat++) {
    const before = await heard();
    await until('another beat', async () => (await heard()) !== before);
    await sleep(10);
  }
  t.ok(node.presence.isLeader, 'it leads, for longer than its connection may be idle');
});
