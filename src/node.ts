// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The composition root: opens and wires every part in order, and closes them in reverse. */
import { readFileSync } from 'node:fs';
import { mkdir, stat } from 'node:fs/promises';
import { openLinks } from './blob/link-queries.js';
import { childEnvironment, type Config } from './config/config.js';
import { startEmbeddedPostgres } from './database/embedded-postgres.js';
import { asRegistryError, isConnectionLoss } from './database/failures.js';
import { migrate } from './database/migrate.js';
import { openDatabase, type Connection, type Database } from './database/pool.js';
import { chooseEngine } from './http/engine/choose-engine.js';
import type { HttpServer } from './http/contract.js';
import { createHandler } from './http/routes.js';
import { emptyTrash } from './jobs/empty-trash.js';
import { expireWrites } from './jobs/expire-writes.js';
import { heartbeatMs, joinCluster } from './jobs/membership.js';
import { runPeriodically, type Periodic } from './jobs/periodic.js';
import type { Journal } from './journal/write-entries.js';
import { ManifestCache } from './manifest/manifest-cache.js';
import { openManifestReads } from './manifest/manifest-queries.js';
import { ReceiveBudget } from './manifest/receive-budget.js';
import type { Log } from './observe/log.js';
import { RegistryError } from './oci/errors.js';
import type { BlobStore } from './storage/blob-store.js';
import type { FileWorkers } from './storage/file-writer.js';
import { openFilesystemStore } from './storage/filesystem-store.js';
import { claimStore } from './storage/owner.js';
import { BufferPool } from './upload/buffer-pool.js';
import { expireSessions } from './upload/session-queries.js';
import { addonProblem, loadAddon } from './worker/addon.js';
import { loadHasher } from './worker/hash.js';
import { openWorkerPool } from './worker/worker-pool.js';

export interface Node {
  readonly port: number;
  /** Not ready, then drained, then everything closed. Safe to call twice. */
  close(): Promise<void>;
}

/** Of the largest size; small ones are not counted. */
const manifestsAtOnce = 16;

export const version = (JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string }).version;

/** `onFatal` is told when the node can't go on, such as when the embedded Postgres has ended. */
export async function startNode(config: Config, log: Log, onFatal: (reason: string) => void): Promise<Node> {
  const closers: (() => Promise<unknown>)[] = [];
  const closeAll = async (): Promise<void> => {
    for (const close of closers.splice(0).toReversed())
      await close().catch((error: unknown) => log.error({ err: error }, 'closing failed'));
  };
  try {
    const hasher = await loadHasher(config.workers.hash);
    if (hasher.implementation !== 'native')
      log.warn(`hashing with hash-wasm, at about a quarter of the speed: ${addonProblem() ?? 'as configured'}`);
    const workers = openWorkerPool(config.workers.threads, config.workers.hash);
    closers.push(() => workers.close());
    const { database, place, embedded } = await connect(config, log, onFatal, closers);
    const store = await openStore(config, workers, embedded);
    const membership = await joinCluster(database.writes, version, embedded);
    closers.push(() => membership.leave());
    const { rows } = await database.writes.query<{ id: string }>('SELECT id FROM cluster');
    await claimStore(store, rows[0]?.id ?? '');

    const journal: Journal = { writes: database.writes, store, node: membership, active: new Set() };
    // What a node before this one left in doubt is decided before anybody asks.
    const onExpiryError = (error: unknown): void => log.error({ err: error }, 'a pending write could not be ended');
    await expireWrites(journal, onExpiryError).catch(onExpiryError);
    const jobs = startJobs(config, log, journal, () => membership.beat());
    closers.push(() => Promise.all(jobs.map((job) => job.stop())));

    let draining = false;
    const handler = createHandler({
      uploads: { journal, hasher, buffers: new BufferPool(config.uploads.memory_budget) },
      blobs: { links: openLinks(database.reads), store },
      manifests: {
        manifests: openManifestReads(database.reads),
        reads: database.reads,
        cache: new ManifestCache(config.manifests.cache_size),
        journal,
        hasher,
        receiving: new ReceiveBudget(manifestsAtOnce * config.manifests.max_size),
        limits: { maxSizeBytes: config.manifests.max_size, sparse: config.manifests.sparse },
      },
      health: {
        async check() {
          if (draining) throw new Error('draining');
          await database.reads.query('SELECT 1');
        },
      },
      deleteEnabled: config.delete.enabled,
      allowedOrigins: new Set(config.server.allowed_origins),
      onFailure: (error, { method, path }) => log.error({ err: error, method, path }, 'request failed'),
      onReply: logReplies(log),
    });
    const server = await listen(config, log, handler);
    const drain = async (): Promise<void> => {
      draining = true;
      await server.drain(config.server.drain_timeout);
    };
    closers.push(drain);
    log.info(
      { engine: server.engine, hash: hasher.implementation, database: place, store: `${store.kind} ${store.location}`, version },
      `listening on ${config.server.tls === undefined ? 'http' : 'https'}://${hostForUrl(config.server.bind_address)}:${server.port}`,
    );
    return { port: server.port, close: closeAll };
  } catch (error) {
    await closeAll();
    throw error;
  }
}

