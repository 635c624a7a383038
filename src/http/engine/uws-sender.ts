// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { UwsResponse } from './uws-response.js';

/** uWS cuts a reply whose client takes nothing for about 10 s, counted from the last attempt to write. */
const retryMs = 3_500;

interface Waiting {
  readonly chunk: Uint8Array;
  /** Offset in the body of the chunk's first byte. */
  readonly startBytes: number;
  resolve(): void;
  reject(error: Error): void;
}

/** Sends a body of known length piece by piece without copying: what the kernel does not take waits in the caller's buffer. */
export class UwsSender {
  readonly #response: UwsResponse;
  readonly #totalBytes: number;
  #sentBytes = 0;
  #waiting: Waiting | undefined;
  #listening = false;
  #progressMs = 0;
  #attemptMs = 0;
  #offset = 0;
  /** The last byte was taken; the response is gone. */
  complete = false;

  constructor(response: UwsResponse, totalBytes: number) {
    this.#response = response;
    this.#totalBytes = totalBytes;
  }

  /** Bytes that the system has taken. */
  get takenBytes(): number {
    return this.#waiting === undefined ? this.#sentBytes : this.#offset;
  }

  get waiting(): boolean {
    return this.#waiting !== undefined;
  }

  /** hot: `head` is written in the same packet as the chunk. Undefined means that the whole chunk was taken; otherwise the promise says when. */
  send(chunk: Uint8Array, head?: () => void): Promise<void> | undefined {
    const startBytes = this.#sentBytes;
    this.#sentBytes += chunk.length;
    let taken = false;
    this.#response.cork(() => {
      head?.();
      taken = this.#try(chunk);
    });
    if (taken) return undefined;
    if (!this.#listening) {
      this.#listening = true;
      this.#response.onWritable(() => this.#retry());
    }
    this.#offset = this.#response.getWriteOffset();
    this.#attemptMs = this.#progressMs = performance.now();
    return new Promise((resolve, reject) => {
      this.#waiting = { chunk, startBytes, resolve, reject };
    });
  }

  /** Writes again in time, and tells when the client took nothing for too long. */
  tick(nowMs: number, idleTimeoutMs: number): 'fine' | 'stalled' {
    if (this.#waiting === undefined) return 'fine';
    // First, since a process that was frozen has not yet seen what the client took meanwhile.
    if (nowMs - this.#attemptMs >= retryMs && this.#retry()) return 'fine';
    return nowMs - this.#progressMs >= idleTimeoutMs ? 'stalled' : 'fine';
  }

  /** The client is gone. */
  abort(error: Error): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.reject(error);
  }

  #retry(): boolean {
    const waiting = this.#waiting;
    if (waiting === undefined) return true;
    const offset = this.#response.getWriteOffset();
    const nowMs = performance.now();
    if (offset > this.#offset) this.#progressMs = nowMs;
    this.#attemptMs = nowMs;
    let taken = false;
    this.#response.cork(() => {
      taken = this.#try(waiting.chunk.subarray(offset - waiting.startBytes));
    });
    if (!taken) {
      const reached = this.#response.getWriteOffset();
      if (reached > offset) this.#progressMs = nowMs;
      this.#offset = reached;
      return false;
    }
    this.#waiting = undefined;
    waiting.resolve();
    return true;
  }

  #try(chunk: Uint8Array): boolean {
    const [taken, complete] = this.#response.tryEnd(chunk, this.#totalBytes);
    this.complete = complete;
    return taken || complete;
  }
}
