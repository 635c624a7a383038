// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** How much of something each of many may do in a time, with the memory of it bounded. */

export interface Rate {
  readonly count: number;
  readonly perMs: number;
  /** How many may come at once after a pause. */
  readonly burst: number;
}

/** Whoever was seen longest ago is forgotten, and may do all of it again. */
const mostKeys = 50_000;

/** Token buckets, each kept as the one time at which it is full again (GCRA). */
export class RateLimiter {
  private readonly fullAt = new Map<string, number>();
  private readonly intervalMs: number;
  private readonly depthMs: number;
  private readonly now: () => number;

  constructor({ count, perMs, burst }: Rate, now: () => number) {
    this.intervalMs = perMs / count;
    this.depthMs = this.intervalMs * burst;
    this.now = now;
  }

  /** Takes one if there is one: 0, or the milliseconds until there is. hot: two look-ups in a map. */
  take(key: string): number {
    const waitMs = this.wait(key);
    if (waitMs === 0) this.spend(key);
    return waitMs;
  }

  /** The milliseconds until one could be taken. */
  wait(key: string): number {
    const waitMs = this.fullFrom(key) + this.intervalMs - this.depthMs - this.now();
    // Fractions do not add up to a whole.
    return waitMs < 0.001 ? 0 : waitMs;
  }

  /** Takes one also where there is none: those that were under way at the same time do not add up to more than an empty bucket. */
  spend(key: string): void {
    const fullAt = Math.min(this.fullFrom(key) + this.intervalMs, this.now() + this.depthMs);
    this.fullAt.delete(key);
    this.fullAt.set(key, fullAt);
    if (this.fullAt.size > mostKeys) this.fullAt.delete(this.fullAt.keys().next().value ?? '');
  }

  private fullFrom(key: string): number {
    return Math.max(this.fullAt.get(key) ?? 0, this.now());
  }
}
