// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Log } from '../observe/log.js';
import { listDamagedUnread } from './blob-queries.js';
import { checkBlob } from './check-blobs.js';
import type { DataId } from './damage-queries.js';
import { healBlobs } from './heal-blobs.js';
import { Pace } from './pace.js';
import { scrubDue } from './scrub.js';
import { found, type ScrubFinding, type Scrubbing } from './scrubbing.js';

export interface BackgroundOptions extends Pick<Scrubbing, 'journal' | 'pool' | 'hasher' | 'counters'> {
  readonly cycleMs: number;
  readonly bytesPerSecond: number;
  readonly log: Log;
  /** Asked between two objects. */
  readonly mayGoOn: () => boolean;
}

export interface BackgroundScrub {
  /** Does what is due. */
  run(): Promise<void>;
  /** Ends what was found damaged and has been pushed again. */
  heal(): Promise<void>;
  /** Reads damaged data whose objects have come back: a store may have lost them for a while only. */
  lookAgain(): Promise<void>;
  /** A run that is going on ends at the next object. */
  stop(): void;
}

const levels = { damaged: 'error', reported: 'error', repaired: 'warn', healed: 'info' } as const;

/** Objects that are asked for at a time. */
const mostLooks = 1_000;

export function backgroundScrub({ log, cycleMs, bytesPerSecond, mayGoOn, ...parts }: BackgroundOptions): BackgroundScrub {
  const ending = new AbortController();
  const pace = new Pace(bytesPerSecond, ending.signal, mayGoOn);
  // Once told is enough.
  const onFinding = ({ key, reason, outcome, known }: ScrubFinding): void => {
    if (known !== true) log[levels[outcome]]({ key, outcome }, `scrub: ${reason}`);
  };
  const scrubbing: Scrubbing = { ...parts, pace, atOnce: 1, onFinding };
  const { store, writes } = parts.journal;
  let last: DataId | undefined;
  const lookAtDamaged = async (): Promise<void> => {
    const blobs = await listDamagedUnread(writes, last, mostLooks);
    last = blobs.length < mostLooks ? undefined : blobs.at(-1);
    for (const blob of blobs) if ((await store.size(blob.key)) === blob.size) await checkBlob(scrubbing, blob);
  };
  return {
    run: () => untilStopped(scrubDue(scrubbing, cycleMs)),
    lookAgain: () => untilStopped(lookAtDamaged()),
    heal: () => healBlobs(parts.journal, (finding) => found(scrubbing, finding)),
    stop: () => ending.abort(),
  };
}

async function untilStopped(work: Promise<void>): Promise<void> {
  try {
    await work;
  } catch (error) {
    if ((error as Error).name !== 'AbortError') throw error;
  }
}
