// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { randomBytes } from 'node:crypto';
import type { ByteRange } from '../http/byte-range.js';
import type { StreamBody } from '../http/contract.js';
import type { ByteSource } from '../storage/blob-store.js';

/**
 * A multipart/byteranges body (RFC 9110, 14.6) with exactly the parts that were asked for, in their order: partial pulls of zstd:chunked images fail on any other.
 */
export function multipartBody(
  ranges: readonly ByteRange[],
  size: number,
  stream: (range: ByteRange) => StreamBody,
): { readonly contentType: string; readonly body: StreamBody } {
  const boundary = randomBytes(16).toString('hex');
  const headOf = ({ start, end }: ByteRange): Buffer =>
    Buffer.from(`\r\n--${boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes ${start}-${end - 1}/${size}\r\n\r\n`);
  const closing = Buffer.from(`\r\n--${boundary}--\r\n`);
  const length = ranges.reduce((sum, range) => sum + headOf(range).length + range.end - range.start, closing.length);
  const open = (): Promise<ByteSource> => Promise.resolve(new MultipartSource(ranges, headOf, stream, closing));
  return { contentType: `multipart/byteranges; boundary=${boundary}`, body: { length, open } };
}

class MultipartSource implements ByteSource {
  private readonly ranges: readonly ByteRange[];
  private readonly headOf: (range: ByteRange) => Buffer;
  private readonly stream: (range: ByteRange) => StreamBody;
  private readonly closing: Buffer;
  private index = 0;
  private part: ByteSource | undefined;
  private closed = false;

  constructor(
    ranges: readonly ByteRange[],
    headOf: (range: ByteRange) => Buffer,
    stream: (range: ByteRange) => StreamBody,
    closing: Buffer,
  ) {
    this.ranges = ranges;
    this.headOf = headOf;
    this.stream = stream;
    this.closing = closing;
  }

  async next(): Promise<Uint8Array | undefined> {
    const chunk = await this.part?.next();
    if (chunk !== undefined) return chunk;
    this.part?.close();
    this.part = undefined;
    const range = this.ranges[this.index++];
    if (range === undefined) return this.index === this.ranges.length + 1 ? this.closing : undefined;
    this.part = await this.stream(range).open();
    // The client may have gone while the part was opened.
    if (this.closed) this.part.close();
    return this.headOf(range);
  }

  close(): void {
    this.closed = true;
    this.part?.close();
  }
}
