// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * Brings a database that went back in time forward to what the store holds, beside pulls and pushes: adopts by key what it lacks, and drops rows whose entries are not
 * in the store. Whatever a living node is writing meanwhile is left to that node. Can be interrupted and done again.
 */
import type { PoolClient } from 'pg';
import { commitLink, commitLinkDeletion } from '../blob/link-queries.js';
import { mountBlob } from '../blob/link-blob.js';
import { isTransient, sqlState, sqlStateOf } from '../database/failures.js';
import type { ServerPool } from '../database/pool.js';
import { expireWrites } from '../jobs/expire-writes.js';
import { sideBySide } from '../journal/side-by-side.js';
import type { Journal } from '../journal/write-entries.js';
import { commitManifest, commitManifestDeletion, entriesOf, findSubject } from '../manifest/manifest-queries.js';
import {
  deletionTemplate,
  entryKey,
  linkTemplate,
  manifestTemplate,
  repositoriesPrefix,
  tagPrefix,
  tagTemplate,
  type KeyTemplate,
} from '../storage/keys.js';
import { readDamageMarks, type DamageMarks } from '../storage/damage-marks.js';
import { walkKeys } from '../storage/walk-keys.js';
import { commitTagDeletion } from '../tag/tag-queries.js';
import { restoreTrash } from './batch-queries.js';
import {
  adoptData,
  adoptEntry,
  adoptPastTag,
  adoptTag,
  beginCatchUp,
  dropLink,
  dropManifest,
  dropTagEntry,
  dropTombstone,
  endCatchUp,
  listIndexed,
  listKnown,
  listTagsOf,
  listUnknownTagEntries,
  passSequence,
  resetTag,
  setTagTime,
  type IndexedEntry,
  type Known,
  type Place,
} from './catch-up-queries.js';
import { groupEntries, type EntryGroup, type StoredEntry } from './entry-groups.js';
import { readGroup, type Finding, type GroupReading, type RestoredTagEntry } from './read-group.js';
import { quarantine } from './rebuild-queries.js';
import { recordedSequence } from './recorded-sequence.js';

export interface CatchUpOptions {
  readonly onProgress?: (counts: CatchUpCounts) => void;
  readonly onFinding?: (finding: Finding) => void;
  /** Ends the walk early; nothing is half done then, and collection stays off until another comes to its end. */
  readonly signal?: AbortSignal;
}

export interface CatchUpCounts {
  /** Entries that were looked at. */
  entries: number;
  adopted: number;
  dropped: number;
}

type AdoptionResult = 'adopted' | 'refused' | 'passed over';

const groupsAtOnce = 500;
/** Requests to the store side by side, when rows are looked for there. */
const looksAtOnce = 16;

export async function catchUp(
  journal: Journal,
  pool: ServerPool,
  { onProgress, onFinding, signal }: CatchUpOptions = {},
): Promise<CatchUpCounts> {
  const counts: CatchUpCounts = { entries: 0, adopted: 0, dropped: 0 };
  const walk = await CatchUp.begin(journal, pool, counts, onFinding);
  await beginCatchUp(journal.writes, await recordedSequence(journal.store));
  let groups: EntryGroup[] = [];
  for await (const group of groupEntries(walkKeys(journal.store, repositoriesPrefix))) {
    signal?.throwIfAborted();
    groups.push(group);
    counts.entries += group.entries.length;
    if (groups.length < groupsAtOnce) continue;
    await walk.look(groups);
    groups = [];
    onProgress?.(counts);
  }
  await walk.look(groups);
  // A listing ends early where the store has gone.
  await journal.history.requireStore();
  await walk.finishDeletions();
  for (const kind of ['tag', 'manifest', 'link', 'tombstone'] as const) {
    for await (const { rows } of listIndexed(journal.writes, kind)) {
      signal?.throwIfAborted();
      await sideBySide(rows, looksAtOnce, (row) => retrying(() => walk.lookFor(row)));
      onProgress?.(counts);
    }
  }
  // What was pending and is not in the store has been tried by nobody who lives.
  await expireWrites(journal, () => undefined);
  await endCatchUp(journal.writes);
  return counts;
}

