// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The store that answers is not the one that it was: a directory whose mount has gone, a bucket that was emptied or made anew, a copy from before. */
import { RegistryError } from '../oci/errors.js';
import type { BlobStore } from './blob-store.js';
import { ownerKey } from './keys.js';

/** The cause of such refusals. The node tells it once; who is refused is told no place. */
export class StoreLost extends Error {
  override readonly name = 'StoreLost';

  constructor(location: string) {
    super(`the store ${location} has lost its marks: is it mounted, and the same as before?`);
  }
}

export function storeLost(location: string): RegistryError {
  return new RegistryError('UNAVAILABLE', 'the store cannot serve this request now', {
    headers: { 'Retry-After': retryAfterSeconds },
    cause: new StoreLost(location),
  });
}

const retryAfterSeconds = '5';

/** Throws 503 where the store is nobody's: what it has not says nothing then. */
export async function requireOwner(store: BlobStore): Promise<void> {
  if ((await store.size(ownerKey)) === undefined) throw storeLost(store.location);
}
