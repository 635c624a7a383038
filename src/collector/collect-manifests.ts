// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Queryer } from '../database/pool.js';
import { pausePoints } from '../database/pause-points.js';
import { inTransaction } from '../database/transaction.js';
import { postponeMs, type Collection } from './collection.js';
import { beginCollecting } from './gate-queries.js';
import type { Lifetimes } from './lifetimes.js';
import {
  claimManifests,
  deleteManifests,
  deleteReferences,
  findAncestors,
  lockManifests,
  lookAt,
  settleManifests,
  type Liveness,
  type ManifestRow,
  type QueuedManifest,
} from './manifest-queue-queries.js';

/** One batch of manifests that are due. A first look, without a lock, tells which of them are worth one: most are tagged. Returns how many were dealt with. */
export async function collectManifests({ pool, node, counters, delayMs, lifetimesOf }: Collection, limit: number): Promise<number> {
  const done = await inTransaction(pool, async (transaction) => {
    await beginCollecting(transaction, node.id);
    const claimed = await claimManifests(transaction, limit);
    await pausePoints.reached?.('gc.manifests.claimed');
    if (claimed.length === 0) return { claimed: 0, deleted: 0, skipped: 0 };
    const lifetimes = new Map(claimed.map(({ repositoryId, repository }) => [repositoryId, lifetimesOf(repository)]));
    const first = await lookAt(transaction, await findAncestors(transaction, claimed), lifetimes);
    await pausePoints.reached?.('gc.manifests.looked');
    const dead = first.filter(({ live }) => !live);
    const doomed = dead.length === 0 ? [] : await deleteDead(transaction, dead, lifetimes);
    await settleManifests(transaction, settle(claimed, first, doomed, postponeMs(delayMs)));
    await pausePoints.reached?.('gc.manifests.settled');
    return { claimed: claimed.length, deleted: doomed.length, skipped: dead.length - doomed.length };
  });
  await pausePoints.reached?.('gc.manifests.committed');
  counters.manifests += done.deleted;
  counters.skippedLocked += done.skipped;
  counters.looked += done.claimed;
  return done.claimed;
}

/** Lock, then look again in a new statement: what has become live before the lock was had stays, and with it what it holds. */
async function deleteDead(
  transaction: Queryer,
  dead: readonly ManifestRow[],
  lifetimes: ReadonlyMap<string, Lifetimes>,
): Promise<ManifestRow[]> {
  const locked = await lockManifests(transaction, dead);
  await pausePoints.reached?.('gc.manifests.locked');
  const doomed = (await lookAt(transaction, locked, lifetimes)).filter(({ live }) => !live);
  await pausePoints.reached?.('gc.manifests.looked-again');
  await deleteReferences(transaction, doomed);
  await pausePoints.reached?.('gc.manifests.let-go');
  await deleteManifests(transaction, doomed);
  await pausePoints.reached?.('gc.manifests.deleted');
  return doomed;
}

/**
 * A manifest that is gone leaves the queue, and so does one that a tag or another manifest keeps: when that ends, a trigger brings it back. One that its own times keep
 * is looked at when they end; one that was skipped, a little later.
 */
function settle(claimed: readonly QueuedManifest[], first: readonly Liveness[], doomed: readonly ManifestRow[], postpone: number) {
  const looked = new Map(first.map((row) => [keyOf(row), row]));
  const gone = new Set(doomed.map(keyOf));
  return claimed.map((row) => {
    const found = looked.get(keyOf(row));
    return { id: row.id, againMs: found === undefined || gone.has(keyOf(row)) ? undefined : againAfter(found, postpone) };
  });
}

function againAfter({ live, rooted, rootForMs, heldFromOutside }: Liveness, postpone: number): number | undefined {
  if (rooted) return undefined;
  if (rootForMs > 0) return rootForMs;
  return live && !heldFromOutside ? undefined : postpone;
}

function keyOf({ repositoryId, digest }: ManifestRow): string {
  return `${repositoryId} ${digest.toString('hex')}`;
}
