// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { BodyTooLarge, type BodySink } from '../contract.js';

/** A sink that keeps a whole body. Its memory is not from Node's shared pool, so the caller may transfer what it gets. */
export interface BodyCollector extends BodySink {
  /** What was collected; called once, after the last byte. */
  bytes(): Uint8Array;
}

/** Throws `BodyTooLarge` at once where the announced length is past the limit; a chunked body throws it while it arrives. */
export function collectorFor(length: number | undefined, limitBytes: number): BodyCollector {
  if (length === undefined) return new UnknownLength(limitBytes);
  if (length > limitBytes) throw tooLarge(limitBytes);
  return new KnownLength(length);
}

function tooLarge(limitBytes: number): BodyTooLarge {
  return new BodyTooLarge(`the body is larger than ${limitBytes} bytes`);
}

class KnownLength implements BodyCollector {
  readonly #buffer: Uint8Array;
  #filled = 0;

  constructor(length: number) {
    this.#buffer = Buffer.allocUnsafeSlow(length);
  }

  write(chunk: Uint8Array): number {
    this.#buffer.set(chunk, this.#filled);
    this.#filled += chunk.length;
    return chunk.length;
  }

  ready(): Promise<void> {
    return Promise.resolve();
  }

  bytes(): Uint8Array {
    return this.#buffer;
  }
}

class UnknownLength implements BodyCollector {
  readonly #limitBytes: number;
  readonly #chunks: Uint8Array[] = [];
  #filled = 0;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  write(chunk: Uint8Array): number {
    if (this.#filled + chunk.length > this.#limitBytes) throw tooLarge(this.#limitBytes);
    this.#chunks.push(new Uint8Array(chunk));
    this.#filled += chunk.length;
    return chunk.length;
  }

  ready(): Promise<void> {
    return Promise.resolve();
  }

  bytes(): Uint8Array {
    const whole = Buffer.allocUnsafeSlow(this.#filled);
    let at = 0;
    for (const chunk of this.#chunks) {
      whole.set(chunk, at);
      at += chunk.length;
    }
    return whole;
  }
}
