// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { BlobStore } from '../storage/blob-store.js';

const largestSequence = 9223372036854775807n;
/** As cluster/ counts: blocks of sequences by their number, and single sequences. */
const blockSize = 10_000n;

/** Sequences up to this one may have been drawn, as nodes have noted under `cluster/`; 0 where nothing was. */
export async function recordedSequence(store: BlobStore): Promise<bigint> {
  const block = await highest(store, 'cluster/blocks/');
  const highWater = (await highest(store, 'cluster/high-water/')) ?? 0n;
  const blocksEnd = block === undefined ? 0n : (block + 1n) * blockSize;
  return blocksEnd > highWater ? blocksEnd : highWater;
}

/** The highest count lists first. */
async function highest(store: BlobStore, prefix: string): Promise<bigint | undefined> {
  const [key] = await store.list(prefix, { limit: 1 });
  const text = key?.slice(prefix.length) ?? '';
  return /^\d{20}$/.test(text) ? largestSequence - BigInt(text) : undefined;
}
