// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { ServerPool } from '../database/pool.js';
import type { BlobStore } from '../storage/blob-store.js';
import type { Lifetimes } from './lifetimes.js';
import type { Rest } from './rests.js';

/** What collecting needs. */
export interface Collection {
  /** The collector's own connections (`Database.collector`). */
  readonly pool: ServerPool;
  readonly store: BlobStore;
  readonly node: { readonly id: string };
  readonly lifetimesOf: (repository: string) => Lifetimes;
  /** Queue rows in one transaction. */
  readonly batch: number;
  readonly delayMs: number;
  /** Why this node may not collect now, beside what the database tells; asked before each batch. */
  readonly obstacle: () => string | undefined;
  /** Reads the generation in the store again; asked before anything is deleted from it, since the database may be one that another has replaced. */
  readonly refresh: () => Promise<unknown>;
  /** Between batches, for who collects beside clients. */
  readonly rest?: Rest | undefined;
  readonly counters: CollectionCounters;
}

/** Totals since the process began. */
export interface CollectionCounters {
  manifests: number;
  links: number;
  blobs: number;
  /** Objects that were deleted from the store, entries among them. */
  objects: number;
  failedObjects: number;
  /** Data objects that were collected and are gone from the store, and their bytes. */
  dataObjects: number;
  dataBytes: number;
  /** Rows that a push held, which are looked at again a little later. */
  skippedLocked: number;
  /** Batches that were given up because they waited for a push. */
  yielded: number;
  orphans: number;
  /** Old entries of tags and old deletions that were pruned. */
  records: number;
  /** Rows of the queues that were dealt with. */
  looked: number;
  rounds: number;
  roundsMs: number;
  lastRoundMs: number;
  /** Why nothing is collected now. */
  hindrance: string | undefined;
}

export function newCounters(): CollectionCounters {
  return {
    manifests: 0,
    links: 0,
    blobs: 0,
    objects: 0,
    failedObjects: 0,
    dataObjects: 0,
    dataBytes: 0,
    skippedLocked: 0,
    yielded: 0,
    orphans: 0,
    records: 0,
    looked: 0,
    rounds: 0,
    roundsMs: 0,
    lastRoundMs: 0,
    hindrance: undefined,
  };
}

/** How long a row that a push held is left alone. */
export function postponeMs(delayMs: number): number {
  return Math.min(60_000, delayMs / 10);
}
