// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { randomUUID } from 'node:crypto';
import { gcProtocol } from '../collector/gate-queries.js';
import type { Queryer } from '../database/pool.js';
import type { BlobStore } from '../storage/blob-store.js';
import { nodeKey } from '../storage/keys.js';

/** This process among the nodes. A node that was declared dead comes back under a new id, so that nothing it began before can be committed. */
export interface Membership {
  /** Changes when the node had to come back. */
  readonly id: string;
  /** Comes back under a new id. */
  rejoin(queryer: Queryer): Promise<void>;
  leave(queryer: Queryer): Promise<void>;
}

export interface Joining {
  readonly version: string;
  readonly store: BlobStore;
  /** For which the node has verified the writes that it remembers. */
  readonly generation: () => bigint;
}

/** 2: holds its lock while it lives, and has its mark in the store. */
const protocol = 2;

export async function joinCluster(queryer: Queryer, { version, store, generation }: Joining): Promise<Membership> {
  /** Its mark is in the store, its row is not: where the store is slow, `on` may be lost until then. */
  let marked: string | undefined;
  const join = async (on: Queryer): Promise<string> => {
    const id = marked ?? randomUUID();
    // Before the row, so that whoever sees the row finds the mark.
    if (marked === undefined) await store.put(nodeKey(id), Buffer.from(JSON.stringify({ version })));
    marked = id;
    await on.query(`INSERT INTO nodes (id, version, protocol, gc_protocol, store, generation) VALUES ($1, $2, $3, $4, $5, $6)`, [
      id,
      version,
      protocol,
      gcProtocol,
      `${store.kind} ${store.location}`,
      generation(),
    ]);
    marked = undefined;
    return id;
  };
  const member = {
    id: await join(queryer),
    async rejoin(on: Queryer) {
      member.id = await join(on);
    },
    async leave(on: Queryer) {
      await on.query('DELETE FROM nodes WHERE id = $1', [member.id]);
      await store.delete([nodeKey(member.id)]);
    },
  };
  return member;
}

/** Where nobody else can be alive on this database, every row is of a process that ended without a goodbye. */
export async function forgetNodes(queryer: Queryer, store: BlobStore): Promise<void> {
  const { rows } = await queryer.query<{ id: string }>('DELETE FROM nodes RETURNING id');
  await store.delete(rows.map(({ id }) => nodeKey(id)));
}
