// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Restores the index from the store alone. */
import type { Client, PoolClient } from 'pg';
import type { Database } from '../database/pool.js';
import { referrerDescriptor } from '../manifest/push-manifest.js';
import { batchLookups, type Lookups } from '../storage/batch-lookups.js';
import type { BlobStore } from '../storage/blob-store.js';
import { readDamageMarks } from '../storage/damage-marks.js';
import { entryKey, linkTemplate, repositoriesPrefix } from '../storage/keys.js';
import { walkKeys } from '../storage/walk-keys.js';
import { readGeneration } from '../storage/cluster-marks.js';
import { claimStore, readOwner } from '../storage/owner.js';
import { requireOwner } from '../storage/store-lost.js';
import { openBoundedHeap } from './bounded-heap.js';
import { connectLoader, holdClaim, RebuildRefused } from './claim.js';
import { groupEntries, type EntryGroup } from './entry-groups.js';
import { readGroup, type DataChecks, type Finding, type GroupReading, type VerifyData } from './read-group.js';
import {
  beginRebuild,
  drawSequence,
  finishRebuild,
  forgetProgress,
  jumpSequence,
  listProgress,
  listSecondCopies,
  lockRebuild,
  replaceSecondCopy,
  restoreArrivedBlobs,
  unlockRebuild,
  type Counts,
  type DatabaseState,
  type ShardProgress,
} from './rebuild-queries.js';
import { recordedSequence } from './recorded-sequence.js';
import { restoreBatch, writeMissingReferrers, type Batch } from './restore-batch.js';

export interface RebuildOptions {
  /** Throws away what the database holds, also a rebuild that was begun. */
  readonly replace: boolean;
  /** Re-hashes data; manifests are always. */
  readonly verify: VerifyData | undefined;
  readonly onProgress: (progress: RebuildProgress) => void;
  /** Told of each as it is found. */
  readonly onFinding: (finding: Finding) => void;
}

type RunOptions = RebuildOptions & {
  /** Throws where the store has gone since the beginning. */
  readonly requireStore: () => Promise<void>;
};

export interface RebuildProgress extends Counts {
  readonly parts: { readonly done: number; readonly all: number };
  readonly findings: number;
}

/** First characters of repository names: each is a part of the store that is walked, and resumed, on its own. */
const shards = '0123456789abcdefghijklmnopqrstuvwxyz'.split('');
/** Walks side by side. Each holds up to two batches, which bounds the memory. */
const shardsAtOnce = 4;
/** Prefixes whose objects one walk reads side by side: a request to a worker's worth, fewer where manifests are large. */
const groupsAtOnce = { most: 256, least: 16 };
/** One transaction: long enough that its round trips do not count, short enough to be said again after a crash. */
const batchGroups = 600;
const batchBytes = 4 * 1024 * 1024;
/** A node takes sequences ahead in blocks of this size; with no block recorded in the store, one is assumed to be out. */
const sequenceMargin = 10_000n;

/** Rebuilds a database that is empty (or whose rebuild was interrupted). Throws RebuildRefused. */
export async function rebuild(
  { database, store }: { readonly database: Database; readonly store: BlobStore },
  options: RebuildOptions,
): Promise<RebuildProgress> {
  const pool = database.writes;
  const holder = await pool.connect();
  try {
    if (!(await lockRebuild(holder))) throw new RebuildRefused('another rebuild of this database is going on');
    const owner = await readOwner(store);
    const mayBegin = (state: DatabaseState): void => {
      refuseUnlessIdle(state, options.replace);
      if (owner === undefined && state.knowsStore && !state.isEmpty) throw new RebuildRefused(withoutOwner(store));
    };
    const claim = await beginRebuild(holder, mayBegin, options.replace);
    const checks = { marks: await readDamageMarks(store), verify: options.verify };
    const requireStore = async (): Promise<void> => {
      if (owner !== undefined) await requireOwner(store);
    };
    const run = new Run(database, store, claim, checks, { ...options, requireStore }, await listProgress(pool));
    await run.walk();
    await requireStore();
    await finish(holder, store);
    return run.progress();
  } finally {
    await unlockRebuild(holder).catch(() => undefined);
    holder.release();
  }
}

