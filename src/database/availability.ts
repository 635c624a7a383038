// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { DatabaseAway, isDatabaseAway, isTurnedAway } from './failures.js';
import type { Queryer } from './pool.js';

export interface AvailabilityOptions {
  /** Asks the database for anything; rejects when it cannot serve. */
  readonly probe: () => Promise<unknown>;
  /** Whether there is any connection to ask it on. */
  readonly isConnected?: () => boolean;
  /** It answers on the connections that there are, and takes no others. Told again when that has ended meanwhile. */
  onTurnedAway?(reason: string): void;
  /** The database is not asked from now on, because of `reason`. Told again when that becomes another. */
  onLost(reason: string): void;
  onRecovered(awayMs: number): void;
}

/** A client gives up after 5 s or more: a read that takes longer than this is answered from the store, which has the rest of that time. */
const readLimitMs = 2_000;
const tickMs = 250;
/** While nobody asks the database anything, this is how often it is looked for. */
const quietMs = 2_000;
/** A database that comes and goes is left alone for longer each time, up to the last of these, until it has stayed for `settledMs`. */
const holdsMs = [0, 500, 1_000, 2_000, 4_000] as const;
const settledMs = 30_000;

interface Ask {
  readonly since: number;
  readonly reject: (error: Error) => void;
}

/**
 * Whether the database can be asked: a circuit breaker. It opens when a probe fails, or when a read gets no answer in time; everything that waits for the database
 * then fails at once with `DatabaseAway`, and so does what comes later, until a probe succeeds. One failed query alone only causes a probe.
 */
export class Availability {
  /** hot: looked at by every pull. True while the database must not be asked. */
  degraded = false;
  /** How often it was lost. */
  losses = 0;
  private readonly options: AvailabilityOptions;
  private readonly reads = new Set<Ask>();
  private readonly writes = new Set<Ask>();
  private timer: NodeJS.Timeout | undefined;
  private down: { readonly reason: string; readonly since: number } | undefined;
  private probing = false;
  private answeredAt = performance.now();
  private tickedAt = performance.now();
  private recoveredAt = -Infinity;
  private turnedAwayAt = -Infinity;
  private holds = 0;

  constructor(options: AvailabilityOptions) {
    this.options = options;
  }

  /** Begins to look after the database, which may be known to be away by now. */
  watch(): void {
    this.timer ??= setInterval(() => this.tick(), tickMs);
  }

  /** Why the database is not asked; undefined when it is. */
  get reason(): string | undefined {
    return this.down?.reason;
  }

  /** What is read from the database: fails with `DatabaseAway` instead of waiting for long. */
  guardReads(pool: Queryer): Queryer {
    return this.guard(pool, this.reads);
  }

  /** What is written, or read for a write: it may take its time, but not when the database is away. Whoever is told so does not know whether it was done. */
  guardWrites(pool: Queryer): Queryer {
    return this.guard(pool, this.writes);
  }

  /** Something failed on a connection: looks whether the database is still there. */
  suspect(): void {
    if (this.down === undefined) this.check();
  }

  /** It is known to be away. */
  lose(reason: string): void {
    if (this.down !== undefined) return;
    const now = performance.now();
    this.holds = now - this.recoveredAt < settledMs ? Math.min(this.holds + 1, holdsMs.length - 1) : 0;
    this.down = { reason, since: now };
    this.losses++;
    this.degraded = true;
    for (const asks of [this.reads, this.writes]) {
      const waiting = [...asks];
      asks.clear();
      for (const ask of waiting) ask.reject(new DatabaseAway(reason));
    }
    this.options.onLost(reason);
  }

  close(): void {
    clearInterval(this.timer);
  }

  private guard(pool: Queryer, asks: Set<Ask>): Queryer {
    const ask = pool.query.bind(pool) as unknown as (...args: unknown[]) => Promise<unknown>;
    const query = (...args: unknown[]): Promise<unknown> => {
      if (this.degraded) return Promise.reject(new DatabaseAway(this.reason ?? ''));
      return this.ask(asks, () => ask(...args));
    };
    return { query: query as unknown as Queryer['query'] };
  }

  /** Ends with the work, or before it when the database is lost. */
  private ask<T>(asks: Set<Ask>, work: () => Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const ask = { since: performance.now(), reject };
      asks.add(ask);
      this.run(work)
        .finally(() => asks.delete(ask))
        .then(resolve, reject);
    });
  }

  private async run<T>(work: () => Promise<T>): Promise<T> {
    try {
      const value = await work();
      this.answeredAt = performance.now();
      return value;
    } catch (error) {
      if (isDatabaseAway(error)) this.suspect();
      else this.answeredAt = performance.now();
      throw error;
    }
  }

  private tick(): void {
    const now = performance.now();
    const late = now - this.tickedAt > 2 * tickMs;
    this.tickedAt = now;
    // The process was busy or frozen: answers may be there and not read yet.
    if (late) return;
    // The oldest is the first.
    const [oldest] = this.reads;
    if (oldest !== undefined && now - oldest.since > readLimitMs) {
      if (this.down === undefined) this.lose(`no answer for ${readLimitMs / 1000} s`);
      else oldest.reject(new DatabaseAway(this.down.reason));
      this.reads.delete(oldest);
    }
    if (this.down !== undefined || now - this.answeredAt > quietMs) this.check();
  }

  /** One probe at a time, however many ask for it. */
  private check(): void {
    if (this.probing) return;
    this.probing = true;
    this.ask(this.reads, this.options.probe)
      .then(
        () => this.found(),
        (error: unknown) => this.failed(error),
      )
      .finally(() => {
        this.probing = false;
      });
  }

  private found(): void {
    const now = performance.now();
    if (this.down === undefined || now - this.down.since < (holdsMs[this.holds] ?? 0)) return;
    const { since } = this.down;
    this.down = undefined;
    this.degraded = false;
    this.recoveredAt = now;
    this.options.onRecovered(now - since);
  }

  private turnedAway(reason: string): void {
    const now = performance.now();
    if (now - this.turnedAwayAt > settledMs) this.options.onTurnedAway?.(reason);
    this.turnedAwayAt = now;
  }

  /** That it is there again, but cannot be used, is news. */
  private failed(error: unknown): void {
    const reason = error instanceof Error ? error.message : String(error);
    // To give up the connections that there are would give them to others.
    if (this.down === undefined && isTurnedAway(error) && this.options.isConnected?.() === true) this.turnedAway(reason);
    else if (this.down === undefined) this.lose(reason);
    else if (!isDatabaseAway(error) && reason !== this.down.reason) {
      this.down = { ...this.down, reason };
      this.options.onLost(reason);
    }
  }
}
