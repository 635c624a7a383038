// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { setTimeout as delay } from 'node:timers/promises';
import { asRegistryError, isConnectionLoss, isTransient, sqlState, sqlStateOf, unavailable } from '../database/failures.js';
import { pausePoints } from '../database/pause-points.js';
import type { Queryer } from '../database/pool.js';
import type { Quotas } from '../quota/quotas.js';
import type { BlobStore } from '../storage/blob-store.js';
import { entryKey, isTagEntry, type KeyTemplate } from '../storage/keys.js';
import { abandonOwnWrite, deleteTrash } from './journal-queries.js';
import { sideBySide } from './side-by-side.js';

/** What writing needs: the write pool, the store, and which node writes. */
export interface Journal {
  readonly writes: Queryer;
  readonly store: BlobStore;
  readonly node: { readonly id: string };
  /** Sequences that are being written now. What else is pending in this node's name is of unknown outcome. */
  readonly active: Set<bigint>;
  readonly history: History;
  /** What clients may fill; undefined where there are no limits, or nobody asks for them. */
  readonly quotas?: Quotas | undefined;
}

/** Notices a database that has gone back in time, or a store that is another, and remembers what it must not forget (cluster/continuity.ts). */
export interface History {
  /** Changes whenever it became uncertain which database answers. */
  readonly epoch: number;
  /** The highest sequence seen so far. */
  readonly highest: bigint;
  /** Rejects with 503 when a statement that was sent when the highest was `before` has drawn an older one. */
  drawn(sequence: bigint, before: bigint): Promise<void>;
  /** Rejects with 503 when the store that answers has not the mark of this node. */
  requireStore(): Promise<void>;
  /** False when the write is not to be acknowledged: the database that committed it may be another than the one that answers now. */
  remember(write: { readonly sequence: bigint; readonly templates: readonly KeyTemplate[] }, epoch: number): boolean;
}

/** Entries that are about to be written, or, when nothing has to be, the outcome. */
export type Prepared<Outcome> =
  | { readonly done: Outcome }
  | {
      readonly sequence: bigint;
      /** Writes the data that the objects will name, where that is not done yet. */
      readonly writeData?: () => Promise<void>;
      /** In the order in which they are written: what names another object comes after it. Nothing names tags, which come last and side by side. */
      readonly objects: readonly { readonly template: KeyTemplate; readonly bytes: Uint8Array }[];
      /** One transaction that makes the entries count and removes the pending row. */
      commit(): Promise<void>;
      readonly outcome: Outcome;
    };

/**
 * The write protocol: an intent, the objects, the commit. When a commit finds its ground changed, all of it starts again with a newer sequence. `prepare` is told who
 * writes: the intent and its commit are in the name of one node, and one that was declared dead in between, and came back under another id, commits nothing of before.
 * Throws RegistryError 503 after five attempts, or when Postgres or the store cannot be reached. Where the client has gone (`signal`) nothing starts again: a node that
 * was frozen must not do, after what others did since, what its client has given up.
 */
export async function writeEntries<Outcome>(
  journal: Journal,
  prepare: (node: string) => Promise<Prepared<Outcome>>,
  signal?: AbortSignal,
): Promise<Outcome> {
  let last: unknown;
  for (let attempt = 1; attempt <= mostAttempts; attempt++) {
    // A process that was frozen hears that its client has gone after what its other sockets have for it, and so within this pause.
    if (attempt > 1) await delay(leastPauseMs + Math.random() * pauseMs * attempt);
    signal?.throwIfAborted();
    const owner = journal.node.id;
    const since = { time: performance.now(), epoch: journal.history.epoch };
    const highest = journal.history.highest;
    const prepared = await prepareOnce(() => prepare(owner));
    if (prepared === undefined) continue;
    if ('done' in prepared) return prepared.done;
    await journal.history.drawn(prepared.sequence, highest);
    await pausePoints.reached?.('write.prepared');
    journal.active.add(prepared.sequence);
    try {
      const result = await writeOnce(journal, owner, prepared, since);
      if (result === 'committed') return prepared.outcome;
      last = result.failure;
    } finally {
      journal.active.delete(prepared.sequence);
    }
    if (!isTransient(last) && sqlStateOf(last) !== sqlState.alreadyStored) throw asRegistryError(last);
  }
  throw unavailable('other writers keep changing this; try again', last);
}

