// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** A walk lives long enough with each batch that V8 takes it for old, and what is old piles up to a hundred megabytes before V8 looks at it for the first time. */
import { getHeapStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** Twice of what a walk holds with manifests of a kilobyte. */
const wantedBytes = 64 * 1024 * 1024;

/** Told between two batches: the heap of a walk over much becomes hardly larger than that of one over little. */
export function openBoundedHeap(): () => void {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  let limit = wantedBytes;
  return () => {
    if (getHeapStatistics().used_heap_size < limit) return;
    collect();
    limit = Math.max(wantedBytes, 1.5 * getHeapStatistics().used_heap_size);
  };
}
