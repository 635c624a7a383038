// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { BlobStore } from './blob-store.js';
import { claimsPrefix, ownerKey } from './keys.js';

/** Whose store it is. */
export interface Owner {
  readonly cluster: string;
  /** Of the store itself: another store of the same cluster has another. */
  readonly store: string;
}

/** undefined for a store that nobody has claimed yet. */
export async function readOwner(store: BlobStore): Promise<Owner | undefined> {
  const marker = await store.get(ownerKey);
  if (marker === undefined) return undefined;
  const { cluster, store: id } = JSON.parse(Buffer.from(marker).toString('utf8')) as { cluster?: unknown; store?: unknown };
  // The first markers had no id of the store; there was one store per cluster then.
  return { cluster: String(cluster), store: String(id ?? cluster) };
}

/** Marks a store that has no owner. Of two clusters that do so at once at most one succeeds: each says first that it will, and then looks who else does. */
export async function claimStore(store: BlobStore, owner: Owner): Promise<void> {
  const claim = claimsPrefix + owner.cluster;
  await store.put(claim, new Uint8Array());
  const [other] = (await store.list(claimsPrefix)).filter((key) => key !== claim);
  const found = await readOwner(store);
  if (other === undefined && found === undefined) await store.put(ownerKey, Buffer.from(JSON.stringify(owner)));
  await store.delete([claim]);
  if (found !== undefined && found.cluster !== owner.cluster) throw foreignStore(store, found, owner.cluster);
  if (other !== undefined && found === undefined) {
    throw new Error(
      `the store ${store.location} is being claimed by cluster ${other.slice(claimsPrefix.length)}, too; start again, or delete ${other} there if that cluster is gone`,
    );
  }
}

export function foreignStore(store: BlobStore, { cluster }: Owner, own: string): Error {
  return new Error(
    `the store ${store.location} belongs to the database of cluster ${cluster}, but the database in use is that of cluster ${own}; ` +
      'give each its own partner, or restore the database that goes with the store, or let `ha-registry rebuild` make a new one from the store',
  );
}
