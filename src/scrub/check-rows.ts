// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Rows beside the store: what each stands for must be there, and be right. What the store has lost is written again from the row. */
import { RegistryError } from '../oci/errors.js';
import { findDigest } from '../oci/digest.js';
import { entryOf } from '../rebuild/catch-up.js';
import type { IndexedEntry } from '../rebuild/catch-up-queries.js';
import { parseManifestObject } from '../rebuild/manifest-object.js';
import { entryKey, linkPrefix, manifestPrefix, referrerTemplate } from '../storage/keys.js';
import { NoCopyLeft, rewriteDeletion, rewriteLink, rewriteManifest, rewriteTag } from './rewrite-entries.js';
import { found, type Scrubbing } from './scrubbing.js';

/** Requests to the store side by side. */
const looksAtOnce = 16;
/** What a request counts as, for the pace. */
const requestBytes = 64 * 1024;

export async function checkRows(scrubbing: Scrubbing, rows: readonly IndexedEntry[]): Promise<void> {
  const waiting = rows.values();
  const worker = async (): Promise<void> => {
    for (const row of waiting) await checkRow(scrubbing, row);
  };
  await Promise.all(Array.from({ length: looksAtOnce }, worker));
}

async function checkRow(scrubbing: Scrubbing, row: IndexedEntry): Promise<void> {
  // The deletion of a tag is in its history.
  if (row.kind === 'tombstone' && row.path.includes('/_tags/')) return;
  const { counters, pace } = scrubbing;
  await pace.take(requestBytes);
  const fault = row.kind === 'manifest' ? await faultOfManifest(scrubbing, row) : await faultOfEntry(scrubbing, row);
  counters.entries++;
  if (fault === undefined) return;
  await scrubbing.journal.history.requireStore();
  const key = entryOf(row);
  try {
    if (await rewrite(scrubbing, row)) found(scrubbing, { key, reason: `${fault}; it was written again`, outcome: 'repaired' });
    // A row that changed since is another entry's. A tag's history cannot be written again.
    else if (row.kind === 'tag' && (await isPast(scrubbing, row)))
      found(scrubbing, { key, reason: `${fault}; it is history, which the database still has`, outcome: 'reported' });
  } catch (error) {
    if (!(error instanceof NoCopyLeft) && !(error instanceof RegistryError)) throw error;
    found(scrubbing, { key, reason: `${fault}, and it could not be written again: ${error.message}`, outcome: 'reported' });
  }
}

async function faultOfEntry({ journal }: Scrubbing, row: IndexedEntry): Promise<string | undefined> {
  return (await journal.store.size(entryOf(row))) === undefined ? 'the entry is missing' : undefined;
}

async function faultOfManifest(scrubbing: Scrubbing, row: Extract<IndexedEntry, { kind: 'manifest' }>): Promise<string | undefined> {
  const { journal, counters, pace } = scrubbing;
  const { repository, digest, sequence } = row;
  const object = await journal.store.get(entryOf(row));
  counters.manifests++;
  if (object === undefined) return 'the entry is missing';
  counters.bytes += object.byteLength;
  await pace.take(object.byteLength);
  try {
    const { subject } = parseManifestObject(object, digest).manifest;
    if (subject === undefined) return undefined;
    const key = entryKey(referrerTemplate(repository, subject, digest), sequence);
    return (await journal.store.size(key)) === undefined ? `the entry among the referrers of ${subject} is missing` : undefined;
  } catch (error) {
    if (error instanceof RegistryError && error.status >= 500) throw error;
    return `the manifest cannot be used: ${(error as Error).message}`;
  }
}

function rewrite({ journal }: Scrubbing, row: IndexedEntry): Promise<boolean> {
  const { repository, sequence } = row;
  switch (row.kind) {
    case 'link':
      return rewriteLink(journal, row, sequence);
    case 'manifest':
      return rewriteManifest(journal, row, sequence);
    case 'tag':
      return rewriteTag(journal, repository, row.tag, sequence);
    case 'tombstone': {
      const digest = findDigest(row.path.split('/').slice(-3, -1).join(':'));
      const prefixes = digest === undefined ? [] : [linkPrefix(repository, digest), manifestPrefix(repository, digest)];
      if (digest === undefined || !prefixes.includes(row.path)) return Promise.resolve(false);
      return rewriteDeletion(journal, { repository, digest }, row.path, sequence);
    }
  }
}

async function isPast({ journal }: Scrubbing, { repository, tag, sequence }: Extract<IndexedEntry, { kind: 'tag' }>): Promise<boolean> {
  const { rowCount } = await journal.writes.query(
    'SELECT FROM tag_history h JOIN repositories r ON r.id = h.repository_id WHERE r.name = $1 AND h.name = $2 AND h.sequence = $3',
    [repository, tag, sequence],
  );
  return rowCount === 1;
}
