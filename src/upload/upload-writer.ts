// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { AsyncResource } from 'node:async_hooks';
import type { BodySink } from '../http/contract.js';
import type { BlobStore, DataWriter } from '../storage/blob-store.js';
import { smallBufferBytes, largestBufferBytes, type BufferPool } from './buffer-pool.js';

/** Where an upload stands, as plain data that another process can continue from. */
export interface UploadState {
  readonly dataKey: string;
  readonly algorithm: 'sha256' | 'sha512';
  /** Neutral hash state of the first `stored` bytes. */
  readonly hashState: Uint8Array;
  /** Bytes in the data object. */
  readonly stored: number;
  /** Bytes that follow those, not in the data object yet; at most 64 KiB. */
  readonly tail: Uint8Array;
}

export interface UploadParts {
  readonly store: BlobStore;
  readonly buffers: BufferPool;
}

/**
 * Takes a body into pooled buffers and sends each full one to a worker, which hashes and stores it while the next one fills. Parts of one upload follow each
 * other, since each hash begins where the last one ended.
 */
export class UploadWriter implements BodySink {
  private readonly parts: UploadParts;
  private readonly onStored: (state: UploadState) => void;
  private state: UploadState;
  private data: DataWriter | undefined;
  private buffer: ArrayBuffer | undefined;
  private view = new Uint8Array();
  private filled = 0;
  private nextBytes: number;
  private filledSince = Date.now();
  /** Bytes come in callbacks of the socket; what is done with them belongs to the request all the same, for who traces it. */
  private readonly request = new AsyncResource('UploadWriter');
  private chain: Promise<void> = Promise.resolve();
  private inChain = 0;
  private failure: Error | undefined;
  private wake: (() => void) | undefined;
  private pendingBytes = 0;
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
    this.nextBytes = Math.min(smallBufferBytes, (expectedBytes ?? smallBufferBytes) + state.tail.byteLength);
  }

  /** Bytes of the upload so far. */
  get received(): number {
    return this.state.stored + (this.buffer === undefined ? this.state.tail.byteLength : this.filled) + this.pendingBytes;
  }

  /** hot: bench/push-cpu.ts */
  write(chunk: Uint8Array): number {
    let taken = 0;
    while (taken < chunk.byteLength && this.failure === undefined) {
      if (this.buffer === undefined && !this.tryNextBuffer()) break;
      const count = Math.min(chunk.byteLength - taken, this.view.byteLength - this.filled);
      this.view.set(count === chunk.byteLength ? chunk : chunk.subarray(taken, taken + count), this.filled);
      this.filled += count;
      taken += count;
      if (this.filled === this.view.byteLength) this.submit();
    }
    return taken;
  }

  async ready(): Promise<void> {
    while (this.inChain >= mostInChain && this.failure === undefined) {
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
    }
    if (this.failure !== undefined) throw this.failure;
    if (this.buffer !== undefined) return;
    const buffer = await this.parts.buffers.take(this.nextBytes);
    // The client may have gone while all buffers were out.
    if (this.closed) this.parts.buffers.give(buffer);
    else this.useBuffer(buffer);
  }

  /** Ends the upload from outside: nothing more is taken or stored, and what waits rejects with `error`. */
  fail(error: Error): void {
    this.failure ??= error;
    this.wake?.();
  }

  /** Everything but a tail of at most 64 KiB is stored and, with it, durable. The writer is done after this. */
  async suspend(): Promise<UploadState> {
    if (this.filled > mostTailBytes) this.submit();
    await this.settle();
    const tail = this.buffer === undefined ? this.state.tail : Uint8Array.prototype.slice.call(this.view, 0, this.filled);
    await this.data?.sync();
    await this.close();
    return { ...this.state, tail };
  }

  /** All bytes are in the data object, complete and durable. Returns the final state; its tail is empty, unless the upload is small and nothing is stored. */
  async complete(): Promise<UploadState> {
    if (this.state.stored + this.pendingBytes === 0 && this.filled <= mostTailBytes) {
      // Small: hashed and written in one go by the caller, and the data object is not even opened.
      const tail = this.buffer === undefined ? this.state.tail : Uint8Array.prototype.slice.call(this.view, 0, this.filled);
      await this.close();
      return { ...this.state, tail };
    }
    if (this.buffer === undefined && this.state.tail.byteLength > 0) await this.ready();
    if (this.filled > 0) this.submit();
    await this.settle();
    this.data ??= await this.parts.store.write(this.state.dataKey, '', this.state.stored);
    await this.data.finish(this.state.stored, []);
    return { ...this.state, tail: new Uint8Array() };
  }

  /** Gives everything back; safe at any time and twice. */
  async close(): Promise<void> {
    this.closed = true;
    await this.chain;
    this.release();
    await this.data?.close();
  }

  /** What is stored now, for a checkpoint: durable once this resolves. */
  async durableState(): Promise<UploadState> {
    const state = { ...this.state, hashState: this.state.hashState.slice(), tail: new Uint8Array() };
    await this.data?.sync();
    return state;
  }

  private tryNextBuffer(): boolean {
    if (this.inChain >= mostInChain) return false;
    const buffer = this.parts.buffers.tryTake(this.nextBytes);
    if (buffer === undefined) return false;
    this.useBuffer(buffer);
    return true;
  }

  private useBuffer(buffer: ArrayBuffer): void {
    this.buffer = buffer;
    this.view = new Uint8Array(buffer);
    this.filled = 0;
    this.filledSince = Date.now();
    if (this.state.tail.byteLength > 0) {
      this.view.set(this.state.tail);
      this.filled = this.state.tail.byteLength;
      this.state = { ...this.state, tail: new Uint8Array() };
    }
  }

  /** Sends the buffer to a worker. A client that fills buffers quickly is given larger ones; one that trickles keeps small ones, so that many of them cannot empty the pool. */
  private submit(): void {
    const { buffer, filled } = this;
    if (buffer === undefined || filled === 0) return;
    this.buffer = undefined;
    this.filled = 0;
    const quick = Date.now() - this.filledSince < quickMs;
    this.nextBytes = quick ? Math.min(largestBufferBytes, buffer.byteLength * 16) : smallBufferBytes;
    this.inChain++;
    this.pendingBytes += filled;
    this.chain = this.chain.then(() => this.request.runInAsyncScope(() => this.append(buffer, filled)));
  }

  private async append(buffer: ArrayBuffer, length: number): Promise<void> {
    let home = buffer;
    try {
      if (this.failure !== undefined) return;
      const { dataKey, algorithm, hashState, stored } = this.state;
      this.data ??= await this.parts.store.write(dataKey, '', stored);
      const appending = this.data.append({ number: 1, offset: stored, algorithm, state: hashState, buffer, length });
      const appended = await appending.stored;
      home = appended.buffer;
      if (appended.failure !== undefined) throw appended.failure;
      this.state = { ...this.state, hashState: await appending.hashed, stored: stored + length };
      this.onStored(this.state);
    } catch (error) {
      this.failure ??= error instanceof Error ? error : new Error(String(error));
    } finally {
      this.parts.buffers.give(home);
      this.inChain--;
      this.pendingBytes -= length;
      this.wake?.();
      this.wake = undefined;
    }
  }

  /** Resolves when nothing is on its way to the store any more. */
  async settled(): Promise<void> {
    await this.chain;
  }

  private async settle(): Promise<void> {
    await this.chain;
    if (this.failure !== undefined) throw this.failure;
  }

  private release(): void {
    if (this.buffer !== undefined) this.parts.buffers.give(this.buffer);
    this.buffer = undefined;
    this.filled = 0;
  }
}

/** What of an upload may stay in its session's row. */
export const mostTailBytes = smallBufferBytes;
/** One at a worker, one waiting for it, while a third fills. */
const mostInChain = 2;
/** Filling a buffer faster than this earns a larger one. */
const quickMs = 1_000;
