// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type pg from 'pg';
import { asRegistryError, isConnectionLoss, isTransient, sqlState, sqlStateOf, unavailable } from '../database/failures.js';
import type { BlobStore } from '../storage/blob-store.js';
import { entryKey, type KeyTemplate } from '../storage/keys.js';
import { abandonPendingWrite, deleteTrash } from './journal-queries.js';

/** What writing needs: the write pool, the store, and which node writes. */
export interface Journal {
  readonly writes: pg.Pool;
  readonly store: BlobStore;
  readonly node: { readonly id: string };
  /** Sequences whose commit may or may not have happened, for the job that settles them when Postgres is back. */
  readonly unsettled: Set<bigint>;
}

/** Entries that are about to be written, or, when nothing has to be, the outcome. */
export type Prepared<Outcome> =
  | { readonly done: Outcome }
  | {
      readonly sequence: bigint;
      /** In the order in which they are written: what names another object comes after it. */
      readonly objects: readonly { readonly template: KeyTemplate; readonly bytes: Uint8Array }[];
      /** One transaction that makes the entries count and removes the pending row. */
      commit(): Promise<void>;
      readonly outcome: Outcome;
    };

/**
 * The write protocol: an intent, the objects, the commit. When a commit finds its ground changed, all of it starts again with a newer sequence.
 * Throws RegistryError 503 after five attempts, or when Postgres or the store cannot be reached.
 */
export async function writeEntries<Outcome>(journal: Journal, prepare: () => Promise<Prepared<Outcome>>): Promise<Outcome> {
  let last: unknown;
  for (let attempt = 1; attempt <= mostAttempts; attempt++) {
    const prepared = await prepareOnce(prepare);
    if (prepared === undefined) continue;
    if ('done' in prepared) return prepared.done;
    try {
      await putObjects(journal.store, prepared);
      await prepared.commit();
      return prepared.outcome;
    } catch (error) {
      if (await settle(journal, prepared, error)) return prepared.outcome;
      if (!isTransient(error) && sqlStateOf(error) !== sqlState.alreadyStored) throw asRegistryError(error);
      last = error;
    }
  }
  throw unavailable('other writers keep changing this; try again', last);
}

const mostAttempts = 5;
/** Objects are begun within this time of their intent: whoever expires the intent counts on it. */
const objectsWithinMs = 60_000;

async function prepareOnce<Outcome>(prepare: () => Promise<Prepared<Outcome>>): Promise<Prepared<Outcome> | undefined> {
  try {
    return await prepare();
  } catch (error) {
    if (isTransient(error)) return undefined;
    throw asRegistryError(error);
  }
}

async function putObjects(
  store: BlobStore,
  { objects, sequence }: { objects: readonly { template: KeyTemplate; bytes: Uint8Array }[]; sequence: bigint },
): Promise<void> {
  const since = performance.now();
  for (const { template, bytes } of objects) {
    if (performance.now() - since > objectsWithinMs) throw Object.assign(new Error('the store is too slow'), { code: sqlState.startAgain });
    await store.put(entryKey(template, sequence), bytes);
  }
}

/**
 * Ends a pending write whose commit failed or was never reached. True when the commit turns out to have succeeded after all: its answer was lost, but the pending
 * row, which only the commit removes, is gone. Otherwise the row is taken away here, which fences any late commit, and the objects are deleted.
 */
async function settle(
  journal: Journal,
  prepared: { objects: readonly { template: KeyTemplate }[]; sequence: bigint },
  cause: unknown,
): Promise<boolean> {
  const { sequence } = prepared;
  const lost = isConnectionLoss(cause);
  try {
    if (!(await abandonPendingWrite(journal.writes, sequence, lost))) return lost;
    const keys = prepared.objects.map(({ template }) => entryKey(template, sequence));
    await journal.store.delete(keys);
    await deleteTrash(journal.writes, keys);
  } catch {
    // Without Postgres nothing can be decided, and nothing is lost: the row tells later.
    if (lost) journal.unsettled.add(sequence);
  }
  return false;
}
