// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { BlobStore } from './blob-store.js';
import { ownerKey } from './keys.js';

/** Makes sure that the store belongs to this database, and marks a new one. Throws an Error that says what does not fit. */
export async function claimStore(store: BlobStore, clusterId: string): Promise<void> {
  const cluster = (await readOwner(store)) ?? (await claimNew(store, clusterId));
  if (cluster !== clusterId) {
    throw new Error(
      `the store ${store.location} belongs to the database of cluster ${cluster}, but the database in use is that of cluster ${clusterId}; ` +
        'give each its own partner, or restore the database that goes with the store, or let `ha-registry rebuild` make a new one from the store',
    );
  }
}

/**
 * Marks a store that is nobody's. Nodes of two clusters that do so at once cannot both succeed, without a conditional write: each writes a claim and then lists all
 * claims, so the later of two sees both; and a claim goes only after the marker is written, so who does not see it reads the marker. Nodes of one cluster write the
 * same.
 */
async function claimNew(store: BlobStore, clusterId: string): Promise<string> {
  const own = claimPrefix + clusterId;
  await store.put(own, new Uint8Array());
  const others = (await store.list(claimPrefix)).filter((key) => key !== own);
  const owner = await readOwner(store);
  if (owner === undefined && others.length > 0) {
    await store.delete([own]);
    throw new Error(
      `the store ${store.location} is new, and is being claimed for another database, too (${others.join(', ')}): start only nodes of one of them; ` +
        'a claim of one that is never to start again has to be deleted',
    );
  }
  if (owner === undefined) await writeOwner(store, clusterId);
  await store.delete([own]);
  return owner ?? clusterId;
}

const claimPrefix = 'cluster/claims/';

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
