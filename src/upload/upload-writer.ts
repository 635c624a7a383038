// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { AsyncResource } from 'node:async_hooks';
import { rateWhileOthersWait, type BodySink } from '../http/contract.js';
import { asFailure, type Appending, type BlobStore, type DataWriter, type HashBuffer, type Part } from '../storage/blob-store.js';
import { smallBufferBytes, type BufferPool } from './buffer-pool.js';
import type { PartLedger } from './part-ledger.js';

/** Where an upload stands, as plain data that another process can continue from. */
export interface UploadState {
  readonly dataKey: string;
  readonly algorithm: 'sha256' | 'sha512';
  /** Neutral hash state of the first `stored` bytes. */
  readonly hashState: Uint8Array;
  /** Bytes in the data object. */
  readonly stored: number;
  /** Bytes that follow those, not in the data object yet: here, when they are at most 64 KiB, or in an object of their own. */
  readonly tail: Uint8Array;
  readonly tailObject: TailObject | undefined;
}

export interface TailObject {
  readonly key: string;
  readonly bytes: number;
}

export interface UploadParts {
  readonly store: BlobStore;
  readonly buffers: BufferPool;
  readonly ledger: PartLedger;
  /** Keeps bytes that are no part yet, and follow the first `offset` ones. */
  readonly putTail: (offset: number, bytes: Uint8Array) => Promise<TailObject>;
}

/**
 * Takes a body into pooled buffers and sends each part to a worker, which hashes and stores it while the next one fills. Hashing is in order, since each hash begins
 * where the last one ended; where parts have numbers, several are on their way to the store at once.
 */
export class UploadWriter implements BodySink {
  private readonly parts: UploadParts;
  private readonly onStored: (state: UploadState) => void;
  private readonly mostInFlight: number;
  private state: UploadState;
  private data: Promise<DataWriter> | undefined;
  private buffer: ArrayBuffer | undefined;
  private view = new Uint8Array();
  private filled = 0;
  private nextBytes: number;
  private filledSince = Date.now();
  /** Bytes come in callbacks of the socket; what is done with them belongs to the request all the same, for who traces it. */
  private readonly request = new AsyncResource('UploadWriter');
  /** The hash state after the last part that was submitted. */
  private hashed: Promise<Uint8Array>;
  private chain: Promise<void> = Promise.resolve();
  private inFlight = 0;
  private submitted: number;
  private failure: Error | undefined;
  private wake: (() => void) | undefined;
  private closed = false;

  /** `expectedBytes` of body are announced, undefined when it is chunked; `onStored` is told after each part. */
  constructor(
    parts: UploadParts,
    state: UploadState,
    expectedBytes: number | undefined,
    onStored: (state: UploadState) => void = () => undefined,
  ) {
    this.parts = parts;
    this.state = state;
    this.onStored = onStored;
    this.mostInFlight = parts.store.parts.numbered ? mostPartsInFlight : mostInChain;
    this.nextBytes = Math.min(smallBufferBytes, (expectedBytes ?? smallBufferBytes) + state.tail.byteLength);
    this.hashed = Promise.resolve(state.hashState.slice());
    this.submitted = state.stored;
  }

  /** hot: bench/push-cpu.ts */
  write(chunk: Uint8Array): number {
    let taken = 0;
    while (taken < chunk.byteLength && this.failure === undefined) {
      if (!this.hasRoom()) break;
      const count = Math.min(chunk.byteLength - taken, this.view.byteLength - this.filled);
      this.view.set(count === chunk.byteLength ? chunk : chunk.subarray(taken, taken + count), this.filled);
      this.filled += count;
      taken += count;
      if (this.filled === this.view.byteLength && this.filled >= this.wantedBytes()) this.submit();
    }
    return taken;
  }

  async ready(): Promise<void> {
    while (this.inFlight >= this.mostInFlight && this.failure === undefined) {
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
    }
    if (this.failure !== undefined) throw this.failure;
    if (this.buffer === undefined || this.filled === this.view.byteLength) await this.nextBuffer();
  }

  /** Who brings little is left alone with a small buffer, but not with one that others could use. */
  leastRate(): number {
    const isLarge = this.buffer !== undefined && this.buffer.byteLength > smallBufferBytes;
    return isLarge && this.parts.buffers.usage.waiting > 0 ? rateWhileOthersWait : 0;
  }

  /** Ends the upload from outside: nothing more is taken or stored, and what waits rejects with `error`. */
  fail(error: Error): void {
    this.failure ??= error;
    this.wake?.();
  }

  /** Everything but a tail that is too small for a part is stored and, with it, durable. The writer is done after this. */
  async suspend(): Promise<UploadState> {
    // Somebody may still wait for a larger buffer: a copy to it now would give away the one whose bytes are on their way to the store.
    this.closed = true;
    if (this.filled >= this.smallestPart()) this.submit();
    await this.settle();
    let { tail, tailObject } = this.state;
    if (this.buffer !== undefined && this.filled > mostTailBytes) {
      tailObject = await this.parts.putTail(this.state.stored, this.view.subarray(0, this.filled));
    } else if (this.buffer !== undefined) {
      tail = Uint8Array.prototype.slice.call(this.view, 0, this.filled);
    }
    await (await this.data)?.sync();
    await this.close();
    return { ...this.state, tail, tailObject };
  }

