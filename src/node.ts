// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The composition root: opens and wires every part in order, and closes them in reverse. */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { hostname } from 'node:os';
import { isDeepStrictEqual } from 'node:util';
import { LiveAccess } from './access/live-access.js';
import { openAccess } from './access/open-access.js';
import type { AttemptOf } from './access/password/logins.js';
import { RememberedPasswords } from './access/password/passwords.js';
import { SharedKeys } from './access/workload/shared-keys.js';
import { openAudit } from './audit/open-audit.js';
import { enterCluster, openCluster } from './cluster/enter-cluster.js';
import { startPresence, type Presence } from './cluster/leadership.js';
import type { Membership } from './cluster/membership.js';
import { newCounters } from './collector/collection.js';
import { undoWindowsOf } from './collector/lifetimes.js';
import { childEnvironment, type Config } from './config/config.js';
import { Availability } from './database/availability.js';
import { startEmbeddedPostgres } from './database/embedded-postgres.js';
import { openServers, type Servers } from './database/servers.js';
import { isPassing, reasonOf, unreachable } from './database/failures.js';
import { clientAddressBehind, type ClientAddress } from './http/client-address.js';
import { createHandler } from './http/routes.js';
import { expireWrites } from './jobs/expire-writes.js';
import type { Journal } from './journal/write-entries.js';
import { countLimits, openLimits } from './limits/open-limits.js';
import { ManifestCache } from './manifest/manifest-cache.js';
import { PullTimes } from './manifest/pull-times.js';
import { ReceiveBudget } from './manifest/receive-budget.js';
import { countCluster } from './observe/cluster-metrics.js';
import { countCollection } from './observe/gc-metrics.js';
import type { Log } from './observe/log.js';
import { getMetrics, metricsElsewhere } from './observe/metrics-endpoint.js';
import { Metrics } from './observe/metrics.js';
import {
  countAvailability,
  countBatches,
  countBuild,
  countHashing,
  countLeadership,
  countManifestCache,
  countStore,
  countUploads,
} from './observe/node-metrics.js';
import { observePools } from './observe/observed-pool.js';
import { observeStore } from './observe/observed-store.js';
import { countScrub } from './observe/scrub-metrics.js';
import { together } from './observe/observers.js';
import { logRequests } from './observe/request-log.js';
import { countRequests } from './observe/request-metrics.js';
import type { Tracer } from './observe/tracer.js';
import { startJobs, type Jobs } from './node-jobs.js';
import { aboutRequest, hostForUrl, listen, listenForMetrics } from './node-listeners.js';
import { openReloader } from './reload.js';
import { openStore, openWorkers } from './open-store.js';
import { openQuotas } from './quota/quotas.js';
import { openReads } from './reads/database-reads.js';
import { openStoreReads } from './reads/store-reads.js';
import { isRebuilding } from './rebuild/rebuild-queries.js';
import { LossRecorder } from './scrub/record-losses.js';
import { newScrubCounters } from './scrub/scrubbing.js';
import { ownerKey } from './storage/keys.js';
import type { ServiceManager } from './supervision/service-manager.js';
import { BufferPool } from './upload/buffer-pool.js';
import { addonProblem } from './worker/addon.js';
import { HashClock, timedHasher, type HashedSpan } from './worker/hash-clock.js';
import { loadHasher } from './worker/hash.js';

export interface Node {
  readonly port: number;
  /** Takes over what of another configuration can change while it serves. Throws where it is no good, and then nothing has changed. */
  reload(next: Config): Promise<void>;
  /** Not ready, then drained, then everything closed. Safe to call twice. */
  close(): Promise<void>;
}

/** Of the largest size; small ones are not counted. */
const manifestsAtOnce = 16;
/** What letting go of uploads may take: a part or a tail that is stored, and a statement. */
const lettingGoMs = 10_000;

export const version = (JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string }).version;

