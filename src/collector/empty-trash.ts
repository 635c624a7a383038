// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { pausePoints } from '../database/pause-points.js';
import { UndeletedObjects } from '../storage/blob-store.js';
import type { Collection } from './collection.js';
import { isComplete, refreshStatistics } from './gate-queries.js';
import { beginJob } from './sweep-queries.js';
import { advanceTrash, claimTrash, finishTrash, isTrashDue } from './trash-queries.js';

/** As many as S3 deletes in one call. */
const atOnce = 1000;
/** It reads all that waits, and what it finds waits for a delay then: there is no hurry. */
const advanceMs = 600_000;

/**
 * Deletes objects that no row names any more. Their keys can never be visible again, so doing it late, or twice, does no harm; what fails is tried again. Nothing is
 * checked but that this database is still the store's.
 */
export async function emptyTrash(collection: Collection): Promise<void> {
  const { pool, store, counters, delayMs, rest } = collection;
  await pausePoints.reached?.('gc.trash.begin');
  for (;;) {
    const since = performance.now();
    const due = await isTrashDue(pool);
    if (due && !(await mayDelete(collection))) return;
    const keys = due ? await claimTrash(pool, atOnce) : [];
    await pausePoints.reached?.('gc.trash.claimed');
    const left = new Set(await deleteObjects(store, keys));
    await pausePoints.reached?.('gc.trash.deleted');
    if (keys.length > 0) {
      // Where the store has gone everything counts as deleted: what was claimed is claimed again later.
      if (!(await mayDelete(collection))) return;
      const deleted = keys.filter((key) => !left.has(key));
      const { objects, bytes } = await finishTrash(pool, deleted, [...left]);
      counters.dataObjects += objects;
      counters.dataBytes += bytes;
      counters.objects += deleted.length;
      counters.failedObjects += left.size;
    }
    if (keys.length < atOnce) break;
    await refreshStatistics(pool);
    await rest?.(performance.now() - since);
  }
  if (await beginJob(pool, 'advance trash', `${Math.min(advanceMs, delayMs)} milliseconds`))
    while ((await advanceTrash(pool, atOnce)) === atOnce);
  await pausePoints.reached?.('gc.trash.advanced');
}

/** Also that this database is still the one that goes with the store: one that was replaced without noticing yet would delete what its successor holds. */
export async function mayDelete({ pool, obstacle, refresh }: Pick<Collection, 'pool' | 'obstacle' | 'refresh'>): Promise<boolean> {
  await refresh();
  return obstacle() === undefined && (await isComplete(pool));
}

/** Those that are left. */
async function deleteObjects(store: Collection['store'], keys: readonly string[]): Promise<readonly string[]> {
  if (keys.length === 0) return [];
  try {
    await store.delete(keys);
    return [];
  } catch (error) {
    return error instanceof UndeletedObjects ? error.keys : keys;
  }
}
