// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Sinks and sources with real bytes, which tell how they were used. */
import { createHash } from 'node:crypto';
import type { BodySink } from '../../src/http/contract.js';
import type { ByteSource } from '../../src/storage/blob-store.js';

/** Hashes what it takes, up to `roomBytes` until it is emptied. */
export class HashSink implements BodySink {
  readonly #hash = createHash('sha256');
  readonly #roomBytes: number;
  readonly #empty: () => Promise<void>;
  #held = 0;
  takenBytes = 0;
  waits = 0;

  constructor(roomBytes = Infinity, empty: () => Promise<void> = () => Promise.resolve()) {
    this.#roomBytes = roomBytes;
    this.#empty = empty;
  }

  write(chunk: Uint8Array): number {
    const taken = Math.min(chunk.length, this.#roomBytes - this.#held);
    this.#hash.update(chunk.subarray(0, taken));
    this.#held += taken;
    this.takenBytes += taken;
    return taken;
  }

  async ready(): Promise<void> {
    this.waits++;
    await this.#empty();
    this.#held = 0;
  }

  digest(): string {
    return this.#hash.digest('hex');
  }
}

/** Gives `bytes` in chunks out of one buffer that each `next` overwrites, as the contract allows. */
export class ReusedBufferSource implements ByteSource {
  readonly #bytes: Uint8Array;
  readonly #buffer: Uint8Array;
  readonly #before: (at: number) => Promise<void>;
  #at = 0;
  closes = 0;

  constructor(bytes: Uint8Array, chunkBytes: number, before: (at: number) => Promise<void> = () => Promise.resolve()) {
    this.#bytes = bytes;
    this.#buffer = new Uint8Array(chunkBytes);
    this.#before = before;
  }

  async next(): Promise<Uint8Array | undefined> {
    this.#buffer.fill(0);
    await this.#before(this.#at);
    if (this.#at === this.#bytes.length) return undefined;
    const chunk = this.#bytes.subarray(this.#at, this.#at + this.#buffer.length);
    this.#buffer.set(chunk);
    this.#at += chunk.length;
    return this.#buffer.subarray(0, chunk.length);
  }

  close(): void {
    this.closes++;
  }
}

export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Bytes without a period, so that a lost, doubled or misplaced piece changes the digest. */
export function noise(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  let state = 1;
  for (let at = 0; at + 4 <= length; at += 4) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes.writeUInt32LE(state, at);
  }
  return bytes;
}
