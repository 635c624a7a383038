// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Bytes for a store, and bytes from it. */
import { createHash } from 'node:crypto';
import type { BlobStore } from '../../src/storage/blob-store.js';

export async function read(store: BlobStore, key: string, start: number, end: number): Promise<Buffer> {
  const source = await store.open(key, start, end);
  try {
    return await drain(source);
  } finally {
    source.close();
  }
}

export async function drain(source: Awaited<ReturnType<BlobStore['open']>>): Promise<Buffer> {
  const pieces: Buffer[] = [];
  // A chunk is valid until the next one.
  for (let chunk = await source.next(); chunk !== undefined; chunk = await source.next()) pieces.push(Buffer.from(chunk));
  return Buffer.concat(pieces);
}

export function arrayBufferOf(bytes: Buffer, size: number): ArrayBuffer {
  const buffer = new ArrayBuffer(size);
  new Uint8Array(buffer).set(bytes);
  return buffer;
}

let seed = 0;
export function noise(size: number): Buffer {
  const block = createHash('sha512').update(`noise ${seed++}`).digest();
  const bytes = Buffer.alloc(size);
  for (let at = 0; at < size; at += block.length) {
    block.writeUInt32LE(at, 0);
    block.copy(bytes, at);
  }
  return bytes;
}
