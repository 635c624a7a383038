// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * The memory of all uploads together. Buffers come in three sizes; when all of the budget is out, a taker waits, and the sockets with it.
 * No one waits while holding a buffer that only the waiting could give back, so waiting always ends.
 */
export class BufferPool {
  private readonly budgetBytes: number;
  private allocatedBytes = 0;
  private readonly free = new Map<number, ArrayBuffer[]>();
  private waiting: { bytes: number; resolve: (buffer: ArrayBuffer) => void }[] = [];

  constructor(budgetBytes: number) {
    this.budgetBytes = Math.max(budgetBytes, 2 * largestBufferBytes);
  }

  /** For who watches: the budget, what of it was allocated, what of that is free, and how many wait for some. */
  get usage(): { readonly budgetBytes: number; readonly allocatedBytes: number; readonly freeBytes: number; readonly waiting: number } {
    const { budgetBytes, allocatedBytes, waiting } = this;
    let freeBytes = 0;
    for (const [size, buffers] of this.free) freeBytes += size * buffers.length;
    return { budgetBytes, allocatedBytes, freeBytes, waiting: waiting.length };
  }

  /** A buffer of at least `bytes` (at most the largest size), or undefined when the budget is out or others wait. */
  tryTake(bytes: number): ArrayBuffer | undefined {
    return this.waiting.length > 0 ? undefined : this.allocate(sizeFor(bytes));
  }

  /** The same, waiting for one. */
  take(bytes: number): Promise<ArrayBuffer> {
    const buffer = this.tryTake(bytes);
    if (buffer !== undefined) return Promise.resolve(buffer);
    return new Promise((resolve) => this.waiting.push({ bytes: sizeFor(bytes), resolve }));
  }

  give(buffer: ArrayBuffer): void {
    const list = this.free.get(buffer.byteLength);
    if (list === undefined) this.free.set(buffer.byteLength, [buffer]);
    else list.push(buffer);
    while (this.waiting[0] !== undefined) {
      const next = this.allocate(this.waiting[0].bytes);
      if (next === undefined) return;
      this.waiting.shift()?.resolve(next);
    }
  }

  private allocate(bytes: number): ArrayBuffer | undefined {
    const spare = this.free.get(bytes)?.pop();
    if (spare !== undefined) return spare;
    for (const [size, buffers] of this.free) {
      while (this.allocatedBytes + bytes > this.budgetBytes && buffers.pop() !== undefined) this.allocatedBytes -= size;
    }
    if (this.allocatedBytes + bytes > this.budgetBytes) return undefined;
    this.allocatedBytes += bytes;
    return new ArrayBuffer(bytes);
  }
}

/** A config or a small layer fits the first; the last is what the hop to a worker is worth. */
export const bufferSizes = [64 * 1024, 1024 * 1024, 4 * 1024 * 1024] as const;
export const smallBufferBytes = bufferSizes[0];
export const largestBufferBytes = bufferSizes[2];

function sizeFor(bytes: number): number {
  return bufferSizes.find((size) => size >= bytes) ?? largestBufferBytes;
}
