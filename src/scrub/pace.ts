// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { setMaxListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';

/** Spreads work over time: so many bytes a second on average, and no saved-up haste. Undefined: as fast as it goes. */
export class Pace {
  private readonly bytesPerSecond: number | undefined;
  private readonly signal: AbortSignal;
  private readonly mayGoOn: () => boolean;
  private freeAt = -Infinity;

  constructor(bytesPerSecond: number | undefined, signal: AbortSignal, mayGoOn: () => boolean = () => true) {
    this.bytesPerSecond = bytesPerSecond;
    this.signal = signal;
    this.mayGoOn = mayGoOn;
    // Each that waits listens.
    setMaxListeners(0, signal);
  }

  /** Resolves when these bytes may be read. Rejects with an AbortError when the work is to end. */
  async take(bytes: number): Promise<void> {
    this.signal.throwIfAborted();
    if (!this.mayGoOn()) throw new DOMException('somebody else goes on with it', 'AbortError');
    if (this.bytesPerSecond === undefined) return;
    const now = performance.now();
    const waitMs = this.freeAt - now;
    this.freeAt = Math.max(this.freeAt, now) + (bytes / this.bytesPerSecond) * 1000;
    if (waitMs > 0) await sleep(waitMs, undefined, { signal: this.signal });
  }
}