  /**
   * No bytes will follow. They are all stored then, except in an upload of which nothing was: that is held here until `close`, to be put whole, when it is small
   * or the store takes a part of it as an object.
   */
  async end(): Promise<{ readonly state: UploadState; readonly held: Uint8Array | undefined }> {
    const { store, ledger } = this.parts;
    if (this.buffer === undefined && this.state.tailObject !== undefined) await this.ready();
    const mostHeld = store.parts.numbered ? Infinity : mostTailBytes;
    if (this.submitted === 0 && ledger.begun === undefined && this.filled <= mostHeld) {
      const held = this.buffer === undefined ? this.state.tail : this.view.subarray(0, this.filled);
      return { state: this.state, held };
    }
    if (this.buffer === undefined && this.state.tail.byteLength > 0) await this.ready();
    if (this.filled > 0) this.submit();
    await this.settle();
    return { state: this.state, held: undefined };
  }

  /** Hashes held bytes where that is not too long for the main thread. */
  async hashHeld(hash: HashBuffer, algorithm: 'sha256' | 'sha512', state: Uint8Array): Promise<Uint8Array> {
    const { buffer, filled } = this;
    if (buffer === undefined) throw new Error('nothing is held');
    const bytes = buffer.byteLength;
    try {
      const done = await hash({ algorithm, state, buffer, length: filled });
      this.buffer = done.buffer;
      this.view = new Uint8Array(done.buffer);
      return done.state;
    } catch (error) {
      // The bytes are lost with their worker: the upload stands where it was last saved.
      this.fail(asFailure(error));
      this.buffer = undefined;
      this.filled = 0;
      this.parts.buffers.give(buffer, bytes);
      throw error;
    }
  }

  /** Whether nothing of the upload is stored. */
  get isEmpty(): boolean {
    return this.submitted === 0;
  }

  /** What is held. */
  get held(): Uint8Array {
    return this.buffer === undefined ? this.state.tail : this.view.subarray(0, this.filled);
  }

  /** The data object is complete and durable; `parts` are all of it, where parts have numbers. */
  async complete(parts: readonly Part[]): Promise<void> {
    await (await this.open(this.parts.ledger.begun ?? '')).finish(this.state.stored, parts);
    this.data = undefined;
  }

  /** Goes on in another data object; nothing is stored yet. */
  moveTo(dataKey: string): void {
    this.state = { ...this.state, dataKey };
  }

  /** Gives everything back; safe at any time and twice. */
  async close(): Promise<void> {
    this.closed = true;
    await this.chain;
    this.release();
    await (await this.data?.catch(() => undefined))?.close();
  }

  /** What is stored now, for a checkpoint: durable once this resolves. */
  async durableState(): Promise<{ readonly state: UploadState; readonly parts: readonly Part[]; readonly nextPart: number }> {
    const state = { ...this.state, tail: new Uint8Array(), tailObject: undefined };
    const numbers = this.parts.ledger.state();
    await (await this.data)?.sync();
    return { state, ...numbers };
  }

  /** Resolves when nothing is on its way to the store any more. */
  async settled(): Promise<void> {
    await this.chain;
  }

  private hasRoom(): boolean {
    if (this.buffer !== undefined && this.filled < this.view.byteLength) return true;
    if (this.inFlight >= this.mostInFlight || this.state.tailObject !== undefined) return false;
    const buffer = this.parts.buffers.tryTake(this.bytesToTake());
    if (buffer === undefined) return false;
    this.useBuffer(buffer);
    return true;
  }

  private async nextBuffer(): Promise<void> {
    const { tailObject } = this.state;
    const buffer = await this.parts.buffers.take(this.bytesToTake());
    try {
      if (tailObject !== undefined) await readInto(this.parts.store, tailObject, new Uint8Array(buffer));
    } catch (error) {
      this.parts.buffers.give(buffer, buffer.byteLength);
      throw error;
    }
    // The client may have gone while all buffers were out.
    if (this.closed) {
      this.parts.buffers.give(buffer, buffer.byteLength);
      return;
    }
    this.useBuffer(buffer);
    if (tailObject === undefined) return;
    this.filled = tailObject.bytes;
    this.state = { ...this.state, tailObject: undefined };
  }

  /** A full buffer that is no part yet grows; a tail that was an object will soon be a part. */
  private bytesToTake(): number {
    if (this.buffer === undefined) return this.state.tailObject === undefined ? this.nextBytes : this.wantedBytes();
    return Math.min(this.wantedBytes(), this.buffer.byteLength * growth);
  }

  /** Without numbers a part may have any size. */
  private wantedBytes(): number {
    const { store, ledger, buffers } = this.parts;
    return store.parts.numbered ? Math.min(ledger.wantedBytes, buffers.largestBytes) : 0;
  }

