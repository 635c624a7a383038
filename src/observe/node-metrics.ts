// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What a node's parts tell of themselves when somebody scrapes. */
import type { Availability } from '../database/availability.js';
import type { WatchBatches } from '../database/batched-read.js';
import type { ManifestCache } from '../manifest/manifest-cache.js';
import type { BufferPool } from '../upload/buffer-pool.js';
import type { HashClock } from '../worker/hash-clock.js';
import type { WorkerPool } from '../worker/worker-pool.js';
import type { Labels, Metrics } from './metrics.js';
import type { Tracer } from './tracer.js';

export function countBuild(metrics: Metrics, labels: Labels): void {
  metrics.gauge('registry_build_info', 'Always 1; what runs here is in the labels.', () => [{ labels, value: 1 }]);
}

export function countHashing(metrics: Metrics, clock: HashClock, workers: WorkerPool): void {
  metrics.count('registry_hash_seconds_total', 'Time that threads have spent hashing.', () => clock.seconds);
  metrics.count('registry_hash_bytes_total', 'Bytes that were hashed; divided by the time, the speed of one thread.', () => clock.bytes);
  metrics.gauge('registry_worker_tasks_waiting', 'Parts that wait for a worker thread.', () => workers.waiting);
}

export function countUploads(metrics: Metrics, buffers: BufferPool, progress: { readonly active: number }): void {
  metrics.gauge('registry_uploads_in_progress', 'Uploads whose bytes this node is receiving or storing.', () => progress.active);
  metrics.gauge(
    'registry_upload_buffer_bytes',
    'Memory of the upload buffers: the budget, what of it is allocated, and what of that is free.',
    () => {
      const { budgetBytes, allocatedBytes, freeBytes } = buffers.usage;
      return Object.entries({ budget: budgetBytes, allocated: allocatedBytes, free: freeBytes }).map(([state, value]) => ({
        labels: { state },
        value,
      }));
    },
  );
  metrics.gauge(
    'registry_upload_buffer_waiting',
    'Uploads that wait for a buffer, and are not read from meanwhile.',
    () => buffers.usage.waiting,
  );
}

export function countManifestCache(metrics: Metrics, cache: ManifestCache): void {
  metrics.count('registry_manifest_cache_lookups_total', 'Look-ups of the bytes of manifests over 4 KiB.', () => [
    { labels: { result: 'hit' }, value: cache.hits },
    { labels: { result: 'miss' }, value: cache.misses },
  ]);
  metrics.gauge('registry_manifest_cache_bytes', 'Bytes of manifests in memory.', () => cache.heldBytes);
}

export function countAvailability(metrics: Metrics, availability: Availability): void {
  metrics.gauge(
    'registry_degraded',
    '1 while the database is not asked: pulls are served from the store, and nothing can be pushed.',
    () => (availability.degraded ? 1 : 0),
  );
  metrics.count('registry_database_lost_total', 'How often the database was lost.', () => availability.losses);
}

export function countStore(metrics: Metrics, isLost: () => boolean): void {
  metrics.gauge('registry_store_lost', '1 while the store that answers is not the one that it was: nothing can be pushed.', () =>
    isLost() ? 1 : 0,
  );
}

/** Whether this node leads. */
export function countLeadership(metrics: Metrics, leads: () => boolean): void {
  metrics.gauge('registry_leader', '1 on the node that leads.', () => (leads() ? 1 : 0));
}

/** How many requests share a query. */
export function countBatches(metrics: Metrics, tracer: Tracer | undefined): WatchBatches {
  const keys = metrics.histogram(
    'registry_batched_read_keys',
    'Look-ups that share one query of the database.',
    ['read'],
    [1, 2, 4, 8, 16, 32, 64, 128, 256],
  );
  return (read) => {
    const ofRead = keys.with(read);
    const attributes = { 'registry.read': read };
    return {
      began: (count) => ofRead.observe(count),
      around: tracer === undefined ? undefined : (find) => tracer.span('metadata batch', attributes, find),
    };
  };
}
