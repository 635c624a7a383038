// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What a command works with, opened as a node opens it, but beside one that may be running. */
import { Client, type ClientConfig } from 'pg';
import { undoWindowsOf } from '../collector/lifetimes.js';
import { childEnvironment, type Config } from '../config/config.js';
import { findEmbeddedPostgres } from '../database/embedded-attach.js';
import { startEmbeddedPostgres } from '../database/embedded-postgres.js';
import { isConnectionLoss } from '../database/failures.js';
import { migrateOn } from '../database/migrate.js';
import { openDatabase, type Database } from '../database/pool.js';
import { openServers, type Connection } from '../database/servers.js';
import { openStore, openWorkers } from '../open-store.js';
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

/** Opens database and store. The embedded Postgres is the one that a node runs, or is started for as long as the command takes. */
export async function openParts(config: Config): Promise<Parts> {
  const opened = await openDatabasePart(config, true);
  try {
    const { store, workers, close } = await openStorePart(config);
    return { database: opened.database, store, workers, close: () => close().then(opened.close) };
  } catch (error) {
    await opened.close();
    throw error;
  }
}

/** The same, where the database must be the store's: another one, or an empty one, would know nothing of what is there. */
export async function openMatchingParts(config: Config): Promise<Parts> {
  const parts = await openParts(config);
  try {
    const owner = await readOwner(parts.store);
    const { rows } = await parts.database.reads.query<{ id: string }>('SELECT id FROM cluster');
    const id = rows[0]?.id ?? '';
    if (owner !== undefined && owner.cluster !== id) throw foreignStore(parts.store, owner, id);
    return parts;
  } catch (error) {
    await parts.close();
    throw error;
  }
}

/** Where nothing is to be migrated, the schema may be older than this version, or missing. */
export function openDatabasePart(config: Config, migrates: boolean): Promise<Pick<Parts, 'database' | 'close'>> {
  return openOrClose(async (closers) => {
    const { servers: urls, password_file: passwordFile, embedded, pool: sizes } = config.database;
    const servers = openServers(urls.length > 0 ? urls : [await embeddedConnection(config, closers)], passwordFile);
    await servers.find();
    const prepared = migrates ? migrateOn(servers.current()) : probe(servers.current());
    await prepared.catch((error: unknown) => {
      if (!isConnectionLoss(error)) throw error;
      const where = urls.length === 0 ? embedded.data_dir : 'database.url';
      throw new Error(`the database cannot be reached (${where}): ${(error as Error).message}`, { cause: error });
    });
    // A connection that is lost is told by the statement that needed it.
    const database = openDatabase({
      servers,
      sizes,
      gcDelayMs: config.gc.delay,
      undoWindows: undoWindowsOf(config),
      onLoss: () => undefined,
    });
    closers.push(() => database.close());
    return { database };
  });
}

export function openStorePart(config: Config): Promise<Pick<Parts, 'store' | 'workers' | 'close'>> {
  return openOrClose(async (closers) => {
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

async function probe(server: ClientConfig): Promise<void> {
  const client = new Client({
    ...server,
    application_name: 'ha-registry probe',
    connectionTimeoutMillis: connectMs,
    query_timeout: connectMs,
  });
  client.on('error', () => undefined);
  try {
    await client.connect();
    await client.query('SELECT 1');
  } finally {
    client.end().catch(() => undefined);
  }
}

/** A server that takes the connection and then says nothing is as good as none. */
const connectMs = 5_000;

async function embeddedConnection(config: Config, closers: Closers): Promise<Connection> {
  const dataDirectory = config.database.embedded.data_dir;
  const running = await findEmbeddedPostgres(dataDirectory);
  if (running !== undefined) return running;
  const postgres = await startEmbeddedPostgres({ dataDirectory, settings: { log_min_messages: 'fatal' }, environment: childEnvironment() });
  closers.push(() => postgres.stop());
  return postgres.connection;
}
