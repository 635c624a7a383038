// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { parseEntry, repositoriesPrefix } from '../storage/keys.js';
import type { Collection } from './collection.js';
import { mayDelete } from './empty-trash.js';
import { findHindrance } from './gate-queries.js';
import { beginJob, clearSightings, forgetSightings, listSuspects, noteUnknownData, trashOrphans } from './sweep-queries.js';

const every = '1 day';
const seenFor = '48 hours';
const page = 1000;
/** Suspects in one walk over the links; the others have their turn the next day. */
const mostSuspects = 10_000;
const uuidOfDataKey = /^data\/[0-9a-f]{2}\/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$/;

/**
 * Finds data objects that nothing names: what a crash between two steps left. They go through the trash once they were seen so for 48 hours, and only when the store's
 * links are silent about them, too: data with a link are no orphan, whatever the database says. `onNamed` is told of such.
 */
export async function sweep(
  collection: Pick<Collection, 'pool' | 'store' | 'counters' | 'obstacle' | 'refresh'>,
  onNamed: (uuid: string, link: string) => void,
): Promise<void> {
  const { pool, store, counters, obstacle } = collection;
  if (obstacle() !== undefined || (await findHindrance(pool)) !== undefined || !(await beginJob(pool, 'sweep', every))) return;
  for (let after = ''; ;) {
    if (obstacle() !== undefined) return;
    const keys = await store.list('data/', { after, limit: page });
    const uuids = keys.map((key) => uuidOfDataKey.exec(key)?.[1]).filter((uuid) => uuid !== undefined);
    await noteUnknownData(pool, uuids);
    if (keys.length < page) break;
    after = keys.at(-1) ?? '';
  }
  await forgetSightings(pool, '12 hours');
  const suspects = await listSuspects(pool, seenFor, mostSuspects);
  if (suspects.length === 0) return;
  const named = await findNamed(store, new Set(suspects), onNamed);
  if (!(await mayDelete(collection))) return;
  const orphans = suspects.filter((uuid) => !named.has(uuid));
  counters.orphans += await trashOrphans(pool, orphans);
  await clearSightings(pool, suspects);
}

async function findNamed(
  store: Collection['store'],
  suspects: ReadonlySet<string>,
  onNamed: (uuid: string, link: string) => void,
): Promise<Set<string>> {
  const named = new Set<string>();
  for (let after = ''; ;) {
    const keys = await store.list(repositoriesPrefix, { after, limit: page });
    for (const key of keys) {
      const entry = parseEntry(key);
      if (entry?.kind !== 'link' || !suspects.has(entry.uuid)) continue;
      named.add(entry.uuid);
      onNamed(entry.uuid, key);
    }
    if (keys.length < page) return named;
    after = keys.at(-1) ?? '';
  }
}