interface Connected {
  readonly database: Database;
  /** For the log; without credentials. */
  readonly place: string;
  readonly embedded: boolean;
}

async function connect(
  config: Config,
  log: Log,
  onFatal: (reason: string) => void,
  closers: (() => Promise<unknown>)[],
): Promise<Connected> {
  const open = async (connection: Connection): Promise<Database> => {
    await migrate(connection).catch((error: unknown) => {
      if (!isConnectionLoss(error)) throw error;
      throw new Error(`the database cannot be reached (database.url): ${error instanceof Error ? error.message : String(error)}`, {
        cause: error,
      });
    });
    const database = openDatabase(connection, (error) => log.warn({ err: error }, 'a database connection was lost'));
    closers.push(() => database.close());
    return database;
  };
  const { url } = config.database;
  if (url !== undefined) {
    const { host, pathname } = new URL(url);
    return { database: await open(url), place: `postgres ${host}${pathname}`, embedded: false };
  }
  const dataDirectory = config.database.embedded.data_dir;
  const postgres = await startEmbeddedPostgres({
    dataDirectory,
    // An error is for the client that caused it: ours come back to this node, which answers them or logs them.
    settings: { log_min_messages: 'fatal' },
    environment: childEnvironment(),
    log: (line) => log.warn({ postgres: line }, 'embedded Postgres'),
  });
  closers.push(() => postgres.stop());
  postgres.onExit((reason) => onFatal(`the embedded Postgres has ended: ${reason}`));
  return { database: await open(postgres.connection), place: `embedded ${dataDirectory}`, embedded: true };
}

/** An embedded Postgres that finds its disk full ends; it is left some room of what blobs would fill. */
async function openStore(config: Config, workers: FileWorkers, embedded: boolean): Promise<BlobStore> {
  const { root_dir: directory, keep_free: keepFree } = config.storage.fs;
  await mkdir(directory, { recursive: true });
  const shared = embedded && (await stat(directory)).dev === (await stat(config.database.embedded.data_dir)).dev;
  return openFilesystemStore(directory, { workers, durablePut: loadAddon()?.durablePut, keepFreeBytes: shared ? keepFree : 0 });
}

function startJobs(config: Config, log: Log, journal: Journal, beat: () => Promise<void>): Periodic[] {
  const job = (name: string, intervalMs: number, work: () => Promise<unknown>): Periodic => {
    const periodic = runPeriodically(
      intervalMs,
      async () => void (await work()),
      (error) => log.error({ err: error, job: name }, 'a job failed'),
    );
    periodic.poke();
    return periodic;
  };
  const ageSeconds = config.uploads.expire_after / 1000;
  return [
    job('heartbeat', heartbeatMs, beat),
    job('expire pending writes', 15_000, () =>
      expireWrites(journal, (error) => log.error({ err: error }, 'a pending write could not be ended')),
    ),
    job('expire uploads', Math.min(60_000, config.uploads.expire_after), () => expireSessions(journal.writes, journal.node.id, ageSeconds)),
    job('empty trash', 5_000, () => emptyTrash(journal)),
  ];
}

async function listen(config: Config, log: Log, handler: ReturnType<typeof createHandler>): Promise<HttpServer> {
  const { server } = config;
  const { serve, reason } = await chooseEngine(server.engine, loadAddon()?.setReceiveBuffer);
  if (reason !== undefined) log.warn(`serving with node:http: ${reason}`);
  return serve(handler, {
    host: server.bind_address,
    port: server.port,
    reusePort: server.reuse_port,
    receiveBufferBytes: server.receive_buffer,
    maxConnections: server.max_connections,
    idleTimeoutMs: server.idle_timeout,
    minimumRateBytesPerSecond: server.minimum_rate,
    tls:
      server.tls === undefined
        ? undefined
        : { certificateFile: server.tls.server_certificate_bundle, keyFile: server.tls.server_private_key },
    onError: (error, { method, path }) => {
      const failure = asRegistryError(error);
      if (!(failure instanceof RegistryError)) log.error({ err: error, method, path }, 'a reply failed');
    },
  });
}

/** A line per request, only where the level asks for it: formatting one costs as much as answering a small pull. */
function logReplies(log: Log): Parameters<typeof createHandler>[0]['onReply'] {
  if (!log.isLevelEnabled('debug')) return () => undefined;
  return ({ method, path, query, remoteAddress }, { status }, startedAt) =>
    log.debug({ method, path, query, status, remoteAddress, ms: Math.round((performance.now() - startedAt) * 10) / 10 }, 'request');
}

function hostForUrl(address: string): string {
  return address.includes(':') ? `[${address}]` : address;
}