  private smallestPart(): number {
    const { parts } = this.parts.store;
    if (!parts.numbered) return mostTailBytes + 1;
    return parts.equal ? this.wantedBytes() : parts.smallestBytes;
  }

  private useBuffer(buffer: ArrayBuffer): void {
    const view = new Uint8Array(buffer);
    if (this.buffer === undefined) {
      this.filledSince = Date.now();
      view.set(this.state.tail);
      this.filled = this.state.tail.byteLength;
      if (this.filled > 0) this.state = { ...this.state, tail: new Uint8Array() };
    } else {
      view.set(this.view.subarray(0, this.filled));
      this.parts.buffers.give(this.buffer, this.buffer.byteLength);
    }
    this.buffer = buffer;
    this.view = view;
  }

  /** Sends the buffer to a worker. A client that fills buffers quickly is given larger ones; one that trickles keeps small ones, so that many of them cannot empty the pool. */
  private submit(): void {
    const { buffer, filled } = this;
    if (buffer === undefined || filled === 0) return;
    this.buffer = undefined;
    this.filled = 0;
    const { numbered } = this.parts.store.parts;
    const quick = Date.now() - this.filledSince < quickMs;
    const number = this.numberOrFail();
    if (quick) this.nextBytes = numbered ? this.wantedBytes() : Math.min(this.parts.ledger.wantedBytes, buffer.byteLength * growth);
    else this.nextBytes = smallBufferBytes;
    this.inFlight++;
    const offset = this.submitted;
    this.submitted += filled;
    const before = this.hashed;
    const appending = before.then((state) => this.request.runInAsyncScope(() => this.append(number, offset, state, buffer, filled)));
    this.hashed = appending.then(({ hashed }) => hashed);
    // The next part's hash goes on in the same state.
    const after = this.hashed.then((state) => state.slice());
    after.catch(() => undefined);
    const landed = this.land(appending, buffer, buffer.byteLength);
    this.chain = this.advance(this.chain, landed, after, offset + filled);
  }

  /** Parts may be stored in any order; the upload stands behind the last one before which none is missing. */
  private async advance(
    before: Promise<void>,
    landed: Promise<Part | undefined>,
    after: Promise<Uint8Array>,
    stored: number,
  ): Promise<void> {
    await before;
    const part = await landed;
    if (part === undefined || this.failure !== undefined) return;
    this.state = { ...this.state, hashState: await after, stored };
    this.parts.ledger.add(part);
    this.onStored(this.state);
  }

  private numberOrFail(): number {
    try {
      return this.parts.ledger.assign();
    } catch (error) {
      this.fail(asFailure(error));
      return 0;
    }
  }

  private async append(number: number, offset: number, state: Uint8Array, buffer: ArrayBuffer, length: number): Promise<Appending> {
    if (this.failure !== undefined) throw this.failure;
    const data = await this.open(await this.parts.ledger.mayUse(this.state.dataKey, number));
    return data.append({ number, offset, algorithm: this.state.algorithm, state, buffer, length });
  }

  private open(begun: string): Promise<DataWriter> {
    return (this.data ??= this.parts.store.write(this.state.dataKey, begun, this.state.stored));
  }

  /** Resolves when a part has been stored and its buffer is home, or, without one, has failed. */
  private async land(appending: Promise<Appending>, buffer: ArrayBuffer, bytes: number): Promise<Part | undefined> {
    let home = buffer;
    try {
      const stored = await (await appending).stored;
      home = stored.buffer;
      if (stored.failure === undefined) return stored.part;
      this.fail(stored.failure);
    } catch (error) {
      this.fail(asFailure(error));
    } finally {
      this.parts.buffers.give(home, bytes);
      this.inFlight--;
      this.wake?.();
      this.wake = undefined;
    }
    return undefined;
  }

  private async settle(): Promise<void> {
    await this.chain;
    if (this.failure !== undefined) throw this.failure;
  }

  private release(): void {
    if (this.buffer !== undefined) this.parts.buffers.give(this.buffer, this.buffer.byteLength);
    this.buffer = undefined;
    this.filled = 0;
  }
}

/** What of an upload may stay in its session's row. */
export const mostTailBytes = smallBufferBytes;
/** One at a worker, one waiting for it, while a third fills. */
const mostInChain = 2;
/** What keeps a connection of some 30 ms busy at 8 MiB a part, while a fifth part fills. */
export const mostPartsInFlight = 4;
/** From one buffer to the next: 64 KiB, 1 MiB, a part. */
const growth = 16;
/** Filling a buffer faster than this earns a larger one. */
const quickMs = 1_000;

async function readInto(store: BlobStore, { key, bytes }: TailObject, view: Uint8Array): Promise<void> {
  const source = await store.open(key, 0, bytes);
  try {
    let at = 0;
    for (let chunk = await source.next(); chunk !== undefined; chunk = await source.next()) {
      view.set(chunk, at);
      at += chunk.byteLength;
    }
    if (at !== bytes) throw new Error(`${key} ends at ${at}, before ${bytes}`);
  } finally {
    source.close();
  }
}