/** Adopts what the store holds under these prefixes and the database lacks; also beside collections, since nothing of it is in the trash. */
export async function adoptGroups(
  journal: Journal,
  pool: ServerPool,
  groups: readonly EntryGroup[],
  onFinding: (finding: Finding) => void,
): Promise<number> {
  const counts: CatchUpCounts = { entries: 0, adopted: 0, dropped: 0 };
  const walk = await CatchUp.begin(journal, pool, counts, onFinding);
  await walk.look(groups);
  await walk.finishDeletions();
  return counts.adopted;
}

class CatchUp {
  private readonly journal: Journal;
  private readonly pool: ServerPool;
  private readonly counts: CatchUpCounts;
  private readonly marks: DamageMarks;
  private readonly report: (finding: Finding) => Promise<void>;
  /** A manifest's deletion waits for newer entries of its tags, which the walk comes to later. */
  private readonly deletions: (Place & { readonly sequence: bigint })[] = [];
  private largest = 0n;

  private constructor(
    journal: Journal,
    pool: ServerPool,
    counts: CatchUpCounts,
    marks: DamageMarks,
    report: (finding: Finding) => Promise<void>,
  ) {
    this.journal = journal;
    this.pool = pool;
    this.counts = counts;
    this.marks = marks;
    this.report = report;
  }

  static async begin(journal: Journal, pool: ServerPool, counts: CatchUpCounts, onFinding: CatchUpOptions['onFinding']): Promise<CatchUp> {
    return new CatchUp(journal, pool, counts, await readDamageMarks(journal.store), async (finding) => {
      onFinding?.(finding);
      if (finding.kept === undefined) await quarantine(journal.writes, [finding]);
    });
  }

  async look(groups: readonly EntryGroup[]): Promise<void> {
    for (const { entries } of groups) for (const { sequence } of entries) if (sequence > this.largest) this.largest = sequence;
    await passSequence(this.journal.writes, this.largest);
    for (const kind of ['link', 'manifest'] as const) {
      const found = groups.filter((group) => group.kind === kind && group.entries.length > 0);
      const places = found.map((group) => placeOf(group));
      const known = found.length === 0 ? [] : await listKnown(this.journal.writes, kind, places);
      for (const [index, group] of found.entries()) await this.compare(kind, group, places[index] as Place, known[index] as Known);
    }
    const tags = groups.filter(({ kind }) => kind === 'tag');
    // Oldest first, as they were written.
    const entries = tags.flatMap((group) => group.entries.toReversed().map((entry) => ({ group, entry })));
    const asked = entries.map(({ entry }) => entry as Extract<StoredEntry, { kind: 'tag' }>);
    const unknown = entries.length === 0 ? [] : await listUnknownTagEntries(this.journal.writes, asked);
    for (const index of unknown) {
      const { group, entry } = entries[index] as (typeof entries)[number];
      await this.adoptTagEntry(group, entry.key);
    }
  }

  async finishDeletions(): Promise<void> {
    for (const { repository, digest, prefix, sequence } of this.deletions) {
      const { writes, store, node } = this.journal;
      const template = deletionTemplate(prefix);
      const tags = await listTagsOf(writes, repository, digest);
      const body = await store.get(entryKey(template, sequence));
      const subject = await findSubject(writes, repository, digest);
      for (const tag of tags) {
        const key = entryKey(deletionTemplate(tagPrefix(repository, tag)), sequence);
        if ((await store.size(key)) === undefined) await store.put(key, body ?? new Uint8Array());
      }
      await this.adopt(sequence, repository, [template], entryKey(template, sequence), async (client) => {
        await commitManifestDeletion(client, node.id, sequence, { repository, digest, tags, subject });
        return true;
      });
    }
  }

