// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Log } from '../observe/log.js';
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
  /** A run that is going on ends at the next object. */
  stop(): void;
}

const levels = { damaged: 'error', reported: 'error', repaired: 'warn', healed: 'info' } as const;

export function backgroundScrub({ log, cycleMs, bytesPerSecond, mayGoOn, ...parts }: BackgroundOptions): BackgroundScrub {
  const ending = new AbortController();
  const pace = new Pace(bytesPerSecond, ending.signal, mayGoOn);
  // Once told is enough.
  const onFinding = ({ key, reason, outcome, known }: ScrubFinding): void => {
    if (known !== true) log[levels[outcome]]({ key, outcome }, `scrub: ${reason}`);
  };
  const scrubbing: Scrubbing = { ...parts, pace, atOnce: 1, onFinding };
  return {
    async run() {
      try {
        await scrubDue(scrubbing, cycleMs);
      } catch (error) {
        if ((error as Error).name !== 'AbortError') throw error;
      }
    },
    heal: () => healBlobs(parts.journal, (finding) => found(scrubbing, finding)),
    stop: () => ending.abort(),
  };
}
