// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { rateWhileOthersWait, type LeastRate } from '../http/contract.js';

/**
 * Bounds the memory of large manifests that are on their way in. Each reserves all it may need before its body is read, so none waits while holding memory that
 * another needs; the socket is not read meanwhile.
 */
export class ReceiveBudget {
  private freeBytes: number;
  private readonly waiting: { bytes: number; begin: () => void }[] = [];

  constructor(bytes: number) {
    this.freeBytes = bytes;
  }

  /** Runs `receive` when there are `bytes` for it. Small ones need not ask. */
  async run<T>(bytes: number, receive: (leastRate?: LeastRate) => Promise<T>): Promise<T> {
    if (bytes <= smallBytes) return receive();
    if (this.waiting.length > 0 || bytes > this.freeBytes) {
      await new Promise<void>((begin) => this.waiting.push({ bytes, begin }));
    } else this.freeBytes -= bytes;
    try {
      return await receive(() => (this.waiting.length > 0 ? rateWhileOthersWait : 0));
    } finally {
      this.freeBytes += bytes;
      while (this.waiting[0] !== undefined && this.waiting[0].bytes <= this.freeBytes) {
        const next = this.waiting.shift();
        this.freeBytes -= next?.bytes ?? 0;
        next?.begin();
      }
    }
  }
}

/** Nearly all manifests. */
const smallBytes = 64 * 1024;