function refuseUnlessIdle({ nodes, isEmpty, isRebuilding }: DatabaseState, replace: boolean): void {
  if (nodes.length > 0) {
    throw new RebuildRefused(
      `a node is running on this database, or was less than a minute ago (${nodes.join(', ')}): a rebuild needs it for itself; stop all nodes first` +
        ' (`rebuild --catch-up` works beside them)',
    );
  }
  if (!isEmpty && !isRebuilding && !replace) {
    throw new RebuildRefused(
      'the database is not empty: `rebuild --catch-up` adopts what it lacks, `rebuild --replace` throws away what it holds and restores it from the store',
    );
  }
}

/** It would throw away what is known, for nothing. */
function withoutOwner({ location }: BlobStore): string {
  return (
    `the store ${location} has no owner, but the database goes with a store that has one: is it mounted, and the right one? ` +
    'Where its mark cluster/owner is lost for good, rebuild into an empty database'
  );
}

class Run {
  private findings = 0;
  private readonly boundHeap = openBoundedHeap();
  private readonly database: Database;
  private readonly store: BlobStore;
  private readonly lookups: Lookups;
  private readonly claim: string;
  private readonly checks: DataChecks;
  private readonly options: RunOptions;
  private readonly shards: Map<string, ShardProgress>;

  constructor(
    database: Database,
    store: BlobStore,
    claim: string,
    checks: DataChecks,
    options: RunOptions,
    begun: ReadonlyMap<string, ShardProgress>,
  ) {
    this.database = database;
    this.store = store;
    this.lookups = batchLookups(store);
    this.claim = claim;
    this.checks = checks;
    this.options = options;
    this.shards = new Map(shards.map((shard) => [shard, begun.get(shard) ?? { position: '', done: false, counts: none }]));
  }

  async walk(): Promise<void> {
    const waiting = shards.filter((shard) => this.shards.get(shard)?.done === false);
    const worker = async (): Promise<void> => {
      const loader = await connectLoader(this.database);
      try {
        for (let shard = waiting.shift(); shard !== undefined; shard = waiting.shift()) await this.walkShard(loader, shard);
      } finally {
        // After a failure nobody begins another part.
        waiting.length = 0;
        await loader.end();
      }
    };
    const results = await Promise.allSettled(Array.from({ length: shardsAtOnce }, worker));
    for (const result of results) if (result.status === 'rejected') throw result.reason;
  }

  private async restore(loader: Client, batch: Batch, written: readonly Finding[]): Promise<void> {
    const found = await restoreBatch(loader, this.claim, this.store, batch);
    this.shards.set(batch.shard, batch.progress);
    for (const finding of [...written, ...found]) {
      this.findings++;
      this.options.onFinding(finding);
    }
    this.options.onProgress(this.progress());
    this.boundHeap();
  }

  progress(): RebuildProgress {
    const all = [...this.shards.values()];
    const sum = (name: keyof Counts): number => all.reduce((total, { counts }) => total + counts[name], 0);
    return {
      repositories: sum('repositories'),
      links: sum('links'),
      manifests: sum('manifests'),
      tags: sum('tags'),
      parts: { done: all.filter(({ done }) => done).length, all: all.length },
      findings: this.findings,
    };
  }

