// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What kills may have left behind: rows that nobody ends, and data that no row names. Asks the embedded database through its socket. */
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from 'pg';
import { connectEmbedded } from '../support/embedded-connection.js';
import { readStore, type Readings } from './read-store.js';
import { filesOf, type StoredObjects } from './stored-objects.js';

export interface Leaks {
  readonly pendingWrites: number;
  readonly sessions: number;
  readonly overdueTrash: number;
  /** Data objects that no link, session, trash row or blob row names. */
  readonly unknownData: readonly string[];
  /** Data objects whose last link was deleted, until garbage is collected. */
  readonly uncollected: number;
  /** Keys in the trash although a live row names them. */
  readonly trashInUse: number;
}

/** Looks until there is nothing, or the time is up. */
export async function findLeaks(root: string, read: Readings, withinMs: number): Promise<Leaks> {
  const client = await connectEmbedded(root);
  try {
    const store = filesOf(path.join(root, 'store'));
    for (const deadline = Date.now() + withinMs; ; await sleep(500)) {
      const leaks = await look(client, store, read);
      const { pendingWrites, sessions, overdueTrash, unknownData } = leaks;
      if (pendingWrites + sessions + overdueTrash + unknownData.length === 0 || Date.now() > deadline) return leaks;
    }
  } finally {
    await client.end();
  }
}

async function look(client: Client, store: StoredObjects, read: Readings): Promise<Leaks> {
  const count = async (from: string): Promise<number> =>
    Number((await client.query<{ count: string }>(`SELECT count(*) FROM ${from}`)).rows[0]?.count);
  // Names are read after the listing: what is named later than listed is no leak.
  const { data, linked } = await readStore(store, read);
  const { rows } = await client.query<{ uuid: string; linked: boolean }>(
    `SELECT data_uuid AS uuid, true AS linked FROM upload_sessions
     UNION SELECT right(key, 36)::uuid, true FROM object_trash WHERE key LIKE 'data/%'
     UNION SELECT b.uuid, EXISTS (SELECT FROM repository_blobs rb WHERE rb.digest = b.digest AND rb.uuid = b.uuid) FROM blobs b`,
  );
  const named = new Set(rows.map(({ uuid }) => uuid));
  const unlinked = new Set(rows.filter((row) => !row.linked).map(({ uuid }) => uuid));
  return {
    pendingWrites: await count('pending_writes'),
    sessions: await count('upload_sessions'),
    overdueTrash: await count('object_trash WHERE not_before <= now()'),
    unknownData: [...data].filter((uuid) => !linked.has(uuid) && !named.has(uuid)),
    uncollected: [...data].filter((uuid) => unlinked.has(uuid)).length,
    trashInUse: await count('object_trash t JOIN blobs b ON t.key = data_key(b.uuid)'),
  };
}
