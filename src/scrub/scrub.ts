// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * Reads everything again and again, and compares: data with their digests, the store's entries with the database's rows, and rows with entries. What is damaged is not
 * served any more; what one side has lost is given back from the other; what neither side can tell is reported.
 */
import type { RepositoryName } from '../oci/repository-name.js';
import { groupEntries, type EntryGroup } from '../rebuild/entry-groups.js';
import { firstIndexed, listIndexed, type IndexPosition } from '../rebuild/catch-up-queries.js';
import { listRepositories } from '../repository/repository-queries.js';
import { repositoriesPrefix } from '../storage/keys.js';
import { walkKeys } from '../storage/walk-keys.js';
import { adoptEntries } from './adopt-entries.js';
import { findBefore, findRepositoryId, listUnchecked, listUncheckedOf } from './blob-queries.js';
import { checkBlobs } from './check-blobs.js';
import { checkRows } from './check-rows.js';
import type { Scrubbing } from './scrubbing.js';
import { beginWalk, completeWalk, recordWalks, saveWalk, walks, type Walk, type WalkPosition } from './walk-queries.js';

/** Prefixes of one page of the walk over the store. */
const pageGroups = 500;
const pageRepositories = 1000;

/** What the leader does: whatever was not checked for a cycle, and walks that are due, from where they stand. */
export async function scrubDue(scrubbing: Scrubbing, cycleMs: number): Promise<void> {
  const { writes } = scrubbing.journal;
  for (const walk of walks) {
    const begin = await beginWalk(writes, walk, cycleMs);
    if (begin === undefined) continue;
    await runWalk(scrubbing, walk, begin, (position) => saveWalk(writes, walk, position));
    await completeWalk(writes, walk);
  }
  await checkBlobs(scrubbing, async (limit) => listUnchecked(writes, await findBefore(writes, cycleMs), limit));
}

/** Everything, now. */
export async function scrubAll(scrubbing: Scrubbing): Promise<void> {
  const { writes } = scrubbing.journal;
  const since = await findBefore(writes, 0);
  for (const walk of walks) await runWalk(scrubbing, walk, [], () => Promise.resolve());
  await recordWalks(writes, since);
  await checkBlobs(scrubbing, (limit) => listUnchecked(writes, since, limit));
}

/** The repositories whose names fit, now; returns how many they are. */
export async function scrubRepositories(scrubbing: Scrubbing, pattern: RegExp): Promise<number> {
  const { writes } = scrubbing.journal;
  const since = await findBefore(writes, 0);
  let count = 0;
  for (let last = ''; ;) {
    const names = (await listRepositories(writes, last, pageRepositories)) as RepositoryName[];
    for (const name of names.filter((candidate) => pattern.test(candidate))) {
      count++;
      await compareEntries(scrubbing, `${repositoriesPrefix}${name}/_`, '', () => Promise.resolve());
      await checkRowsOf(scrubbing, name);
      await checkBlobs(scrubbing, (limit) => listUncheckedOf(writes, name, since, limit));
    }
    if (names.length < pageRepositories) return count;
    last = names.at(-1) ?? '';
  }
}

type SavePosition = (position: WalkPosition) => Promise<void>;

async function runWalk(scrubbing: Scrubbing, walk: Walk, begin: WalkPosition, save: SavePosition): Promise<void> {
  if (walk === 'entries') {
    await compareEntries(scrubbing, repositoriesPrefix, begin[0] ?? '', save);
    // A listing ends early where the store has gone.
    return scrubbing.journal.history.requireStore();
  }
  const after = begin.length === 0 ? undefined : (begin as unknown as IndexPosition);
  for await (const { rows, position } of listIndexed(scrubbing.journal.writes, walk, after)) {
    await checkRows(scrubbing, rows);
    await save(position);
  }
}

async function compareEntries(scrubbing: Scrubbing, prefix: string, after: string, save: SavePosition): Promise<void> {
  let groups: EntryGroup[] = [];
  const flush = async (): Promise<void> => {
    await adoptEntries(scrubbing, groups);
    const last = groups.at(-1)?.entries.at(-1)?.key;
    if (last !== undefined) await save([last]);
    groups = [];
  };
  for await (const group of groupEntries(walkKeys(scrubbing.journal.store, prefix, after))) {
    groups.push(group);
    if (groups.length >= pageGroups) await flush();
  }
  if (groups.length > 0) await flush();
}

async function checkRowsOf(scrubbing: Scrubbing, name: RepositoryName): Promise<void> {
  const { writes } = scrubbing.journal;
  const id = await findRepositoryId(writes, name);
  if (id === undefined) return;
  for (const kind of ['link', 'manifest', 'tag', 'tombstone'] as const) {
    const begin = kind === 'tombstone' ? (['0', `${repositoriesPrefix}${name}/_`, '0'] as const) : firstIndexed(kind, id);
    for await (const { rows } of listIndexed(writes, kind, begin)) {
      await checkRows(
        scrubbing,
        rows.filter(({ repository }) => repository === name),
      );
      if (rows.at(-1)?.repository !== name) break;
    }
  }
}