  /** The newest entry of a prefix beside the row for it. */
  private async compare(kind: 'link' | 'manifest', group: EntryGroup, place: Place, known: Known): Promise<void> {
    const newest = group.entries[0]?.sequence ?? 0n;
    const mine = known.row ?? known.tombstone ?? 0n;
    if (newest === mine) return;
    if (newest < mine) {
      const key = keyOf(kind, place, known);
      if ((await this.journal.store.size(key)) !== undefined) return;
      await this.journal.history.requireStore();
      if (known.row === undefined) await dropTombstone(this.journal.writes, place.prefix, mine);
      else if (!(await (kind === 'link' ? dropLink : dropManifest)(this.journal.writes, this.journal.node.id, place, mine))) return;
      this.counts.dropped++;
    }
    const reading = await readGroup(this.journal.store, group, { marks: this.marks });
    for (const finding of reading.findings) await this.report(finding);
    await this.adoptReading(reading, place);
  }

  private async adoptReading({ link, manifest, tombstone, superseded }: GroupReading, place: Place): Promise<void> {
    const { writes, node } = this.journal;
    const { repository, digest } = place;
    let result: AdoptionResult = 'passed over';
    if (tombstone !== undefined) {
      const { sequence } = tombstone;
      if (place.prefix.includes('/_manifests/')) {
        this.deletions.push({ ...place, sequence });
        return;
      }
      const template = deletionTemplate(place.prefix);
      result = await this.adopt(sequence, repository, [template], entryKey(template, sequence), async (client) => {
        await commitLinkDeletion(client, node.id, sequence, place);
        return true;
      });
    } else if (link !== undefined) {
      const template = linkTemplate(repository, digest, link.uuid);
      const key = entryKey(template, link.sequence);
      result = await this.adopt(link.sequence, repository, [template], key, async (client) => {
        if (!(await adoptData(client, link))) return false;
        await commitLink(client, node.id, link);
        return true;
      });
      // A second copy: the repository is linked to the first.
      if (result === 'refused' && (await mountBlob(this.journal, repository, digest, undefined))) {
        await restoreTrash(writes, [key]);
        this.counts.adopted++;
      }
    } else if (manifest !== undefined) {
      const templates = entriesOf(repository, digest, manifest.manifest.subject);
      const key = entryKey(manifestTemplate(repository, digest), manifest.sequence);
      result = await this.adopt(manifest.sequence, repository, templates, key, async (client) => {
        await commitManifest(client, node.id, manifest.sequence, { ...manifest, tags: [], allowMissing: true });
        return true;
      });
    }
    if (result === 'adopted' && superseded.length > 0) await restoreTrash(writes, superseded);
  }

  private async adoptTagEntry(group: EntryGroup, key: string): Promise<void> {
    const { store, node } = this.journal;
    const { tag: entries = [] } = await readGroup(
      store,
      { ...group, entries: group.entries.filter((entry) => entry.key === key) },
      { marks: this.marks },
    );
    const [entry] = entries;
    if (entry === undefined) return;
    const { repository, tag, sequence, digest } = entry;
    if (digest === undefined) {
      await this.adopt(sequence, repository, [deletionTemplate(group.prefix)], key, async (client) => {
        await commitTagDeletion(client, node.id, sequence, repository, tag);
        await setTagTime(client, entry);
        return true;
      });
      return;
    }
    const templates = [tagTemplate(repository, tag, digest)];
    const adopted = await this.adopt(sequence, repository, templates, key, (client) => adoptTag(client, node.id, entry, digest));
    if (adopted !== 'refused') return;
    if (group.entries[0]?.key === key) await this.report({ key, reason: `its manifest ${digest} is not there` });
    await this.adopt(sequence, repository, templates, key, async (client) => {
      await adoptPastTag(client, entry, digest);
      return true;
    });
  }

  /** A row beside the store: when its entry is not there, it goes. */
  async lookFor(row: IndexedEntry): Promise<void> {
    const { store, writes, node, history } = this.journal;
    if ((await store.size(entryOf(row))) !== undefined) return;
    await history.requireStore();
    const { repository, sequence } = row;
    if (row.kind === 'tombstone') await dropTombstone(writes, row.path, sequence);
    else if (row.kind === 'link') {
      if (!(await dropLink(writes, node.id, { ...row, prefix: '' }, sequence))) return;
    } else if (row.kind === 'manifest') {
      if (!(await dropManifest(writes, node.id, { ...row, prefix: '' }, sequence))) return;
    } else {
      const prefix = tagPrefix(repository, row.tag);
      if (!(await dropTagEntry(writes, node.id, { ...row, prefix }))) return;
      await this.resetTag(prefix);
    }
    this.counts.dropped++;
  }

