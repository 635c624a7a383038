// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * A request body between the socket and a sink, the same for both engines: the engine pushes what arrives and obeys `Flow`; what comes before a
 * sink is there, or while one is full, waits in a queue.
 */
import { collectorFor } from './body-collector.js';
import { BodyAborted, type BodySink, type LeastRate, type RequestBody } from '../contract.js';

/** Whether the engine reads from the socket. Both are called at any time and any number of times. */
export interface Flow {
  readonly paused: boolean;
  pause(): void;
  resume(): void;
}

export interface BodyLimits {
  readonly idleTimeoutMs: number;
  readonly minimumRateBytesPerSecond: number;
}

/** Of `idleTimeoutMs`, what may have passed between two ticks: a process that was frozen for longer has not yet read what came meanwhile. */
const mostPassed = 1 / 2;
/** So much is read before the handler asks for it; most manifests and small blobs are there by then. */
const earlyBytes = 64 * 1024;
/** While reading is paused nobody sees that the client went away, so the engine reads on for a moment now and then, until this much is queued. */
const pauseLimitMs = 1_500;
const probeBytes = 4 * 1024 * 1024;
/** And no more than this in all requests together, beside what made each of them pause. */
const mostProbedBytes = 64 * 1024 * 1024;

export class BodyReader implements RequestBody {
  readonly length: number | undefined;
  readonly #flow: Flow;
  readonly #copies: boolean;
  readonly #onFirstRead: (() => void) | undefined;
  readonly #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  static #probedByAll = 0;
  /** Of the queued bytes, those that came while reading was paused. */
  #probedBytes = 0;
  #complete = false;
  #discarding = false;
  #failure: Error | undefined;
  #sink: BodySink | undefined;
  #blocked = false;
  #settle: { resolve(): void; reject(error: unknown): void } | undefined;
  /** All bytes that were pushed. */
  receivedBytes = 0;
  readonly #watch = { tickedMs: 0, pausedMs: 0, quietMs: 0, windowMs: 0, windowStartBytes: 0, tickedBytes: 0, leastRate: Infinity };

  /** `copies`: pushed chunks are valid only during the call, so what is queued must be copied. */
  constructor(length: number | undefined, flow: Flow, copies: boolean, onFirstRead?: () => void) {
    this.length = length;
    this.#flow = flow;
    this.#copies = copies;
    this.#onFirstRead = onFirstRead;
  }

  get complete(): boolean {
    return this.#complete;
  }

  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  pipe(sink: BodySink): Promise<void> {
    if (this.#sink !== undefined) return Promise.reject(new Error('the body of a request is read once'));
    if (this.#discarding) return Promise.reject(new BodyAborted('the request was answered before its body was read'));
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    this.#sink = sink;
    this.#onFirstRead?.();
    return new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
      this.#drain();
    });
  }

  async bytes(limitBytes: number, leastRate?: LeastRate): Promise<Uint8Array> {
    const collector = collectorFor(this.length, limitBytes);
    await this.pipe(leastRate === undefined ? collector : Object.assign(collector, { leastRate }));
    return collector.bytes();
  }

