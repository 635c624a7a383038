// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import type { ByteSource } from './blob-store.js';
import { pauseBefore } from './s3-retry.js';

/** Bytes `start` to before `end` as a stream of exactly that length. */
export type GetRange = (start: number, end: number) => Promise<Readable>;

/** A server that sends nothing for this long while we wait is asked again. */
const stallMs = 10_000;
/** Without a byte in between. */
const mostReopenings = 5;

/** Bytes `start` to before `end` of an object. A stream that breaks off, or was cut because its reader was slow, is taken up where it was. */
export async function openS3Source(get: GetRange, start: number, end: number): Promise<ByteSource> {
  const source = new S3Source(get, start, end);
  if (start < end) await source.reopen();
  return source;
}

class S3Source implements ByteSource {
  private readonly get: GetRange;
  private position: number;
  private readonly end: number;
  private stream: Readable | undefined;
  private chunks: AsyncIterator<Uint8Array> | undefined;
  private closed = false;

  constructor(get: GetRange, start: number, end: number) {
    this.get = get;
    this.position = start;
    this.end = end;
  }

  async reopen(): Promise<void> {
    this.stream?.destroy();
    const stream = await this.get(this.position, this.end);
    // What happens while nobody reads is told to who reads next.
    stream.on('error', () => undefined);
    // The reader may have gone meanwhile.
    if (this.closed) stream.destroy();
    this.stream = stream;
    this.chunks = stream[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
  }

  async next(): Promise<Uint8Array | undefined> {
    for (let failures = 0; this.position < this.end;) {
      try {
        const chunk = await this.read();
        this.position += chunk.byteLength;
        // Only a stream whose end was read gives its connection back.
        if (this.position === this.end) this.chunks?.next().catch(() => undefined);
        return chunk;
      } catch (error) {
        if (this.closed || ++failures > mostReopenings) throw error;
        if (failures > 1) await delay(pauseBefore(failures));
        await this.reopen();
      }
    }
    return undefined;
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    if (this.position < this.end) this.stream?.destroy();
  }

  private async read(): Promise<Uint8Array> {
    const { stream, chunks } = this;
    const timer = setTimeout(() => stream?.destroy(new Error(`the object store sent nothing for ${stallMs} ms`)), stallMs);
    try {
      const result = await chunks?.next();
      if (result === undefined || result.done === true)
        throw new Error(`the object store's answer ended at ${this.position}, before ${this.end}`);
      return result.value;
    } finally {
      clearTimeout(timer);
    }
  }
}
