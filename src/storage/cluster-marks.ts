// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What the store remembers of its database, under `cluster/`: the generation, and how far the sequences went. */
import type { BlobStore } from './blob-store.js';
import { blocksPrefix, countedKey, countOf, generationsPrefix, highWaterPrefix } from './keys.js';

/** Which database the store goes with since when. */
export interface GenerationMark {
  readonly generation: bigint;
  readonly fingerprint: string;
}

/** Sequences per block: one object per so many writes. */
export const blockSize = 10_000n;

/** The newest generation; undefined where none was recorded yet. */
export async function readGeneration(store: BlobStore): Promise<GenerationMark | undefined> {
  const [key] = await store.list(generationsPrefix, { limit: 1 });
  if (key === undefined) return undefined;
  const generation = countOf(generationsPrefix, key);
  const body = await store.get(key);
  if (body === undefined) throw new Error(`${key} cannot be read`);
  const { fingerprint } = JSON.parse(Buffer.from(body).toString('utf8')) as { fingerprint?: unknown };
  return { generation, fingerprint: String(fingerprint) };
}

/**
 * Two nodes may write the same mark: for the same database it has the same bytes. Where two databases were taken for the newest at once, the later one's mark replaces the
 * other's: whoever reads it then and finds a stranger's goes on to the next generation, and the stranger is the old one.
 */
export function writeGeneration(store: BlobStore, { generation, fingerprint }: GenerationMark): Promise<void> {
  return store.put(countedKey(generationsPrefix, generation), Buffer.from(JSON.stringify({ fingerprint })));
}

/** The highest sequence that was recorded as given out; 0 where none was. */
export function readHighWater(store: BlobStore): Promise<bigint> {
  return newest(store, highWaterPrefix);
}

export function writeHighWater(store: BlobStore, sequence: bigint): Promise<void> {
  return writeNewest(store, highWaterPrefix, sequence);
}

/** The first sequence that is certainly not in use; 0 where nothing was recorded. */
export async function readBlocksEnd(store: BlobStore): Promise<bigint> {
  const [key] = await store.list(blocksPrefix, { limit: 1 });
  return key === undefined ? 0n : (countOf(blocksPrefix, key) + 1n) * blockSize;
}

/** Notes that sequences below `end` may be in use. */
export function writeBlocksEnd(store: BlobStore, end: bigint): Promise<void> {
  return writeNewest(store, blocksPrefix, end / blockSize - 1n);
}

async function newest(store: BlobStore, prefix: string): Promise<bigint> {
  const [key] = await store.list(prefix, { limit: 1 });
  return key === undefined ? 0n : countOf(prefix, key);
}

/** The ones before it have nothing to say any more. */
async function writeNewest(store: BlobStore, prefix: string, count: bigint): Promise<void> {
  const key = countedKey(prefix, count);
  await store.put(key, new Uint8Array());
  const older = await store.list(prefix, { after: key, limit: 100 });
  if (older.length > 0) await store.delete(older);
}
