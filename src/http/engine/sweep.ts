// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What has to be looked after now and then while it lasts. */
export interface Swept {
  tick(nowMs: number): void;
}

/** One timer for all requests that last longer than a turn of the loop, so that a short one costs no timer at all. */
export class Sweep {
  readonly #members = new Set<Swept>();
  readonly #timer: NodeJS.Timeout;

  /** Ticks at least four times in `shortestMs`, and once a second if that is longer. */
  constructor(shortestMs: number) {
    this.#timer = setInterval(() => this.#tick(), Math.max(20, Math.min(1_000, shortestMs / 4))).unref();
  }

  add(member: Swept): void {
    this.#members.add(member);
  }

  delete(member: Swept): void {
    this.#members.delete(member);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #tick(): void {
    const nowMs = performance.now();
    for (const member of this.#members) member.tick(nowMs);
  }
}