/** `onFatal` is told when the node can't go on, such as when the embedded Postgres has ended. */
export async function startNode(config: Config, log: Log, onFatal: (reason: string) => void, service: ServiceManager): Promise<Node> {
  const closers: (() => Promise<unknown>)[] = [];
  const closeAll = async (): Promise<void> => {
    for (const close of closers.splice(0).toReversed())
      await close().catch((error: unknown) => log.error({ err: error }, 'closing failed'));
  };
  try {
    const metrics = new Metrics();
    let behindProxies = clientAddressBehind(config.server.trusted_proxies);
    const addressOf: ClientAddress = (request) => behindProxies(request);
    const tracer = await openTracing(config, log, addressOf);
    if (tracer !== undefined) closers.push(() => tracer.close());
    const clock = new HashClock();
    const onHashed =
      tracer === undefined
        ? undefined
        : ({ startMs, endMs }: HashedSpan, bytes: number): void => tracer.past('hash', { 'registry.bytes': bytes }, startMs, endMs);
    const hasher = timedHasher(await loadHasher(config.workers.hash), clock, onHashed);
    if (hasher.implementation !== 'native')
      log.warn(`hashing with hash-wasm, at about a quarter of the speed: ${addonProblem() ?? 'as configured'}`);
    const workers = openWorkers(config, clock, onHashed);
    closers.push(() => workers.close());
    const { servers, embedded } = await findServers(config, log, onFatal, closers);
    const store = observeStore(await openStore(config, workers, embedded), metrics, tracer);
    const cluster = openCluster({
      servers,
      pool: config.database.pool,
      gcDelayMs: config.gc.delay,
      undoWindows: undoWindowsOf(config),
      store,
      log: (level, line, error) => log[level]({ err: error }, line),
      onLoss: (error) => {
        log.debug({ err: error }, 'a database connection was lost');
        availability.suspect();
      },
    });
    const { database, continuity } = cluster;
    closers.push(() => database.close());
    const availability = new Availability({
      probe: async () => {
        await enter();
        await database.reads.query('SELECT 1');
      },
      isConnected: () => database.reads.totalCount > 0,
      onTurnedAway: (reason) => log.error(`the database takes no further connections: ${reason}`),
      onLost: (reason) => {
        database.reconnect();
        log.error(`the database is away, so pulls are served from the store and nothing can be pushed: ${reason}`);
      },
      onRecovered: (awayMs) => log.info(`the database is back after ${Math.round(awayMs / 100) / 10} s`),
    });
    closers.push(() => Promise.resolve(availability.close()));
    observePools({ reads: database.reads, writes: database.writes, collector: database.collector }, metrics, tracer);
    let membership: Membership | undefined;
    let presence: Presence | undefined;
    let jobs: Jobs | undefined;
    const node = {
      get id() {
        return membership?.id ?? '';
      },
    };
    const refused = metrics.counter('registry_quota_refused_total', 'Pushes that a quota had no room for.', []).with();
    const quotasOf = ({ quota }: Config) => openQuotas(quota, { onRefused: () => refused.add(), now: () => performance.now() });
    let quotas = quotasOf(config);
    const journal: Journal = {
      writes: availability.guardWrites(database.writes),
      store,
      node,
      active: new Set(),
      history: continuity,
      get quotas() {
        return quotas;
      },
    };
    const onExpiryError = (error: unknown): void => log.error({ err: error }, 'a pending write could not be ended');
    const enter = onceSuccessful(async () => {
      const joined = await enterCluster(cluster, {
        version,
        alone: embedded,
        during: (status, work) => service.during(status, work),
        refuse: async (client) => {
          if (await isRebuilding(client))
            throw new Error(
              'the database is being rebuilt from the store, or that was interrupted: let `ha-registry rebuild` go on to its end first',
            );
        },
      });
      membership = joined;
      const started = startPresence({
        database,
        membership: joined,
        store,
        mayLead: () => continuity.obstacle === undefined,
        onChange: (isLeader) => {
          log.info(isLeader ? 'this node leads' : 'this node leads no more');
          jobs?.poke();
        },
        onError: (error) => log.warn({ err: error }, 'the database does not hear this node'),
      });
      presence = started;
      await started.settled;
      // What a node before this one left in doubt is decided before anybody asks.
      if (started.isLeader) await expireWrites({ ...journal, node, writes: database.writes }, onExpiryError).catch(onExpiryError);
    });
    closers.push(async () => presence?.stop());
    closers.push(() => continuity.close());
    try {
      await enter();
    } catch (error) {
      // A store that is somebody's has pulls to serve; the node enters the cluster when the database comes.
      if (embedded || !isPassing(error) || (await store.get(ownerKey)) === undefined) throw unreachable(error, 'database.url');
      availability.lose(reasonOf(error));
    }
    availability.watch();
    const counters = newCounters();
    const pulls = new PullTimes();
    const { collector } = database;
    const scrubbed = newScrubCounters();
    const scrub = { pool: database.writes, hasher, counters: scrubbed };
    const running = startJobs({
      config,
      log,
      journal,
      pool: database.writes,
      presence: () => presence,
      continuity,
      availability,
      collector,
      counters,
      pulls,
      scrub,
    });
    jobs = running;
    closers.push(() => running.stop());

    let draining = false;
    const buffers = new BufferPool(config.uploads.memory_budget, store.parts.wantedBytes(1));
    const progress = { active: 0 };
    const cache = new ManifestCache(config.manifests.cache_size);
    const batches = countBatches(metrics, tracer);
    countHashing(metrics, clock, workers);
    countUploads(metrics, buffers, progress);
    countManifestCache(metrics, cache);
    countCluster(metrics, database.reads);
    countAvailability(metrics, availability);
    countStore(metrics, () => continuity.isStoreLost);
    countScrub(metrics, scrubbed, database.reads);
    countLeadership(metrics, () => presence?.isLeader === true);
    countCollection(metrics, counters, database.reads);
    const pools = { reads: database.reads, writes: journal.writes };
    const reads = openReads(pools, config.gc.delay, availability, openStoreReads(store, cache), batches);
    const warn = (message: string, error: unknown): void => log.warn({ err: error }, message);
    const limitCounters = countLimits(metrics);
    let limits = openLimits(config.limits, addressOf, limitCounters);
    const attemptOf: AttemptOf = (request, username) => limits.attemptOf(request, username);
    const audit = await openAudit(config.audit, addressOf, metrics, (line, error) => log.error({ err: error }, line));
    closers.push(async () => audit?.close());
    const known = { issuerKeys: new SharedKeys(), remembered: new RememberedPasswords() };
    const kept = { store, addressOf, warn, recorder: audit, attemptOf, ...known };
    const open = (wanted: Config) => openAccess({ config: wanted, ...kept });
    const access = new LiveAccess(await open(config), (error) => warn('what was replaced could not be closed', error));
    closers.push(() => access.close());
    const handler = createHandler({
      access,
      uploads: { journal, hasher, hashBuffer: (task) => workers.hashBuffer(task), buffers, progress },
      blobs: { reads, store, lost: new LossRecorder({ journal, counters: scrubbed, log }) },
      manifests: {
        reads,
        cache,
        pulls,
        journal,
        hasher,
        receiving: new ReceiveBudget(manifestsAtOnce * config.manifests.max_size),
        limits: { maxSizeBytes: config.manifests.max_size, sparse: config.manifests.sparse },
      },
      undo: { journal, sparse: config.manifests.sparse },
      health: {
        get draining() {
          return draining;
        },
        get degraded() {
          return availability.degraded;
        },
        get storeLost() {
          return continuity.isStoreLost;
        },
      },
      availability,
      deleteEnabled: config.delete.enabled,
      allowedOrigins: new Set(config.server.allowed_origins),
      metrics: config.server.metrics.port === undefined ? (request) => getMetrics(metrics, request) : metricsElsewhere,
      onFailure: (error, request) => log.error({ err: error, ...aboutRequest(request) }, 'request failed'),
      get limits() {
        return limits.requests;
      },
      onRefusal: audit === undefined ? undefined : (request, rule) => audit.refused(request, rule),
    });
    const observer = together(
      countRequests(metrics),
      logRequests(log, config.log.requests, addressOf, tracer),
      tracer?.requests,
      audit?.observer,
    );
    const metricsServer = await listenForMetrics(config, log, metrics);
    closers.push(async () => metricsServer?.close());
    const server = await listen(config, log, tracer?.wrap(handler) ?? handler, observer);
    countBuild(metrics, { version, node: process.versions.node, engine: server.engine, hash: hasher.implementation, store: store.kind });
    const drain = async (): Promise<void> => {
      draining = true;
      server.retire();
      // Not ready, and serving all the same, until every balancer has asked.
      await sleep(config.server.shutdown_delay);
      await server.drain(config.server.drain_timeout);
      // Uploads that were cut at the deadline note how far they have come, while this node may still write.
      for (const end = performance.now() + lettingGoMs; progress.active > 0 && performance.now() < end;) await sleep(20);
    };
    closers.push(drain);
    log.info(
      {
        engine: server.engine,
        hash: hasher.implementation,
        database: embedded ? `embedded ${config.database.embedded.data_dir}` : `postgres ${servers.describe()}`,
        store: `${store.kind} ${store.location}`,
        version,
      },
      `listening on ${config.server.tls === undefined ? 'http' : 'https'}://${hostForUrl(config.server.bind_address)}:${server.port}`,
    );
    const onChange = (now: Config, before: Config): void => {
      // What was counted goes on where nothing of it has changed.
      if (!isDeepStrictEqual(now.limits, before.limits)) limits = openLimits(now.limits, addressOf, limitCounters);
      if (!isDeepStrictEqual(now.quota, before.quota)) quotas = quotasOf(now);
      behindProxies = clientAddressBehind(now.server.trusted_proxies);
    };
    const reloader = openReloader(config, { log, server, access, open, onChange });
    closers.push(() => Promise.resolve(reloader.close()));
    return { port: server.port, close: closeAll, reload: (next) => reloader.reload(next) };
  } catch (error) {
    await closeAll();
    throw error;
  }
}

