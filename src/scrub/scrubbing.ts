// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { ServerPool } from '../database/pool.js';
import type { Journal } from '../journal/write-entries.js';
import type { Hasher } from '../worker/hash.js';
import type { Pace } from './pace.js';

/** What a scrub works with. */
export interface Scrubbing {
  readonly journal: Journal;
  readonly pool: ServerPool;
  readonly hasher: Hasher;
  readonly pace: Pace;
  readonly counters: ScrubCounters;
  /** Data objects that are read side by side. */
  readonly atOnce: number;
  /** Told of each as it is found. */
  onFinding(finding: ScrubFinding): void;
}

export interface ScrubFinding {
  /** Of the object. */
  readonly key: string;
  readonly reason: string;
  readonly outcome: ScrubOutcome;
  /** Found before, and still so. */
  readonly known?: boolean;
}

/**
 * `damaged`: not served any more, and healed by a push. `repaired`: written again, or given back to the database. `healed`: right again. `reported`: for a person to
 * look at.
 */
export type ScrubOutcome = 'damaged' | 'repaired' | 'healed' | 'reported';

/** Only ever go up. */
export interface ScrubCounters {
  blobs: number;
  bytes: number;
  manifests: number;
  entries: number;
  damaged: number;
  repaired: number;
  healed: number;
  reported: number;
}

export function newScrubCounters(): ScrubCounters {
  return { blobs: 0, bytes: 0, manifests: 0, entries: 0, damaged: 0, repaired: 0, healed: 0, reported: 0 };
}

/** Counts it and tells it. What was known before is told, not counted. */
export function found(scrubbing: Scrubbing, finding: ScrubFinding): void {
  if (finding.known !== true) scrubbing.counters[finding.outcome]++;
  scrubbing.onFinding(finding);
}
