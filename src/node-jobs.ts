// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What a node does by itself, beside what clients ask: the work of the leader, and what each node does for its own writes. */
import { findCatchUp } from './cluster/cluster-queries.js';
import { collect } from './collector/collect.js';
import type { Collection, CollectionCounters } from './collector/collection.js';
import { emptyTrash } from './collector/empty-trash.js';
import { lifetimesBy } from './collector/lifetimes.js';
import { pruneWhenDue } from './collector/prune.js';
import { openRests, restsUntil } from './collector/rests.js';
import { sweep } from './collector/sweep.js';
import { markIntervalMs, type Continuity } from './cluster/continuity.js';
import type { Presence } from './cluster/leadership.js';
import type { ServerPool } from './database/pool.js';
import type { Config } from './config/config.js';
import type { Availability } from './database/availability.js';
import { isConnectionLoss } from './database/failures.js';
import { catchUpWhenDue } from './jobs/catch-up.js';
import { abortUploads } from './jobs/abort-uploads.js';
import { expireWrites, giveUpLostWrites } from './jobs/expire-writes.js';
import { runPeriodically, type Periodic } from './jobs/periodic.js';
import type { Journal } from './journal/write-entries.js';
import type { PullTimes } from './manifest/pull-times.js';
import type { Log } from './observe/log.js';
import { foldAll, forgetUnlimited } from './quota/fold-sizes.js';
import { unlimited } from './quota/quotas.js';
import { forgetDeletedManifests } from './undo/undo-queries.js';
import { backgroundScrub, type BackgroundOptions } from './scrub/background.js';
import { expireSessions } from './upload/session-queries.js';

export interface Jobs {
  poke(): void;
  stop(): Promise<unknown>;
}

export interface JobParts {
  readonly config: Config;
  readonly log: Log;
  readonly journal: Journal;
  /** For what takes transactions of more than one statement. */
  readonly pool: ServerPool;
  /** Undefined until the node has entered the cluster. */
  readonly presence: () => Presence | undefined;
  readonly continuity: Continuity;
  readonly availability: Availability;
  readonly collector: ServerPool;
  readonly counters: CollectionCounters;
  readonly pulls: PullTimes;
  readonly scrub: Pick<BackgroundOptions, 'pool' | 'hasher' | 'counters'>;
}

/** How often a store that is lost is looked for. */
const lostStoreMs = 1_000;
/** At once. */
const mostForgotten = 10_000;

/** What only the leader does is safe on several nodes, too; and nothing is deleted while the database may be behind the store. */
export function startJobs({
  config,
  log,
  journal,
  pool,
  presence,
  continuity,
  availability,
  collector,
  counters,
  pulls,
  scrub: scrubParts,
}: JobParts): Jobs {
  const jobs: Periodic[] = [];
  const ended = new AbortController();
  const start = (name: string, intervalMs: number, work: () => Promise<unknown>): void => {
    const job = runPeriodically(
      intervalMs,
      async () => void (await work()),
      (error) => {
        if (availability.degraded || continuity.isStoreLost) return;
        // The line that the database is away comes with it, or has to come yet.
        log[isConnectionLoss(error) ? 'warn' : 'error']({ err: error, job: name }, 'a job failed');
      },
    );
    job.poke();
    jobs.push(job);
  };
  const startWhile = (may: () => boolean | Promise<boolean>, name: string, intervalMs: number, work: () => Promise<unknown>): void =>
    start(name, intervalMs, async () => void ((await may()) && (await work())));
  const writable = (): boolean => continuity.obstacle === undefined && !availability.degraded;
  const leads = (): boolean => writable() && presence()?.isLeader === true;
  const mayDelete = async (): Promise<boolean> => leads() && (await findCatchUp(journal.writes)) === undefined;
  const onError = (error: unknown): void => log.error({ err: error }, 'a pending write could not be ended');
  const ageSeconds = config.uploads.expire_after / 1000;
  start('generation', markIntervalMs, () => continuity.refresh());
  // The job above tells of failures.
  startWhile(
    () => continuity.isStoreLost,
    'look for the store',
    lostStoreMs,
    () => continuity.refresh().catch(() => undefined),
  );
  startWhile(writable, 'give up lost writes', 15_000, () => giveUpLostWrites(journal));
  startWhile(leads, 'high water', 60_000, () => continuity.recordHighWater());
  startWhile(leads, 'expire pending writes', 5_000, () => expireWrites(journal, onError));
  startWhile(mayDelete, 'expire uploads', Math.min(60_000, config.uploads.expire_after), () =>
    expireSessions(journal.writes, journal.node.id, ageSeconds),
  );
  startWhile(mayDelete, 'abort uploads', 5_000, () => abortUploads(journal));
  startWhile(writable, 'write pull times', 60_000, () => pulls.write(journal.writes));
  const collection: Collection = {
    pool: collector,
    store: journal.store,
    node: journal.node,
    lifetimesOf: lifetimesBy(config),
    batch: config.gc.batch,
    delayMs: config.gc.delay,
    obstacle: () => (ended.signal.aborted ? 'this node stops' : leads() ? undefined : 'this node does not lead'),
    refresh: () => continuity.refresh(),
    rest: openRests(collector, restsUntil(ended.signal)),
    counters,
  };
  startWhile(leads, 'empty trash', 5_000, () => emptyTrash(collection));
  start('collect', config.gc.interval, async () => {
    if (leads()) await collect(collection);
    else counters.hindrance = undefined;
  });
  startWhile(leads, 'forget deleted manifests', config.gc.interval, () => forgetDeletedManifests(journal.writes, mostForgotten));
  startWhile(
    () => leads() && journal.quotas !== undefined,
    'fold sizes',
    5_000,
    () => foldAll(journal.writes),
  );
  startWhile(leads, 'forget sizes', 600_000, () => forgetUnlimited(journal.writes, journal.quotas?.settings ?? unlimited));
  startWhile(leads, 'prune', config.gc.interval, () => pruneWhenDue(collection));
  startWhile(leads, 'sweep', 3_600_000, () =>
    sweep(collection, (uuid, link) => log.warn({ uuid, link }, 'the store has a link to data that the database does not know')),
  );
  const { enabled, cycle: cycleMs, bandwidth: bytesPerSecond } = config.scrub;
  const scrub = backgroundScrub({ ...scrubParts, journal, log, cycleMs, bytesPerSecond, mayGoOn: leads });
  startWhile(mayDelete, 'heal damaged blobs', 5_000, () => scrub.heal());
  startWhile(mayDelete, 'look at damaged blobs', Math.min(60_000, cycleMs), () => scrub.lookAgain());
  if (enabled) startWhile(mayDelete, 'scrub', Math.min(60_000, cycleMs), () => scrub.run());
  const told = (level: 'info' | 'warn', line: string): void => log[level](line);
  startWhile(leads, 'catch up', 5_000, () => catchUpWhenDue({ journal, pool, mayGoOn: leads, signal: ended.signal, log: told }));
  return {
    poke: () => jobs.forEach((job) => job.poke()),
    async stop() {
      ended.abort();
      scrub.stop();
      await Promise.all(jobs.map((job) => job.stop()));
    },
  };
}
