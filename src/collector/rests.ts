// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { setTimeout as sleep } from 'node:timers/promises';
import type { Queryer } from '../database/pool.js';

/** Resolves when the next batch may begin, after one that took so long. */
export type Rest = (workedMs: number) => Promise<void>;

export interface Clock {
  readonly now: () => number;
  readonly pause: (ms: number) => Promise<unknown>;
}

/** Collection takes half of the time; while anybody pushes to any node, so little of it that a push takes no longer (bench/gc-drain.ts). */
const idleTimes = 1;
const busyTimes = 15;
const busyForMs = 5_000;
const mostMs = 2_000;

/** Ends early when the node does. */
export function restsUntil(signal: AbortSignal): Clock {
  return { now: () => performance.now(), pause: (ms) => sleep(ms, undefined, { signal }).catch(() => undefined) };
}

export function openRests(queryer: Queryer, { now, pause }: Clock): Rest {
  let seen: string | undefined;
  let movedAt = now();
  return async (workedMs) => {
    // Every push draws a sequence, at whatever node; no collection does.
    const { rows } = await queryer.query<{ value: string }>('SELECT last_value AS value FROM entry_sequence');
    if (rows[0]?.value !== seen) movedAt = now();
    seen = rows[0]?.value;
    const times = now() - movedAt < busyForMs ? busyTimes : idleTimes;
    await pause(Math.min(workedMs * times, mostMs));
  };
}