  /** hot: takes what arrived. While the sink has room it gets the engine's own view, so a chunk is copied once on its way to the disk. */
  push(chunk: Uint8Array, last: boolean): void {
    this.receivedBytes += chunk.length;
    if (last) this.#complete = true;
    if (this.#discarding || this.#failure !== undefined) return;
    const sink = this.#sink;
    if (sink === undefined || this.#blocked) {
      const probed = this.#blocked || this.#queuedBytes >= earlyBytes;
      if (chunk.length > 0) this.#enqueue(chunk);
      if (probed) this.#countProbed(this.#probedBytes + chunk.length);
      if (this.#blocked || this.#queuedBytes >= earlyBytes) this.#flow.pause();
      return;
    }
    const taken = this.#offer(sink, chunk);
    if (taken < chunk.length && this.#settle !== undefined) {
      this.#enqueue(taken === 0 ? chunk : chunk.subarray(taken));
      this.#block(sink);
    } else if (last) this.#finish(undefined);
  }

  /** The rest will not come. */
  fail(error: Error): void {
    if (this.#failure !== undefined || (this.#complete && this.#settle === undefined && this.#queuedBytes === 0)) return;
    this.#failure = error;
    this.#clear();
    this.#finish(error);
  }

  /** Nobody wants the rest: whatever is queued and whatever comes is dropped. */
  discard(): void {
    this.#discarding = true;
    this.#clear();
    this.#finish(new BodyAborted('the request was answered before its body was read'));
    this.#flow.resume();
  }

  /** Called about once a second. Bounds pauses, and tells whether the client is to blame for being slow: time that was spent waiting for the sink is not counted. */
  tick(nowMs: number, limits: BodyLimits): 'fine' | 'stalled' {
    const watch = this.#watch;
    const passedMs = watch.tickedMs === 0 ? 0 : Math.min(nowMs - watch.tickedMs, limits.idleTimeoutMs * mostPassed);
    watch.tickedMs = nowMs;
    if (this.#failure !== undefined) return 'fine';
    if (this.#complete) {
      // The last byte may have come in a pause; from now on reading shows only whether the client is still there.
      this.#flow.resume();
      return 'fine';
    }
    if (this.#flow.paused || this.#blocked) {
      watch.pausedMs = this.#flow.paused ? watch.pausedMs + passedMs : 0;
      watch.tickedBytes = this.receivedBytes;
      if (watch.pausedMs >= pauseLimitMs && this.#queuedBytes < probeBytes && BodyReader.#probedByAll < mostProbedBytes) {
        watch.pausedMs = 0;
        this.#flow.resume();
      }
      return 'fine';
    }
    watch.pausedMs = 0;
    watch.quietMs = this.receivedBytes === watch.tickedBytes ? watch.quietMs + passedMs : 0;
    watch.tickedBytes = this.receivedBytes;
    watch.windowMs += passedMs;
    watch.leastRate = Math.min(watch.leastRate, this.#sink?.leastRate?.() ?? 0);
    if (watch.quietMs >= limits.idleTimeoutMs) return 'stalled';
    if (watch.windowMs < limits.idleTimeoutMs) return 'fine';
    const leastRate = Math.max(limits.minimumRateBytesPerSecond, watch.leastRate);
    const slow = this.receivedBytes - watch.windowStartBytes < (leastRate * watch.windowMs) / 1000;
    watch.windowMs = 0;
    watch.leastRate = Infinity;
    watch.windowStartBytes = this.receivedBytes;
    return slow ? 'stalled' : 'fine';
  }

  #offer(sink: BodySink, chunk: Uint8Array): number {
    if (chunk.length === 0) return 0;
    try {
      return sink.write(chunk);
    } catch (error) {
      this.#finish(error);
      return 0;
    }
  }

  #enqueue(chunk: Uint8Array): void {
    this.#queue.push(this.#copies ? new Uint8Array(chunk) : chunk);
    this.#queuedBytes += chunk.length;
  }

  #block(sink: BodySink): void {
    this.#blocked = true;
    this.#flow.pause();
    void this.#continueWhenReady(sink);
  }

  async #continueWhenReady(sink: BodySink): Promise<void> {
    try {
      await sink.ready();
    } catch (error) {
      this.#finish(error);
      return;
    }
    this.#blocked = false;
    this.#drain();
  }

  #drain(): void {
    const sink = this.#sink;
    if (sink === undefined || this.#settle === undefined) return;
    for (let chunk = this.#queue[0]; chunk !== undefined; chunk = this.#queue[0]) {
      const taken = this.#offer(sink, chunk);
      if (this.#settle === undefined) return;
      this.#queuedBytes -= taken;
      if (this.#probedBytes > this.#queuedBytes) this.#countProbed(this.#queuedBytes);
      if (taken < chunk.length) {
        this.#queue[0] = chunk.subarray(taken);
        this.#block(sink);
        return;
      }
      this.#queue.shift();
    }
    if (this.#complete) this.#finish(undefined);
    else this.#flow.resume();
  }

  #countProbed(bytes: number): void {
    BodyReader.#probedByAll += bytes - this.#probedBytes;
    this.#probedBytes = bytes;
  }

  #clear(): void {
    this.#queue.length = 0;
    this.#queuedBytes = 0;
    this.#countProbed(0);
  }

  /** Settles `pipe`, at most once; an error also drops what is still to come. */
  #finish(error: unknown): void {
    const settle = this.#settle;
    this.#settle = undefined;
    if (settle === undefined) return;
    if (error === undefined) {
      settle.resolve();
      return;
    }
    this.#discarding = true;
    this.#clear();
    settle.reject(error);
  }
}

/** The body of a request that has none. */
export const noBody: RequestBody = {
  length: 0,
  bytes: () => Promise.resolve(new Uint8Array(0)),
  pipe: () => Promise.resolve(),
};
