// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { findTag, type Tag } from '../oci/reference.js';
import { findRepositoryName, type RepositoryName } from '../oci/repository-name.js';
import { parseEntry, type Entry } from '../storage/keys.js';

/** An entry whose key has been checked in all its parts. */
export type StoredEntry = Entry & { readonly key: string; readonly repository: RepositoryName };

/** All entries of one prefix, newest first: what the newest says is what counts. */
export interface EntryGroup {
  readonly repository: RepositoryName;
  readonly kind: Entry['kind'];
  /** Up to and with what stands before the sequence. */
  readonly prefix: string;
  readonly entries: readonly StoredEntry[];
  /** Keys among them that are no entries. */
  readonly strange: readonly string[];
}

/** Groups a walk over `repositories/…`, in which entries of one prefix follow each other. */
export async function* groupEntries(keys: AsyncIterable<string>): AsyncGenerator<EntryGroup> {
  let group: { repository: RepositoryName; kind: Entry['kind']; prefix: string; entries: StoredEntry[] } | undefined;
  let strange: string[] = [];
  for await (const key of keys) {
    const entry = readKey(key);
    if (entry === undefined) {
      strange.push(key);
      continue;
    }
    const prefix = prefixOf(entry);
    if (group?.prefix !== prefix) {
      if (group !== undefined) yield { ...group, strange };
      strange = group === undefined ? strange : [];
      group = { repository: entry.repository, kind: entry.kind, prefix, entries: [] };
    }
    group.entries.push(entry);
  }
  if (group !== undefined) yield { ...group, strange };
  else if (strange.length > 0) yield { repository: '' as RepositoryName, kind: 'link', prefix: '', entries: [], strange };
}

/** undefined for a key that no version of this program has written. */
function readKey(key: string): StoredEntry | undefined {
  if (!sequenceInKey.test(key)) return undefined;
  const entry = parseEntry(key);
  const repository = entry === undefined ? undefined : findRepositoryName(entry.repository);
  if (entry === undefined || repository === undefined || entry.sequence < 0n) return undefined;
  if (entry.kind === 'tag' && findTag(entry.tag) === undefined) return undefined;
  if (entry.kind === 'link' && entry.uuid !== 'deleted' && !uuid.test(entry.uuid)) return undefined;
  return { ...entry, key, repository };
}

const sequenceInKey = /[/.]\d{20}(\.[^/]+)?$/;
const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

function prefixOf({ key, kind }: StoredEntry): string {
  return key.slice(0, key.lastIndexOf(kind === 'referrer' ? '.' : '/') + 1);
}

export function tagOf(entry: Extract<StoredEntry, { kind: 'tag' }>): Tag {
  return entry.tag as Tag;
}
