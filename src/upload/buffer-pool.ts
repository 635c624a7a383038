// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * The memory of all uploads together. Buffers come in three sizes; when all of the budget is out, a taker waits, and the sockets with it.
 *
 * Waiting always ends. Who waits may hold a smaller buffer, whose bytes the larger one will take up, so each size has memory that the others leave to it: then those with
 * the largest buffers, who wait for no other, always get on and give theirs back.
 */
export class BufferPool {
  private readonly budgetBytes: number;
  private readonly sizes: readonly SizeClass[];
  private allocatedBytes = 0;

  /** `partBytes` is what the first parts of the store have; later ones may be larger, as far as an eighth of the budget holds them. */
  constructor(budgetBytes: number, partBytes: number = bufferSizes[2]) {
    const [small, medium, large] = bufferSizes;
    let largest = Math.max(partBytes, large);
    while (2 * largest <= budgetBytes / 8) largest *= 2;
    this.sizes = [sizeClass(small, 16 * small), sizeClass(medium, medium), sizeClass(largest, largest)];
    this.budgetBytes = Math.max(
      budgetBytes,
      this.sizes.reduce((sum, { guaranteedBytes }) => sum + guaranteedBytes, 0),
    );
  }

  get largestBytes(): number {
    return this.sizes.at(-1)?.bytes ?? 0;
  }

  /** For who watches: the budget, what of it was allocated, what of that is free, and how many wait for some. */
  get usage(): { readonly budgetBytes: number; readonly allocatedBytes: number; readonly freeBytes: number; readonly waiting: number } {
    const { budgetBytes, allocatedBytes, sizes } = this;
    const freeBytes = sizes.reduce((sum, { free }) => sum + free.reduce((bytes, { byteLength }) => bytes + byteLength, 0), 0);
    return { budgetBytes, allocatedBytes, freeBytes, waiting: sizes.reduce((sum, { waiting }) => sum + waiting.length, 0) };
  }

  /** A buffer of at least `bytes` (at most the largest size), or undefined when the budget is out or others wait. Past the medium size it has exactly that many. */
  tryTake(bytes: number): ArrayBuffer | undefined {
    const size = this.classOf(bytes);
    return size.waiting.length > 0 ? undefined : this.allocate(size, bytes);
  }

  /** The same, waiting for one. */
  take(bytes: number): Promise<ArrayBuffer> {
    const buffer = this.tryTake(bytes);
    if (buffer !== undefined) return Promise.resolve(buffer);
    return new Promise((resolve) => this.classOf(bytes).waiting.push({ bytes, resolve }));
  }

  /** Takes back a buffer that had so many bytes; one that is lost, with the worker that had it, leaves room for another. */
  give(buffer: ArrayBuffer, bytes: number): void {
    const given = this.classOf(bytes);
    given.usedBytes -= bytes;
    if (buffer.byteLength === bytes) given.free.push(buffer);
    else this.allocatedBytes -= bytes;
    // The smallest first: they are the quickest to come back.
    for (const size of this.sizes) {
      for (let next = size.waiting[0]; next !== undefined; next = size.waiting[0]) {
        const found = this.allocate(size, next.bytes);
        if (found === undefined) break;
        size.waiting.shift();
        next.resolve(found);
      }
    }
  }

  private allocate(size: SizeClass, wanted: number): ArrayBuffer | undefined {
    const bytes = size === this.sizes.at(-1) ? Math.min(wanted, size.bytes) : size.bytes;
    let promisedBytes = size.usedBytes + bytes;
    for (const other of this.sizes) if (other !== size) promisedBytes += Math.max(other.usedBytes, other.guaranteedBytes);
    if (promisedBytes > this.budgetBytes) return undefined;
    size.usedBytes += bytes;
    const spare = size.free.findLastIndex(({ byteLength }) => byteLength === bytes);
    if (spare >= 0) return size.free.splice(spare, 1)[0];
    for (const { free } of this.sizes) {
      while (this.allocatedBytes + bytes > this.budgetBytes) {
        const dropped = free.pop();
        if (dropped === undefined) break;
        this.allocatedBytes -= dropped.byteLength;
      }
    }
    this.allocatedBytes += bytes;
    return new ArrayBuffer(bytes);
  }

  private classOf(bytes: number): SizeClass {
    const size = this.sizes.find((candidate) => candidate.bytes >= bytes) ?? this.sizes.at(-1);
    if (size === undefined) throw new Error('a pool has sizes');
    return size;
  }
}

interface SizeClass {
  /** Of each of its buffers; of the largest class, at most. */
  readonly bytes: number;
  /** Others leave so much to it. */
  readonly guaranteedBytes: number;
  usedBytes: number;
  readonly free: ArrayBuffer[];
  readonly waiting: { readonly bytes: number; readonly resolve: (buffer: ArrayBuffer) => void }[];
}

function sizeClass(bytes: number, guaranteedBytes: number): SizeClass {
  return { bytes, guaranteedBytes, usedBytes: 0, free: [], waiting: [] };
}

/** A config or a small layer fits the first; the last is what the hop to a worker is worth. */
export const bufferSizes = [64 * 1024, 1024 * 1024, 4 * 1024 * 1024] as const;
export const smallBufferBytes = bufferSizes[0];