  /** One batch is read from the store while the one before it goes into the index. */
  private async walkShard(loader: Client, shard: string): Promise<void> {
    const begun = this.shards.get(shard) as ShardProgress;
    let counts = begun.counts;
    let largestSequence = 0n;
    let lastRepository = /^repositories\/(.*?)\/_/.exec(begun.position)?.[1];
    let restoring: Promise<void> = Promise.resolve();
    const flush = async (groups: readonly EntryGroup[], readings: readonly GroupReading[], done: boolean): Promise<void> => {
      const repositories = groups.map(({ repository }) => repository).filter((name) => name !== '');
      const position = groups.at(-1)?.entries.at(-1)?.key ?? this.shards.get(shard)?.position ?? '';
      for (const { entries } of groups) for (const { sequence } of entries) if (sequence > largestSequence) largestSequence = sequence;
      let seen = 0;
      for (const name of repositories) {
        if (name !== lastRepository) seen++;
        lastRepository = name;
      }
      counts = addCounts(counts, readings, seen);
      const progress = { position, done, counts, largestSequence };
      const written = await writeMissingReferrers(this.lookups, readings, async (key, restored) => {
        await holdClaim(this.database.writes, this.claim);
        await this.store.put(key, Buffer.from(JSON.stringify(referrerDescriptor(restored))));
      });
      // What is missing was read before this.
      await this.options.requireStore();
      await restoring;
      restoring = this.restore(loader, { readings, repositories, shard, progress }, written);
      // Awaited below; until then it must not count as unhandled.
      restoring.catch(() => undefined);
    };
    let groups: EntryGroup[] = [];
    let readings: GroupReading[] = [];
    let bytes = 0;
    const keys = walkKeys(this.store, repositoriesPrefix + shard, begun.position);
    let atOnce = groupsAtOnce.most;
    const read = async (): Promise<void> => {
      const unread = groups.slice(readings.length);
      const before = bytes;
      for (const reading of await Promise.all(unread.map((group) => readGroup(this.lookups, group, this.checks)))) {
        readings.push(reading);
        bytes += reading.manifest?.bytes.byteLength ?? 0;
      }
      const fitting = (unread.length * batchBytes) / Math.max(1, bytes - before);
      atOnce = Math.min(groupsAtOnce.most, Math.max(groupsAtOnce.least, Math.floor(fitting)));
    };
    for await (const group of groupEntries(keys)) {
      groups.push(group);
      if (groups.length - readings.length < atOnce) continue;
      await read();
      if (groups.length < batchGroups && bytes < batchBytes) continue;
      await flush(groups, readings, false);
      [groups, readings, bytes] = [[], [], 0];
    }
    await read();
    await flush(groups, readings, true);
    await restoring;
  }
}

const none: Counts = { repositories: 0, links: 0, manifests: 0, tags: 0 };

function addCounts(counts: Counts, readings: readonly GroupReading[], repositories: number): Counts {
  const sum = { ...counts, repositories: counts.repositories + repositories };
  for (const { link, manifest, tag } of readings) {
    if (link !== undefined) sum.links++;
    if (manifest !== undefined) sum.manifests++;
    if (tag?.[0]?.digest !== undefined) sum.tags++;
  }
  return sum;
}

/** On the connection that holds the lock: while it lives no other rebuild begins. */
async function finish(holder: PoolClient, store: BlobStore): Promise<void> {
  await jumpSequence(holder, await recordedSequence(store), sequenceMargin);
  for (;;) {
    const copies = await listSecondCopies(holder, 100);
    if (copies.length === 0) break;
    for (const copy of copies) {
      const sequence = await drawSequence(holder);
      const { repository, digest, first } = copy;
      await store.put(entryKey(linkTemplate(repository, digest, first.uuid), sequence), Buffer.from(first.key ?? ''));
      await replaceSecondCopy(holder, copy, sequence);
      await restoreArrivedBlobs(holder, repository, digest);
    }
  }
  const owner = await readOwner(store);
  await holder.query('ANALYZE').catch(() => undefined);
  const clusterId = await finishRebuild(holder, owner?.cluster, (await readGeneration(store))?.generation ?? 0n);
  if (owner === undefined) await claimStore(store, { cluster: clusterId, store: clusterId });
  await forgetProgress(holder);
}
