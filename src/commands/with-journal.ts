// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { Continuity } from '../cluster/continuity.js';
import { join } from '../cluster/enter-cluster.js';
import { startPresence } from '../cluster/leadership.js';
import type { Journal } from '../journal/write-entries.js';
import { refuseWhileRebuilding, type Parts } from './open-parts.js';

/** A command that writes is a node for as long as it takes, though it does not lead: what it leaves unfinished is ended by the others. */
export async function withJournal<T>(
  { database, store }: Parts,
  version: string,
  use: (journal: Journal, continuity: Continuity) => Promise<T>,
): Promise<T> {
  const { writes } = database;
  const continuity = new Continuity({ store, log: () => undefined });
  const membership = await join(continuity, { database, store, version, alone: false, refuse: refuseWhileRebuilding });
  // A beat that fails is followed by the next; if none comes through, the writes fail, and say why.
  const presence = startPresence({
    database,
    membership,
    store,
    mayLead: () => false,
    onChange: () => undefined,
    onError: () => undefined,
  });
  try {
    // One may have begun before this node could be seen.
    await refuseWhileRebuilding(writes);
    return await use({ writes, store, node: membership, active: new Set(), history: continuity }, continuity);
  } finally {
    await continuity.close();
    await presence.stop().catch(() => undefined);
  }
}