const mostAttempts = 5;
/** Writers that collided do not meet again at once. */
const pauseMs = 20;
const leastPauseMs = 5;
/** Half of what `setOutcomeUnknown` waits before it gives up a write of this node. */
const certainWithinMs = 60_000;
/** Objects are begun within this time of their intent: whoever expires the intent counts on it. */
const objectsWithinMs = 60_000;
/** A manifest may have thousands of tags, and all of them go with it. */
export const tagsAtOnce = 16;

async function prepareOnce<Outcome>(prepare: () => Promise<Prepared<Outcome>>): Promise<Prepared<Outcome> | undefined> {
  try {
    return await prepare();
  } catch (error) {
    if (isTransient(error)) return undefined;
    throw asRegistryError(error);
  }
}

type Writable = Exclude<Prepared<unknown>, { readonly done: unknown }>;

async function writeOnce(
  journal: Journal,
  owner: string,
  prepared: Writable,
  since: { readonly time: number; readonly epoch: number },
): Promise<'committed' | { readonly failure: unknown }> {
  try {
    await putObjects(journal.store, prepared);
    // An object store that is gone takes nothing; a directory that is not mounted takes everything.
    if (journal.store.kind === 'filesystem') await journal.history.requireStore();
  } catch (failure) {
    await withdraw(journal, owner, prepared, true);
    return { failure };
  }
  await pausePoints.reached?.('write.stored');
  try {
    await prepared.commit();
    return acknowledge(journal, prepared, since.epoch);
  } catch (failure) {
    const lost = isConnectionLoss(failure);
    const withdrawn = await withdraw(journal, owner, prepared, false);
    // Its answer was lost, but the pending row is gone, which while we are a node only the commit removes; or our own expiry, much later.
    const committed = lost && withdrawn === false && performance.now() - since.time < certainWithinMs;
    return committed ? acknowledge(journal, prepared, since.epoch) : { failure };
  }
}

/** What another database than the one that was asked says of a write means nothing: the client asks again. */
function acknowledge({ history }: Journal, { sequence, objects }: Writable, epoch: number): 'committed' | { readonly failure: unknown } {
  if (history.remember({ sequence, templates: objects.map(({ template }) => template) }, epoch)) return 'committed';
  return { failure: unavailable('the database has changed meanwhile') };
}

async function putObjects(store: BlobStore, { writeData, objects, sequence }: Writable): Promise<void> {
  const since = performance.now();
  await writeData?.();
  const put = async ({ template, bytes }: (typeof objects)[number]): Promise<void> => {
    if (performance.now() - since > objectsWithinMs) throw Object.assign(new Error('the store is too slow'), { code: sqlState.startAgain });
    await store.put(entryKey(template, sequence), bytes);
  };
  const tagsFrom = objects.findLastIndex(({ template }) => !isTagEntry(template)) + 1;
  for (const object of objects.slice(0, tagsFrom)) await put(object);
  await sideBySide(objects.slice(tagsFrom), tagsAtOnce, put);
}

/**
 * Ends a pending write that did not come to its commit, or whose commit failed: takes its row away, which fences a commit that is still on its way, and deletes its
 * objects. False when the row is gone already. Undefined when Postgres or the store cannot be asked: nothing is decided then, and the row, or the trash, tells later.
 */
async function withdraw(
  journal: Journal,
  owner: string,
  { sequence, objects }: Writable,
  mayLandLate: boolean,
): Promise<boolean | undefined> {
  try {
    if (!(await abandonOwnWrite(journal.writes, owner, sequence, mayLandLate))) return false;
    const keys = objects.map(({ template }) => entryKey(template, sequence));
    await journal.store.delete(keys);
    await journal.history.requireStore();
    await deleteTrash(journal.writes, keys);
    return true;
  } catch {
    return undefined;
  }
}
