// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Digest } from '../oci/digest.js';
import { RegistryError } from '../oci/errors.js';
import type { BlobStore, ByteSource } from '../storage/blob-store.js';
import type { LinkedBlob } from './link-queries.js';

/** Looks after data that could not be read (scrub/record-losses.ts). */
export interface LostData {
  /** True when the store has lost them for certain; from then on the blob counts as not there. */
  isLost(digest: Digest, data: Pick<LinkedBlob, 'uuid' | 'key' | 'size'>): Promise<boolean>;
}

export interface DataReads {
  readonly store: BlobStore;
  readonly lost: LostData;
  /** What who reads lost data is told. */
  readonly damaged: () => RegistryError;
}

/** Bytes `start` to before `end` of a blob. Where they turn out to be lost, that is noted, so that who asks next is told that the blob is not there, and pushes it. */
export async function openData(
  { store, lost, damaged }: DataReads,
  digest: Digest,
  blob: LinkedBlob,
  start: number,
  end: number,
): Promise<ByteSource> {
  let closed = false;
  const explain = async (error: unknown): Promise<never> => {
    // A store that cannot serve now has lost nothing, nor has one whose reader went away.
    if (!closed && !(error instanceof RegistryError) && (await lost.isLost(digest, blob))) throw damaged();
    throw error;
  };
  const source = await store.open(blob.key, start, end).catch(explain);
  return {
    next: () => source.next().catch(explain),
    close() {
      closed = true;
      source.close();
    },
  };
}
