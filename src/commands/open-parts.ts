// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What a command works with, opened as a node opens it, but beside one that may be running. Whoever is refused here has changed nothing. */
import { stat } from 'node:fs/promises';
import type { ClientConfig } from 'pg';
import { refuseEmptyDatabase } from '../cluster/topology.js';
import { undoWindowsOf } from '../collector/lifetimes.js';
import { childEnvironment, type Config } from '../config/config.js';
import { findEmbeddedPostgres, hasEmbeddedPostgres } from '../database/embedded-attach.js';
import { startEmbeddedPostgres } from '../database/embedded-postgres.js';
import { unreachable } from '../database/failures.js';
import { migrateOn, refuseNewer } from '../database/migrate.js';
import { openDatabase, type Database, type Queryer } from '../database/pool.js';
import { openServers, type Connection } from '../database/servers.js';
import { connectTo, disconnect } from '../database/single-client.js';
import { openStore, openWorkers } from '../open-store.js';
import { isRebuilding } from '../rebuild/rebuild-queries.js';
import type { BlobStore } from '../storage/blob-store.js';
import { foreignStore, readOwner } from '../storage/owner.js';
import { HashClock } from '../worker/hash-clock.js';
import type { WorkerPool } from '../worker/worker-pool.js';

export interface Parts {
  readonly database: Database;
  readonly store: BlobStore;
  readonly workers: WorkerPool;
  /** Safe to call twice. */
  close(): Promise<void>;
}

export interface Opening {
  /** The command may be the first to use this place: what is not there yet is made. Otherwise there must be a registry. */
  readonly begins: boolean;
  /** The database must be the store's: another one, or an empty one, would know nothing of what is there. */
  readonly matches: boolean;
}

/** Opens database and store, and brings the schema up to this version. The embedded Postgres is the one that a node runs, or is started for as long as the command takes. */
export function openParts(config: Config, { begins, matches }: Opening): Promise<Parts> {
  return openOrClose(async (closers) => {
    const index = await openDatabasePart(config, begins);
    closers.push(() => index.close());
    const { store, workers, close } = await openStorePart(config, begins);
    closers.push(close);
    if (matches) await refuseForeign(store, index.cluster);
    await index.migrate();
    return { database: index.database, store, workers };
  });
}

/** For a command that works on what the database says. */
export function openRegistry(config: Config, begins = false): Promise<Parts> {
  return openOrClose(async (closers) => {
    const parts = await openParts(config, { begins, matches: true });
    closers.push(() => parts.close());
    await refuseWhileRebuilding(parts.database.reads);
    return parts;
  });
}

export async function refuseWhileRebuilding(queryer: Queryer): Promise<void> {
  if (await isRebuilding(queryer)) throw new Error('the database is being rebuilt; let `ha-registry rebuild` go on to its end first');
}

async function refuseForeign(store: BlobStore, cluster: string | undefined): Promise<void> {
  if (cluster === undefined) return refuseEmptyDatabase(store);
  const owner = await readOwner(store);
  if (owner !== undefined && owner.cluster !== cluster) throw foreignStore(store, owner, cluster);
}

export interface DatabasePart {
  readonly database: Database;
  /** Its id; undefined where there are no tables yet. */
  readonly cluster: string | undefined;
  migrate(): Promise<void>;
  close(): Promise<void>;
}

/** Nothing is migrated yet: the schema may be older than this version, but none that it cannot live with. */
export function openDatabasePart(config: Config, begins: boolean): Promise<DatabasePart> {
  return openOrClose(async (closers) => {
    const { servers: urls, password_file: passwordFile, embedded, pool: sizes } = config.database;
    const servers = openServers(urls.length > 0 ? urls : [await embeddedConnection(config, begins, closers)], passwordFile);
    await servers.find();
    const cluster = await findCluster(servers.current()).catch((error: unknown) => {
      throw unreachable(error, urls.length === 0 ? embedded.data_dir : 'database.url');
    });
    if (cluster === undefined && !begins) throw new Error('the database is empty: no node has used it yet (database.url)');
    // A connection that is lost is told by the statement that needed it.
    const database = openDatabase({
      servers,
      sizes,
      gcDelayMs: config.gc.delay,
      undoWindows: undoWindowsOf(config),
      onLoss: () => undefined,
    });
    closers.push(() => database.close());
    return { database, cluster, migrate: () => migrateOn(servers.current()) };
  });
}

export function openStorePart(config: Config, begins: boolean): Promise<Pick<Parts, 'store' | 'workers' | 'close'>> {
  return openOrClose(async (closers) => {
    const { kind, fs } = config.storage;
    if (!begins && kind === 'filesystem' && (await stat(fs.root_dir).catch(() => undefined)) === undefined)
      throw new Error(`there is no store in ${fs.root_dir} (--root, storage.fs.root_dir)`);
    const workers = openWorkers(config, new HashClock());
    closers.push(() => workers.close());
    return { store: await openStore(config, workers, config.database.servers.length === 0), workers };
  });
}

type Closers = (() => Promise<unknown>)[];

async function openOrClose<Part>(open: (closers: Closers) => Promise<Part>): Promise<Part & { close(): Promise<void> }> {
  const closers: Closers = [];
  const close = async (): Promise<void> => {
    for (const closer of closers.splice(0).toReversed()) await closer().catch(() => undefined);
  };
  try {
    return { ...(await open(closers)), close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function findCluster(server: ClientConfig): Promise<string | undefined> {
  const client = await connectTo(server, { name: 'probe', connectMs, queryMs: connectMs });
  try {
    await refuseNewer(client);
    const { rows } = await client.query<{ known: boolean }>(`SELECT to_regclass('cluster') IS NOT NULL AS known`);
    if (rows[0]?.known !== true) return undefined;
    const { rows: clusters } = await client.query<{ id: string }>('SELECT id FROM cluster');
    return clusters[0]?.id;
  } finally {
    void disconnect(client);
  }
}

/** A server that takes the connection and then says nothing is as good as none. */
const connectMs = 5_000;

async function embeddedConnection(config: Config, begins: boolean, closers: Closers): Promise<Connection> {
  const dataDirectory = config.database.embedded.data_dir;
  const running = await findEmbeddedPostgres(dataDirectory);
  if (running !== undefined) return running;
  if (!begins && !(await hasEmbeddedPostgres(dataDirectory)))
    throw new Error(`there is no registry here: ${dataDirectory} has no database (--root), and no other is configured (database.url)`);
  const postgres = await startEmbeddedPostgres({ dataDirectory, settings: { log_min_messages: 'fatal' }, environment: childEnvironment() });
  closers.push(() => postgres.stop());
  return postgres.connection;
}
