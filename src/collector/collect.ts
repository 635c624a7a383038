// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { setTimeout as delay } from 'node:timers/promises';
import { isTransient } from '../database/failures.js';
import { collectLinks } from './collect-links.js';
import { collectManifests } from './collect-manifests.js';
import type { Collection } from './collection.js';
import { emptyTrash } from './empty-trash.js';
import { findHindrance, refreshStatistics } from './gate-queries.js';
import { noteOptionalBlobs } from './note-optional-blobs.js';
import { isOptionalWalkDone } from './optional-walk-queries.js';

/** A batch that waited for a push was rolled back; after so many in a row the rest waits for the next round. */
const mostYields = 10;
const pauseMs = 100;
/** How often it is asked whether plans are made for tables of another size. */
const statisticsMs = 2_000;

/**
 * One round: manifests, then what only they referred to, then the trash, until nothing more is due. Safe on several nodes at once: each takes rows that no other
 * holds. `onProgress` is told after each batch.
 */
export async function collect(collection: Collection, onProgress: () => void = () => undefined): Promise<void> {
  const since = performance.now();
  await collectAll(collection, noteOptionalBlobs, onProgress);
  await collectAll(collection, collectManifests, onProgress);
  if (await isOptionalWalkDone(collection.pool)) await collectAll(collection, collectLinks, onProgress);
  await emptyTrash(collection);
  onProgress();
  collection.counters.rounds++;
  collection.counters.lastRoundMs = performance.now() - since;
  collection.counters.roundsMs += collection.counters.lastRoundMs;
}

async function collectAll(
  collection: Collection,
  collectBatch: (collection: Collection, limit: number) => Promise<number>,
  onProgress: () => void,
): Promise<void> {
  const { pool, counters, batch, obstacle, rest } = collection;
  let limit = batch;
  let refreshed = -Infinity;
  for (let yields = 0; yields < mostYields;) {
    counters.hindrance = obstacle() ?? (await findHindrance(pool));
    if (counters.hindrance !== undefined) return;
    try {
      if (performance.now() - refreshed > statisticsMs) {
        await refreshStatistics(pool);
        refreshed = performance.now();
      }
      const since = performance.now();
      const done = await collectBatch(collection, limit);
      onProgress();
      if (done < limit) return;
      await rest?.(performance.now() - since);
      yields = 0;
      limit = Math.min(batch, limit * 2);
    } catch (error) {
      if (!isTransient(error)) throw error;
      counters.yielded++;
      yields++;
      limit = Math.max(1, limit >> 1);
      await delay(Math.random() * pauseMs * yields);
    }
  }
}
