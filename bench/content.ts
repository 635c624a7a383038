// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Incompressible bytes to push, made and hashed before the clock starts. */
import { createHash, type Hash, randomBytes } from 'node:crypto';
import type { Parts } from './wire.js';

export const mebibyte = 1 << 20;
export const gibibyte = 1 << 30;

export interface Content {
  readonly digest: string;
  readonly bytes: number;
  /** The bytes in order. */
  parts(): Parts;
  /** The same, framed for `Transfer-Encoding: chunked`, with the end. */
  chunks(): Parts;
}

/** What docker's client sends at a time (the buffer of Go's io.Copy). */
const chunkBytes = 32 * 1024;
const tailBytes = 32;
const blockBytes = 64 * mebibyte;
const lastChunk = Buffer.from('0\r\n\r\n');

/**
 * Gives any number of contents of `bytes` bytes: one random block, repeated, and a random tail of its own, so that each has its own
 * digest at the price of hashing the tail. The first call pays for hashing the rest.
 */
export function contentsOf(bytes: number): () => Content {
  let prefix: Prefix | undefined;
  let frames: Uint8Array[] | undefined;
  return () => {
    const { blocks, hash } = (prefix ??= makePrefix(bytes - tailBytes));
    const tail = randomBytes(tailBytes);
    return {
      digest: `sha256:${hash.copy().update(tail).digest('hex')}`,
      bytes,
      parts: () => [...blocks, tail],
      chunks() {
        frames ??= frameAll(blocks);
        return [...frames, frame(tail), lastChunk];
      },
    };
  };
}

/** A small content of its own bytes. */
export function contentFrom(data: Uint8Array): Content {
  return {
    digest: `sha256:${createHash('sha256').update(data).digest('hex')}`,
    bytes: data.length,
    parts: () => [data],
    chunks: () => [frame(data), lastChunk],
  };
}

interface Prefix {
  readonly blocks: readonly Uint8Array[];
  readonly hash: Hash;
}

/** The same block as often as it takes, the last one cut short. */
function makePrefix(bytes: number): Prefix {
  const block = randomBytes(Math.min(blockBytes, bytes));
  const blocks = Array.from({ length: Math.ceil(bytes / block.length) }, (_, index) => block.subarray(0, bytes - index * block.length));
  const hash = createHash('sha256');
  for (const each of blocks) hash.update(each);
  return { blocks, hash };
}

/** Frames the whole blocks, which are the same bytes, once. */
function frameAll(blocks: readonly Uint8Array[]): Uint8Array[] {
  const first = blocks[0] ?? new Uint8Array();
  const framed = frame(first);
  return blocks.map((block) => (block.length === first.length ? framed : frame(block)));
}

function frame(data: Uint8Array): Buffer {
  const pieces: Uint8Array[] = [];
  for (let start = 0; start < data.length; start += chunkBytes) {
    const piece = data.subarray(start, start + chunkBytes);
    pieces.push(Buffer.from(`${piece.length.toString(16)}\r\n`), piece, Buffer.from('\r\n'));
  }
  return Buffer.concat(pieces);
}