  private async resetTag(prefix: string): Promise<void> {
    const { store, writes, node } = this.journal;
    for await (const group of groupEntries(walkKeys(store, prefix))) {
      const { tag: entries = [] } = await readGroup(store, { ...group, entries: group.entries.slice(0, 1) }, { marks: this.marks });
      const newest: RestoredTagEntry | undefined = entries[0];
      if (newest?.digest !== undefined) await resetTag(writes, node.id, newest, newest.digest);
    }
  }

  /**
   * One transaction: the entry becomes a pending write of ours, and is committed. It must still be in the store then, else it was withdrawn; the look waits for the store
   * inside of the transaction, since in two of them a crash would leave a pending write whose expiry deletes the entry. An entry that somebody's lock keeps from us is
   * not passed over: the walk's end says that all are known, and those that are not will be deleted.
   */
  private adopt(...entry: Parameters<CatchUp['adoptOnce']>): Promise<AdoptionResult> {
    return retrying(() => this.adoptOnce(...entry));
  }

  private async adoptOnce(
    sequence: bigint,
    repository: Place['repository'],
    templates: readonly KeyTemplate[],
    key: string,
    commit: (client: PoolClient) => Promise<boolean>,
  ): Promise<AdoptionResult> {
    const client = await this.pool.connect();
    let broken = false;
    try {
      await client.query('BEGIN');
      const ours = await adoptEntry(client, this.journal.node.id, sequence, repository, templates);
      const there = ours && (await this.journal.store.size(key)) !== undefined;
      const result = there ? ((await commit(client)) ? 'adopted' : 'refused') : 'passed over';
      await client.query(result === 'adopted' ? 'COMMIT' : 'ROLLBACK');
      if (result === 'adopted') this.counts.adopted++;
      return result;
    } catch (error) {
      await client.query('ROLLBACK').catch(() => (broken = true));
      // A newer entry was committed meanwhile: then this one has nothing to say.
      if (sqlStateOf(error) === sqlState.startAgain) return 'passed over';
      throw error;
    } finally {
      client.release(broken);
    }
  }
}

function placeOf({ repository, prefix, entries }: EntryGroup): Place {
  const [entry] = entries;
  if (entry === undefined || (entry.kind !== 'link' && entry.kind !== 'manifest'))
    throw new Error(`${prefix} is no prefix of links or manifests`);
  return { repository, prefix, digest: entry.digest };
}

function keyOf(kind: 'link' | 'manifest', { repository, digest, prefix }: Place, known: Known): string {
  if (known.row === undefined) return entryKey(deletionTemplate(prefix), known.tombstone ?? 0n);
  return entryKey(kind === 'link' ? linkTemplate(repository, digest, known.uuid ?? '') : manifestTemplate(repository, digest), known.row);
}

/** The key of the entry that a row stands for. */
export function entryOf(row: IndexedEntry): string {
  const { repository, sequence } = row;
  switch (row.kind) {
    case 'link':
      return entryKey(linkTemplate(repository, row.digest, row.uuid), sequence);
    case 'manifest':
      return entryKey(manifestTemplate(repository, row.digest), sequence);
    case 'tombstone':
      return entryKey(deletionTemplate(row.path), sequence);
    case 'tag':
      return entryKey(
        row.digest === undefined ? deletionTemplate(tagPrefix(repository, row.tag)) : tagTemplate(repository, row.tag, row.digest),
        sequence,
      );
  }
}

/** What refers to each other is adopted and dropped side by side, and may wait for each other. */
async function retrying<T>(act: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await act();
    } catch (error) {
      if (!isTransient(error) || attempt >= mostAttempts) throw error;
    }
  }
}

const mostAttempts = 10;
