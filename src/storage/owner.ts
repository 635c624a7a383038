// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { BlobStore } from './blob-store.js';
import { ownerKey } from './keys.js';

/** Makes sure that the store belongs to this database, and marks a new one. Throws an Error that says what does not fit. */
export async function claimStore(store: BlobStore, clusterId: string): Promise<void> {
  const marker = await store.get(ownerKey);
  if (marker === undefined) {
    await store.put(ownerKey, Buffer.from(JSON.stringify({ cluster: clusterId })));
    return;
  }
  const { cluster } = JSON.parse(Buffer.from(marker).toString('utf8')) as { cluster?: unknown };
  if (cluster !== clusterId) {
    throw new Error(
      `the store ${store.location} belongs to the database of cluster ${String(cluster)}, but the database in use is that of cluster ${clusterId}; ` +
        'give each its own partner, or restore the database that goes with the store',
    );
  }
}
