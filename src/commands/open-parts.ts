// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What a command works with, opened as a node opens it, but beside one that may be running. */
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
import { HashClock } from '../worker/hash-clock.js';

export interface Parts {
  readonly database: Database;
  readonly store: BlobStore;
  /** Safe to call twice. */
  close(): Promise<void>;
}

/** Opens database and store. The embedded Postgres is the one that a node runs, or is started for as long as the command takes. */
export async function openParts(config: Config): Promise<Parts> {
  const closers: (() => Promise<unknown>)[] = [];
  const close = async (): Promise<void> => {
    for (const closer of closers.splice(0).toReversed()) await closer().catch(() => undefined);
  };
  try {
    const workers = openWorkers(config, new HashClock());
    closers.push(() => workers.close());
    const { servers: urls, password_file: passwordFile, embedded, pool: sizes } = config.database;
    const servers = openServers(urls.length > 0 ? urls : [await embeddedConnection(config, closers)], passwordFile);
    await servers.find();
    await migrateOn(servers.current()).catch((error: unknown) => {
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
    const store = await openStore(config, workers, urls.length === 0);
    return { database, store, close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function embeddedConnection(config: Config, closers: (() => Promise<unknown>)[]): Promise<Connection> {
  const dataDirectory = config.database.embedded.data_dir;
  const running = await findEmbeddedPostgres(dataDirectory);
  if (running !== undefined) return running;
  const postgres = await startEmbeddedPostgres({ dataDirectory, settings: { log_min_messages: 'fatal' }, environment: childEnvironment() });
  closers.push(() => postgres.stop());
  return postgres.connection;
}
