// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { pausePoints } from '../database/pause-points.js';
import { inTransaction } from '../database/transaction.js';
import { postponeMs, type Collection } from './collection.js';
import { beginCollecting } from './gate-queries.js';
import {
  claimBlobs,
  claimLinks,
  deleteDeadBlobs,
  deleteDeadLinks,
  lockBlobs,
  lockLinks,
  settleBlobs,
  settleLinks,
} from './link-queue-queries.js';

/** One batch of links that are due, and of blobs that are left without any. Returns how many rows of the fuller queue it has dealt with. */
export async function collectLinks({ pool, node, counters, delayMs }: Collection, limit: number): Promise<number> {
  const done = await inTransaction(pool, async (transaction) => {
    await beginCollecting(transaction, node.id);
    const claimed = await claimLinks(transaction, limit);
    await pausePoints.reached?.('gc.links.claimed');
    const locked = await lockLinks(transaction, claimed);
    await pausePoints.reached?.('gc.links.locked');
    const links = await deleteDeadLinks(transaction, locked);
    await pausePoints.reached?.('gc.links.deleted');
    // Among them those that the links just deleted have put into the queue.
    const claimedBlobs = await claimBlobs(transaction, limit);
    await pausePoints.reached?.('gc.blobs.claimed');
    const lockedBlobs = await lockBlobs(transaction, claimedBlobs);
    await pausePoints.reached?.('gc.blobs.locked');
    const blobs = await deleteDeadBlobs(transaction, lockedBlobs);
    await pausePoints.reached?.('gc.blobs.deleted');
    const postpone = postponeMs(delayMs);
    const skipped = await settleLinks(transaction, claimed, locked, postpone);
    const skippedBlobs = await settleBlobs(transaction, claimedBlobs, lockedBlobs, postpone);
    await pausePoints.reached?.('gc.links.settled');
    return { links, blobs, skipped: skipped + skippedBlobs, rows: Math.max(claimed.length, claimedBlobs.length) };
  });
  await pausePoints.reached?.('gc.links.committed');
  counters.links += done.links;
  counters.blobs += done.blobs;
  counters.skippedLocked += done.skipped;
  counters.looked += done.rows;
  return done.rows;
}
