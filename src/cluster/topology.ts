// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Whether store, database and the other nodes belong together. Everything here throws an Error whose message is one line for the operator. */
import type { Client } from 'pg';
import type { BlobStore } from '../storage/blob-store.js';
import { nodeKey } from '../storage/keys.js';
import { claimStore, foreignStore, readOwner } from '../storage/owner.js';

/** An empty database beside a store that has an owner would serve none of what is there, and collect it in the end. */
export async function refuseEmptyDatabase(store: BlobStore): Promise<void> {
  const owner = await readOwner(store);
  if (owner === undefined) return;
  throw new Error(
    `the database is empty, but the store ${store.location} belongs to cluster ${owner.cluster}: point database.url at the database of that cluster, ` +
      'restore it, or build it anew from the store with ha-registry rebuild',
  );
}

/** Serialises nodes that start, until the client ends: two new stores are not claimed at once, and who joins sees who joined before. */
export async function lockTopology(client: Client): Promise<void> {
  await client.query('SELECT pg_advisory_lock(4872101, 2)');
}

/** Makes sure that the store is this database's, and claims a new one for a new database. */
export async function matchStore(client: Client, store: BlobStore): Promise<void> {
  const { rows } = await client.query<{ id: string; store_id: string | null }>('SELECT id, store_id FROM cluster');
  const { id, store_id: known } = rows[0] as (typeof rows)[number];
  let owner = await readOwner(store);
  if (owner !== undefined && owner.cluster !== id) throw foreignStore(store, owner, id);
  if (owner === undefined && known !== null && (await isInUse(client))) {
    throw new Error(
      `the store ${store.location} is not the one that goes with this database: it has no owner, but the database is in use already. ` +
        'All nodes of a database need the same storage settings; to move a store, copy all of it first',
    );
  }
  if (owner === undefined) {
    const { rows: claimed } = await client.query<{ store_id: string }>(
      'UPDATE cluster SET store_id = COALESCE(store_id, gen_random_uuid()) RETURNING store_id',
    );
    owner = { cluster: id, store: claimed[0]?.store_id ?? id };
    await claimStore(store, owner);
  } else if (known === null) {
    await client.query('UPDATE cluster SET store_id = $1 WHERE store_id IS NULL', [owner.store]);
  } else if (known !== owner.store) {
    throw new Error(
      `the store ${store.location} is store ${owner.store} of cluster ${id}, but its database goes with store ${known}; all nodes need the same storage settings`,
    );
  }
}

/** A store that was claimed, but never marked since the node ended in between, is claimed again. */
async function isInUse(client: Client): Promise<boolean> {
  const { rows } = await client.query<{ used: boolean }>(
    'SELECT EXISTS (SELECT 1 FROM repositories) OR EXISTS (SELECT 1 FROM nodes WHERE node_lives(id)) AS used',
  );
  return rows[0]?.used === true;
}

/** Every node leaves a mark in its store: where one that lives has none, it uses another store, though it be a copy of this one. */
export async function matchNodes(client: Client, store: BlobStore): Promise<number> {
  const { rows } = await client.query<{ id: string; protocol: number; store: string | null }>(
    'SELECT id, protocol, store FROM nodes WHERE node_lives(id) ORDER BY started_at',
  );
  for (const { id, protocol, store: place } of rows) {
    if (protocol < 2 || (await store.get(nodeKey(id))) !== undefined) continue;
    throw new Error(
      `a node of this database uses another store: ${place ?? 'unknown'}, and this one ${store.location}; all nodes need the same storage settings`,
    );
  }
  return rows.length;
}
