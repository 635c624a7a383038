// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * The collector, worked by hand beside the nodes: one phase at a time, in batches of any size, slowed down at its named places, or ended there as if its process had died;
 * and a store that fails to delete some of what it is told to.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import type * as collectModule from '../../src/collector/collect.js';
import type * as collectLinksModule from '../../src/collector/collect-links.js';
import type * as collectManifestsModule from '../../src/collector/collect-manifests.js';
import type * as collectionModule from '../../src/collector/collection.js';
import type * as emptyTrashModule from '../../src/collector/empty-trash.js';
import type * as gateQueriesModule from '../../src/collector/gate-queries.js';
import type * as lifetimesModule from '../../src/collector/lifetimes.js';
import type * as sweepModule from '../../src/collector/sweep.js';
import type * as openPartsModule from '../../src/commands/open-parts.js';
import type * as withJournalModule from '../../src/commands/with-journal.js';
import type * as configModule from '../../src/config/config.js';
import type * as failuresModule from '../../src/database/failures.js';
import type * as pausePointsModule from '../../src/database/pause-points.js';
import type * as nodeModule from '../../src/node.js';
import type * as blobStoreModule from '../../src/storage/blob-store.js';
import type { Collection, CollectionCounters } from '../../src/collector/collection.js';
import type { BlobStore } from '../../src/storage/blob-store.js';
import type { Random } from '../drills/random.js';
import { built } from '../support/program.js';

const { collect } = await built<typeof collectModule>('collector/collect.js');
const { collectLinks } = await built<typeof collectLinksModule>('collector/collect-links.js');
const { collectManifests } = await built<typeof collectManifestsModule>('collector/collect-manifests.js');
const { newCounters } = await built<typeof collectionModule>('collector/collection.js');
const { emptyTrash } = await built<typeof emptyTrashModule>('collector/empty-trash.js');
const { findHindrance } = await built<typeof gateQueriesModule>('collector/gate-queries.js');
const { lifetimesBy } = await built<typeof lifetimesModule>('collector/lifetimes.js');
const { sweep } = await built<typeof sweepModule>('collector/sweep.js');
const { openRegistry } = await built<typeof openPartsModule>('commands/open-parts.js');
const { withJournal } = await built<typeof withJournalModule>('commands/with-journal.js');
const { loadConfig } = await built<typeof configModule>('config/config.js');
const { isTransient } = await built<typeof failuresModule>('database/failures.js');
const { pausePoints } = await built<typeof pausePointsModule>('database/pause-points.js');
const { version } = await built<typeof nodeModule>('node.js');
const { UndeletedObjects } = await built<typeof blobStoreModule>('storage/blob-store.js');

export const phases = ['manifests', 'links', 'trash', 'round'] as const;
export type Phase = (typeof phases)[number];

class Died extends Error {}

/** At each named place that the running phase comes to. */
const atPlace = new AsyncLocalStorage<() => Promise<void>>();

export class HandCollector {
  readonly counters: CollectionCounters;
  readonly deaths: { count: number };
  private readonly collection: Collection;
  private readonly ended: () => Promise<unknown>;

  private constructor(collection: Omit<Collection, 'counters'>, ended: () => Promise<unknown>, before: HandCollector | undefined) {
    this.counters = before?.counters ?? newCounters();
    this.deaths = before?.deaths ?? { count: 0 };
    this.collection = { ...collection, counters: this.counters };
    this.ended = ended;
  }

  /** As `ha-registry gc --now` joins the nodes. Counts on where the one before ended. */
  static async open(configFile: string, root: string, before: HandCollector | undefined): Promise<HandCollector> {
    pausePoints.reached = () => atPlace.getStore()?.();
    const config = loadConfig(configFile, { root });
    const parts = await openRegistry(config);
    return new Promise((resolve, reject) => {
      const work = withJournal(parts, version, ({ node }, continuity) => {
        const collection = {
          pool: parts.database.collector,
          store: parts.store,
          node,
          lifetimesOf: lifetimesBy(config),
          batch: config.gc.batch,
          delayMs: config.gc.delay,
          obstacle: () => continuity.obstacle,
          refresh: () => continuity.refresh(),
        };
        return new Promise<void>((end) => {
          resolve(
            new HandCollector(
              collection,
              async () => {
                end();
                await work;
                await parts.close();
              },
              before,
            ),
          );
        });
      });
      work.catch(reject);
    });
  }

  /** One phase among whatever else goes on. What the collector yields to a push, and a death, are no failures. */
  async perform(phase: Phase, random: Random): Promise<void> {
    const batch = random.pick([1, 3, 200]);
    let untilDeath = random.chance(0.35) ? random.between(1, 12) : Infinity;
    const slowness = random.pick([0, 0, 5, 40]);
    const collection = {
      ...this.collection,
      batch,
      store: random.chance(0.3) ? failing(this.collection.store, random) : this.collection.store,
    };
    const place = async (): Promise<void> => {
      if (--untilDeath === 0) throw new Died();
      if (slowness > 0) await sleep(random.between(0, slowness));
    };
    await this.collection.refresh();
    try {
      await atPlace.run(place, async () => {
        if (phase === 'trash') await emptyTrash(collection);
        else if (phase === 'round') await collect(collection);
        else if ((await findHindrance(collection.pool)) === undefined)
          await (phase === 'manifests' ? collectManifests : collectLinks)(collection, batch);
      });
    } catch (error) {
      if (error instanceof Died) this.deaths.count++;
      else if (!isTransient(error)) throw error;
    }
  }

  /** A whole round. Returns why nothing was collected, if so. */
  async round(): Promise<string | undefined> {
    await this.collection.refresh();
    await collect(this.collection);
    return this.counters.hindrance;
  }

  emptyTrash(): Promise<void> {
    return emptyTrash(this.collection);
  }

  sweep(): Promise<void> {
    return sweep(this.collection, () => undefined);
  }

  async close(): Promise<void> {
    await this.ended();
  }
}

/** Some of the objects stay, as S3 tells it per key. */
function failing(store: BlobStore, random: Random): BlobStore {
  return new Proxy(store, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name);
      if (name !== 'delete') return typeof value === 'function' ? (value.bind(target) as unknown) : value;
      return async (keys: readonly string[]): Promise<void> => {
        const spared = new Set(keys.filter(() => random.chance(0.5)));
        await target.delete(keys.filter((key) => !spared.has(key)));
        if (spared.size > 0) throw new UndeletedObjects([...spared], new Error('503 SlowDown'));
      };
    },
  });
}
