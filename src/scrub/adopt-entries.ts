// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The store beside the rows: an entry that counts, and that the database knows nothing of, is given back to it. */
import { listUnknownEntries, type EntryClaim } from '../cluster/cluster-queries.js';
import { adoptGroups } from '../rebuild/catch-up.js';
import type { EntryGroup, StoredEntry } from '../rebuild/entry-groups.js';
import { found, type Scrubbing } from './scrubbing.js';
import { listAccounted } from './walk-queries.js';

/** What a page of a listing counts as, for the pace. */
const pageBytes = 256 * 1024;

export async function adoptEntries(scrubbing: Scrubbing, groups: readonly EntryGroup[]): Promise<void> {
  const { journal, pool, pace, counters } = scrubbing;
  await pace.take(pageBytes);
  for (const { strange } of groups)
    for (const key of strange) found(scrubbing, { key, reason: 'not a key of the store layout', outcome: 'reported' });
  // The newest entry of a prefix counts, and of a tag all are its history. A referrer's entry is checked with its manifest.
  const entries = groups.flatMap((group) =>
    group.kind === 'referrer' ? [] : group.kind === 'tag' ? group.entries : group.entries.slice(0, 1),
  );
  counters.entries += entries.length;
  if (entries.length === 0) return;
  const unknown = (await listUnknownEntries(journal.writes, entries.map(claimOf))).map((index) => entries[index] as StoredEntry);
  if (unknown.length === 0) return;
  // Somebody may be writing it, and what was withdrawn, collected or superseded is about to be deleted.
  const accounted = new Set(await listAccounted(journal.writes, unknown));
  const lost = new Set<StoredEntry>();
  for (const entry of unknown) if (!accounted.has(entry.key) && (await journal.store.size(entry.key)) !== undefined) lost.add(entry);
  const ours = groups.filter((group) => group.entries.some((entry) => lost.has(entry)));
  if (ours.length === 0) return;
  const adopted = await adoptGroups(journal, pool, ours, ({ key, reason, kept }) =>
    found(scrubbing, { key, reason, outcome: kept === undefined ? 'reported' : 'repaired' }),
  );
  if (adopted === 0) return;
  for (const { key } of lost)
    found(scrubbing, { key, reason: 'the database did not know this entry; it was adopted', outcome: 'repaired' });
}

function claimOf(entry: StoredEntry): EntryClaim {
  const { key, kind, repository, sequence } = entry;
  return {
    repository,
    prefix: key.slice(0, key.lastIndexOf('/') + 1),
    sequence,
    digest: kind === 'tag' ? undefined : entry.digest,
    tag: kind === 'tag' ? entry.tag : undefined,
    isManifest: kind === 'manifest',
  };
}