async function findServers(
  config: Config,
  log: Log,
  onFatal: (reason: string) => void,
  closers: (() => Promise<unknown>)[],
): Promise<{ readonly servers: Servers; readonly embedded: boolean }> {
  const { servers, password_file: passwordFile, embedded } = config.database;
  if (servers.length > 0) return { servers: openServers(servers, passwordFile), embedded: false };
  const postgres = await startEmbeddedPostgres({
    dataDirectory: embedded.data_dir,
    // An error is for the client that caused it: ours come back to this node, which answers them or logs them.
    settings: { log_min_messages: 'fatal' },
    environment: childEnvironment(),
    log: (line) => log.warn({ postgres: line }, 'embedded Postgres'),
  });
  closers.push(() => postgres.stop());
  postgres.onExit((reason) => onFatal(`the embedded Postgres has ended: ${reason}`));
  return { servers: openServers([postgres.connection]), embedded: true };
}

/** What failed is tried again at the next call; what succeeded is not done again. */
function onceSuccessful(work: () => Promise<void>): () => Promise<void> {
  let done: Promise<void> | undefined;
  return () => {
    done ??= work().catch((error: unknown) => {
      done = undefined;
      throw error;
    });
    return done;
  };
}

async function openTracing({ tracing }: Config, log: Log, addressOf: ClientAddress): Promise<Tracer | undefined> {
  if (tracing.endpoint === undefined) return undefined;
  const { openTracer } = await import('./observe/otlp-tracer.js');
  const { endpoint, headers, sample_ratio: sampleRatio, service_name: serviceName } = tracing;
  return openTracer({ endpoint, headers, sampleRatio, serviceName, version, instance: `${hostname()}:${process.pid}`, addressOf }, log);
}
