// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * Old records: what a tag pointed at before the undo window began, and deletions of before that. What counts stays: the newest entry of a tag, and a deletion as long as
 * there is anything that it hides, or that may still come below it. Records go rows first and objects by the trash, so that a rebuild in between finds some again, and no more.
 */
import { isTransient } from '../database/failures.js';
import { pausePoints } from '../database/pause-points.js';
import type { Tag } from '../oci/reference.js';
import type { RepositoryName } from '../oci/repository-name.js';
import { distributionRepositories } from '../rebuild/distribution-layout.js';
import { deletionTemplate, entryKey, tagPrefix, tagTemplate } from '../storage/keys.js';
import type { Collection } from './collection.js';
import { findHindrance } from './gate-queries.js';
import { listDeletions, listPastEntries, pruneDeletion, pruneHistory, type Deletion, type PastEntry } from './prune-queries.js';
import { beginJob } from './sweep-queries.js';

const mostEveryMs = 86_400_000;
const page = 1000;
/** Listings side by side. */
const looksAtOnce = 16;

/** Records that go together, with their keys. */
export type Prunable = { readonly keys: readonly string[] } & (
  | {
      readonly kind: 'history';
      readonly repositoryId: string;
      readonly tag: Tag;
      readonly path: string;
      readonly sequences: readonly bigint[];
    }
  | ({ readonly kind: 'deletion' } & Deletion)
);

/** Once a day, or as often as a delay passes where that is shorter. */
export async function pruneWhenDue(collection: Collection): Promise<void> {
  if (!(await mayCollect(collection))) return;
  if (await beginJob(collection.pool, 'prune', `${Math.min(mostEveryMs, collection.delayMs)} milliseconds`)) await prune(collection);
}

async function mayCollect({ pool, obstacle }: Collection): Promise<boolean> {
  return obstacle() === undefined && (await findHindrance(pool)) === undefined;
}

/** A page at a time, and a transaction for each tag or deletion; safe on several nodes at once. */
export async function prune(collection: Collection): Promise<void> {
  const { pool, node, counters } = collection;
  await pausePoints.reached?.('gc.prune.begin');
  for await (const found of findPrunable(collection)) {
    if (!(await mayCollect(collection))) return;
    await pausePoints.reached?.('gc.prune.looked');
    for (const records of found) {
      try {
        if (records.kind === 'history') counters.records += await pruneHistory(pool, node.id, records);
        else if (await pruneDeletion(pool, node.id, records)) counters.records++;
      } catch (error) {
        // Somebody pushes there, and goes first: the next time.
        if (!isTransient(error)) throw error;
        counters.skippedLocked++;
      }
      await pausePoints.reached?.('gc.prune.committed');
    }
  }
}

/** What may go now. The deletion of a tag is found only when nothing of its history is left, and so not in the same round. */
export async function* findPrunable({ pool, store }: Pick<Collection, 'pool' | 'store'>): AsyncGenerator<readonly Prunable[]> {
  const isTakenOver = await findTakenOver(store);
  for (let last: PastEntry | undefined; ;) {
    const entries = await listPastEntries(pool, last, page);
    yield await look(byTag(entries.filter(({ due }) => due)), async ([first, ...others]) =>
      (await isTakenOver(first.repository)) ? undefined : lookAtTag(store, first, [first, ...others]),
    );
    last = entries.at(-1);
    if (entries.length < page) break;
  }
  for (let last = ''; ;) {
    const deletions = await listDeletions(pool, last, page);
    yield await look(
      deletions.filter(({ due }) => due),
      async (deletion) => ((await isTakenOver(deletion.repository)) ? undefined : lookAtDeletion(store, deletion)),
    );
    last = deletions.at(-1)?.path ?? '';
    if (deletions.length < page) return;
  }
}

function byTag(entries: readonly PastEntry[]): [PastEntry, ...PastEntry[]][] {
  const tags: [PastEntry, ...PastEntry[]][] = [];
  for (const entry of entries) {
    const last = tags.at(-1);
    if (last?.[0].tag === entry.tag && last[0].repositoryId === entry.repositoryId) last.push(entry);
    else tags.push([entry]);
  }
  return tags;
}

/** Only what is older than an entry that the store has. */
async function lookAtTag(
  store: Collection['store'],
  { repositoryId, repository, tag }: PastEntry,
  past: readonly PastEntry[],
): Promise<Prunable | undefined> {
  const path = tagPrefix(repository, tag);
  const [newest] = await store.list(path, { limit: 1 });
  const older = past
    .map(({ sequence, digest }) => {
      const template = digest === undefined ? deletionTemplate(path) : tagTemplate(repository, tag, digest);
      return { sequence, key: entryKey(template, sequence) };
    })
    .filter(({ key }) => newest !== undefined && key > newest);
  if (older.length === 0) return undefined;
  return {
    kind: 'history',
    repositoryId,
    tag,
    path,
    sequences: older.map(({ sequence }) => sequence),
    keys: older.map(({ key }) => key),
  };
}

/** Only where the store has nothing else under the prefix. */
async function lookAtDeletion(store: Collection['store'], deletion: Deletion): Promise<Prunable | undefined> {
  const key = entryKey(deletionTemplate(deletion.path), deletion.sequence);
  const keys = await store.list(deletion.path, { limit: 2 });
  return keys.every((other) => other === key) ? { kind: 'deletion', ...deletion, keys: [key] } : undefined;
}

/** What was moved or deleted in a repository of another program's store would come again, when that is taken over again: so nothing of it is forgotten. */
async function findTakenOver(store: Collection['store']): Promise<(repository: RepositoryName) => Promise<boolean>> {
  const holds = async (prefix: string): Promise<boolean> => (await store.list(prefix, { limit: 1 })).length > 0;
  if (!(await holds(distributionRepositories))) return () => Promise.resolve(false);
  const known = new Map<RepositoryName, Promise<boolean>>();
  return (repository) => {
    const asked = known.get(repository) ?? holds(`${distributionRepositories}${repository}/`);
    known.set(repository, asked);
    return asked;
  };
}

async function look<T>(items: readonly T[], at: (item: T) => Promise<Prunable | undefined>): Promise<Prunable[]> {
  const found: Prunable[] = [];
  for (let from = 0; from < items.length; from += looksAtOnce) {
    const some = await Promise.all(items.slice(from, from + looksAtOnce).map(at));
    found.push(...some.filter((prunable) => prunable !== undefined));
  }
  return found;
}
