// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * A registry in this process, and a collector beside it that the test runs by hand: so a test can hold either at its named places. Time passes by moving what the
 * database remembers of it into the past.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { Test } from 'tap';
import { Continuity } from '../../src/cluster/continuity.js';
import { join } from '../../src/cluster/enter-cluster.js';
import { startPresence } from '../../src/cluster/leadership.js';
import { collect } from '../../src/collector/collect.js';
import { newCounters, type Collection } from '../../src/collector/collection.js';
import { emptyTrash } from '../../src/collector/empty-trash.js';
import { lifetimesBy, undoWindowsOf } from '../../src/collector/lifetimes.js';
import { prune } from '../../src/collector/prune.js';
import { sweep } from '../../src/collector/sweep.js';
import { loadConfig } from '../../src/config/config.js';
import { pausePoints } from '../../src/database/pause-points.js';
import { openDatabase } from '../../src/database/pool.js';
import { openServers } from '../../src/database/servers.js';
import { startNode, version } from '../../src/node.js';
import { openLog } from '../../src/observe/log.js';
import { openStore, openWorkers } from '../../src/open-store.js';
import type { BlobStore } from '../../src/storage/blob-store.js';
import { openServiceManager } from '../../src/supervision/service-manager.js';
import { HashClock } from '../../src/worker/hash-clock.js';
import { HttpClient } from '../support/http-client.js';
import { freshDatabase } from '../support/postgres.js';
import { quickDirectory } from '../support/registry.js';

export interface Place {
  readonly client: HttpClient;
  readonly root: string;
  /** For a process beside it. */
  readonly configFile: string;
  readonly databaseUrl: string;
  readonly store: BlobStore;
  readonly collection: Collection;
  readonly continuity: Continuity;
  /** One statement, its rows. */
  readonly sql: <Row>(text: string, values?: readonly unknown[]) => Promise<Row[]>;
  /** A round of the collector. */
  collect(more?: Partial<Collection>): Promise<void>;
  /** Only what is in the trash. */
  emptyTrash(more?: Partial<Collection>): Promise<void>;
  prune(more?: Partial<Collection>): Promise<void>;
  sweep(): Promise<string[]>;
  /** Everything the database remembers is so much older. */
  age(interval: string): Promise<void>;
  /** Holds whoever comes to this place next: the collector, or for places of `write` a request. */
  hold(place: string): Held;
}

export interface Held {
  /** Resolves when somebody is held. */
  readonly reached: Promise<void>;
  release(): void;
}

/** Set for what the test itself runs; the node's own jobs are kept from collecting. */
const byHand = new AsyncLocalStorage<true>();

export type Settings = { readonly gc?: object; /** The data directory. */ readonly root?: string } & Record<string, unknown>;

export async function openPlace(t: Test, { gc, root: given, ...settings }: Settings = {}): Promise<Place> {
  const { url } = await freshDatabase();
  const root = given ?? (await quickDirectory('gc-'));
  const file = path.join(root, 'registry.yaml');
  const text = {
    server: { port: 0 },
    workers: { threads: 2 },
    log: { level: 'error' },
    database: { url },
    gc: { interval: '10d', ...gc },
    ...settings,
  };
  await writeFile(file, JSON.stringify(text));
  const config = loadConfig(file, { root });

  const holds = new Map<string, { reach: () => void; released: Promise<void> }>();
  const opened = gate();
  pausePoints.reached = async (place) => {
    if (place.startsWith('gc.') && byHand.getStore() === undefined) return place.endsWith('.begin') ? opened.promise : undefined;
    const hold = holds.get(place);
    holds.delete(place);
    hold?.reach();
    await hold?.released;
  };

  const node = await startNode(
    config,
    openLog('error'),
    (reason) => t.fail(reason),
    openServiceManager(undefined, () => undefined),
  );
  const workers = openWorkers(config, new HashClock());
  const store = await openStore(config, workers, false);
  const servers = openServers(config.database.servers);
  const { pool: sizes } = config.database;
  const database = openDatabase({
    servers,
    sizes,
    gcDelayMs: config.gc.delay,
    undoWindows: undoWindowsOf(config),
    onLoss: (error) => t.fail(error.message),
  });
  const continuity = new Continuity({ store, log: () => undefined });
  const membership = await join(continuity, { database, store, version, alone: false });
  const presence = startPresence({
    database,
    membership,
    store,
    mayLead: () => false,
    onChange: () => undefined,
    onError: (error) => t.fail(String(error)),
  });
  const client = new HttpClient(node.port);
  t.teardown(async () => {
    opened.open();
    pausePoints.reached = undefined;
    client.close();
    await node.close();
    await presence.stop();
    await database.close();
    await workers.close();
  });
  const collection: Collection = {
    pool: database.collector,
    store,
    node: membership,
    lifetimesOf: lifetimesBy(config),
    batch: config.gc.batch,
    delayMs: config.gc.delay,
    obstacle: () => undefined,
    refresh: () => continuity.refresh(),
    counters: newCounters(),
  };
  const sql = async <Row>(statement: string, values: readonly unknown[] = []): Promise<Row[]> =>
    (await database.writes.query(statement, [...values])).rows as Row[];
  return {
    client,
    root,
    configFile: file,
    databaseUrl: url,
    store,
    collection,
    continuity,
    sql,
    collect: (more = {}) => byHand.run(true, () => collect({ ...collection, ...more })),
    emptyTrash: (more = {}) => byHand.run(true, () => emptyTrash({ ...collection, ...more })),
    prune: (more = {}) => byHand.run(true, () => prune({ ...collection, ...more })),
    async sweep() {
      const named: string[] = [];
      await sweep(collection, (uuid) => named.push(uuid));
      return named;
    },
    async age(interval) {
      for (const statement of timesPassed(interval)) await sql(statement);
    },
    hold(place) {
      const [reached, released] = [gate(), gate()];
      holds.set(place, { reach: reached.open, released: released.promise });
      return { reached: reached.promise, release: released.open };
    },
  };
}

function gate(): { readonly promise: Promise<void>; readonly open: () => void } {
  const made: { open?: () => void } = {};
  const promise = new Promise<void>((resolve) => (made.open = resolve));
  return { promise, open: () => made.open?.() };
}

const times = {
  repository_blobs: ['due_at'],
  manifests: ['due_at', 'pushed_at', 'pulled_at'],
  tag_history: ['at'],
  tombstones: ['at'],
  gc_links: ['due'],
  gc_manifests: ['due'],
  gc_blobs: ['due'],
  object_trash: ['not_before', 'removed_at', 'lease_until'],
  sweep_sightings: ['first_seen_at', 'last_seen_at'],
  gc_runs: ['begun_at'],
  cluster: ['caught_up_at', 'gc_not_before'],
};

/** Statements after which everything that the database remembers is so much older. */
export function timesPassed(interval: string): string[] {
  return Object.entries(times).map(([table, columns]) => {
    const moved = columns.map((column) => `${column} = ${column} - interval '${interval}'`).join(', ');
    return `UPDATE ${table} SET ${moved}`;
  });
}
