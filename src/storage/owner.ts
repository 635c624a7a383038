// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { BlobStore } from './blob-store.js';
import { ownerKey } from './keys.js';

/** Makes sure that the store belongs to this database, and marks a new one. Throws an Error that says what does not fit. */
export async function claimStore(store: BlobStore, clusterId: string): Promise<void> {
  const cluster = await readOwner(store);
  if (cluster === undefined) return writeOwner(store, clusterId);
  if (cluster !== clusterId) {
    throw new Error(
      `the store ${store.location} belongs to the database of cluster ${cluster}, but the database in use is that of cluster ${clusterId}; ` +
        'give each its own partner, or restore the database that goes with the store, or let `ha-registry rebuild` make a new one from the store',
    );
  }
}

/** Whose store it is; undefined when it is nobody's yet. */
export async function readOwner(store: BlobStore): Promise<string | undefined> {
  const marker = await store.get(ownerKey);
  if (marker === undefined) return undefined;
  const { cluster } = JSON.parse(Buffer.from(marker).toString('utf8')) as { cluster?: unknown };
  return String(cluster);
}

export function writeOwner(store: BlobStore, clusterId: string): Promise<void> {
  return store.put(ownerKey, Buffer.from(JSON.stringify({ cluster: clusterId })));
}
