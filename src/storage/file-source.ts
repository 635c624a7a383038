// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { close, open, read } from 'node:fs';
import { promisify } from 'node:util';
import type { ByteSource } from './blob-store.js';

const openFile = promisify(open);

/** Measured best on loopback: 1 MiB; with 64 KiB the calls cost more than the bytes, with 4 MiB they fall out of the cache before they are sent. */
const bufferBytes = 1024 * 1024;
/** Of streams that begin while there are many: each has two buffers, and may be kept for as long as its client likes. */
const bufferBytesOfMany = 64 * 1024;
const many = 64;
let openSources = 0;
/** Buffers of streams that have ended, for the next ones. */
const spareBuffers: Buffer[] = [];
const mostSpareBuffers = 16;

/** Bytes `start` to before `end` of a file, read one buffer ahead of the sender. */
export async function openFileSource(path: string, start: number, end: number): Promise<ByteSource> {
  return new FileSource(await openFile(path, 'r'), path, start, end);
}

class FileSource implements ByteSource {
  private readonly file: number;
  private readonly path: string;
  private position: number;
  private readonly end: number;
  private readonly buffers: Buffer[] = [];
  private turn = 0;
  private ahead: Promise<Uint8Array> | undefined;
  private closed = false;
  private readonly bufferBytes = ++openSources > many ? bufferBytesOfMany : bufferBytes;

  constructor(file: number, path: string, start: number, end: number) {
    this.file = file;
    this.path = path;
    this.position = start;
    this.end = end;
  }

  async next(): Promise<Uint8Array | undefined> {
    if (this.position >= this.end && this.ahead === undefined) return undefined;
    this.ahead ??= this.read();
    const chunk = await this.ahead;
    // The buffer of the chunk before this one is free now; the next chunk goes there while this one is sent.
    this.ahead = this.position < this.end && !this.closed ? this.read() : undefined;
    this.ahead?.catch(() => undefined);
    return chunk;
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    openSources--;
    const release = (): void => {
      close(this.file, () => undefined);
      for (const buffer of this.buffers)
        if (buffer.length === bufferBytes && spareBuffers.length < mostSpareBuffers) spareBuffers.push(buffer);
    };
    if (this.ahead === undefined) release();
    // A read that is still to come writes into its buffer, by a descriptor that must not be another file's meanwhile.
    else this.ahead.then(release, release);
  }

  private read(): Promise<Uint8Array> {
    const length = Math.min(this.bufferBytes, this.end - this.position);
    const buffer = (this.buffers[this.turn] ??= this.takeBuffer(length));
    this.turn = 1 - this.turn;
    const position = this.position;
    this.position += length;
    return new Promise((resolve, reject) => {
      const readOn = (filled: number): void => {
        read(this.file, buffer, filled, length - filled, position + filled, (error, count) => {
          if (error !== null) reject(error);
          else if (count === 0) reject(new Error(`${this.path} ends at ${position + filled}, before ${this.end}`));
          else if (filled + count < length) readOn(filled + count);
          else resolve(length === buffer.length ? buffer : buffer.subarray(0, length));
        });
      };
      readOn(0);
    });
  }

  private takeBuffer(length: number): Buffer {
    // A small object does not take a large buffer.
    if (this.bufferBytes < bufferBytes || (this.end - this.position <= length && length < bufferBytes))
      return Buffer.allocUnsafeSlow(length);
    return spareBuffers.pop() ?? Buffer.allocUnsafeSlow(bufferBytes);
  }
}
