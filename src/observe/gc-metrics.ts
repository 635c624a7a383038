// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { CollectionCounters } from '../collector/collection.js';
import { findStatus, mostCounted, type CollectionStatus } from '../collector/status-queries.js';
import type { Queryer } from '../database/pool.js';
import type { Metrics } from './metrics.js';

/** However many scrape. */
const askEveryMs = 15_000;

/** What this node has collected, and what waits in the database, which every node tells the same. */
export function countCollection(metrics: Metrics, counters: CollectionCounters, reads: Queryer): void {
  let status: CollectionStatus | undefined;
  let askedMs = -Infinity;
  metrics.prepare(async () => {
    if (performance.now() - askedMs < askEveryMs) return;
    askedMs = performance.now();
    status = undefined;
    status = await findStatus(reads);
  });
  const told = (read: (status: CollectionStatus) => number) => () => (status === undefined ? undefined : read(status));

  metrics.gauge('registry_gc_queue_rows', `Rows that the collector will look at, due or not, counted up to ${mostCounted}.`, () =>
    status === undefined ? undefined : byKind({ manifest: status.manifests, link: status.links, blob: status.blobs }),
  );
  metrics.gauge(
    'registry_gc_queue_overdue_seconds',
    'By how much the oldest row that is due is overdue.',
    told(({ queueOverdueSeconds }) => queueOverdueSeconds),
  );
  metrics.gauge(
    'registry_gc_trash_overdue_seconds',
    'By how much the oldest object that may be deleted is overdue.',
    told(({ trashOverdueSeconds }) => trashOverdueSeconds),
  );
  metrics.gauge(
    'registry_gc_trash_bytes',
    'Bytes of blobs that were collected and wait for their deletion.',
    told(({ dataBytes }) => dataBytes),
  );
  metrics.gauge('registry_gc_hindered', 'Whether something keeps this node from collecting: 1 or 0.', () =>
    counters.hindrance === undefined ? 0 : 1,
  );
  metrics.count('registry_gc_collected_total', 'Rows that were collected.', () =>
    byKind({ manifest: counters.manifests, link: counters.links, blob: counters.blobs }),
  );
  metrics.count('registry_gc_deleted_objects_total', 'Objects that were deleted from the store.', () => counters.objects);
  metrics.count(
    'registry_gc_failed_deletions_total',
    'Objects that could not be deleted, and will be tried again.',
    () => counters.failedObjects,
  );
  metrics.count('registry_gc_reclaimed_bytes_total', 'Bytes of collected blobs that are gone from the store.', () => counters.dataBytes);
  metrics.count(
    'registry_gc_skipped_locked_total',
    'Rows that were left alone for a while, since a push held them.',
    () => counters.skippedLocked,
  );
  metrics.count('registry_gc_yielded_batches_total', 'Batches that were given up for a push.', () => counters.yielded);
  metrics.count('registry_gc_orphans_total', 'Data objects that nothing named.', () => counters.orphans);
  metrics.count('registry_gc_pruned_records_total', 'Old entries of tags and old deletions that were pruned.', () => counters.records);
  metrics.count('registry_gc_rounds_total', 'Rounds of the collector.', () => counters.rounds);
  metrics.count('registry_gc_round_seconds_total', 'Time that rounds took.', () => counters.roundsMs / 1000);
}

function byKind(values: Readonly<Record<string, number>>) {
  return Object.entries(values).map(([kind, value]) => ({ labels: { kind }, value }));
}
