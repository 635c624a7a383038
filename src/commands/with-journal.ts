// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { heartbeatMs, joinCluster } from '../jobs/membership.js';
import { runPeriodically } from '../jobs/periodic.js';
import type { Journal } from '../journal/write-entries.js';
import { isRebuilding } from '../rebuild/rebuild-queries.js';
import { claimStore } from '../storage/owner.js';
import type { Parts } from './open-parts.js';

/** A command that writes is a node for as long as it takes: what it leaves unfinished is ended by the others. */
export async function withJournal<T>({ database, store }: Parts, version: string, use: (journal: Journal) => Promise<T>): Promise<T> {
  const { writes } = database;
  const membership = await joinCluster(writes, version, false);
  const beating = runPeriodically(
    heartbeatMs,
    () => membership.beat(),
    // One that fails is followed by the next; if none comes through, the writes fail, and say why.
    () => undefined,
  );
  try {
    if (await isRebuilding(writes)) throw new Error('the database is being rebuilt; let `ha-registry rebuild` go on to its end first');
    const { rows } = await writes.query<{ id: string }>('SELECT id FROM cluster');
    await claimStore(store, rows[0]?.id ?? '');
    await membership.beat();
    return await use({ writes, store, node: membership, active: new Set() });
  } finally {
    await beating.stop();
    await membership.leave().catch(() => undefined);
  }
}
