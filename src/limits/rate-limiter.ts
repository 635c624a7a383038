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
    const fullAt = this.fullFrom(key) + this.intervalMs;
    const waitMs = fullAt - this.depthMs - this.now();
    // Fractions do not add up to a whole.
    if (waitMs >= 0.001) return waitMs;
    this.fullAt.delete(key);
    this.fullAt.set(key, fullAt);
    if (this.fullAt.size > mostKeys) this.fullAt.delete(this.fullAt.keys().next().value ?? '');
    return 0;
  }

  /** One that was taken, and not for what is counted. */
  giveBack(key: string): void {
    const fullAt = this.fullAt.get(key);
    if (fullAt !== undefined) this.fullAt.set(key, fullAt - this.intervalMs);
  }

  private fullFrom(key: string): number {
    return Math.max(this.fullAt.get(key) ?? 0, this.now());
  }
}
