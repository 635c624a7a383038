// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { RepositoryName } from '../oci/repository-name.js';
import { parseEntry, type Entry } from '../storage/keys.js';

export type StoredEntry = Entry & { readonly key: string };

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
    const found = parseEntry(key);
    if (found === undefined) {
      strange.push(key);
      continue;
    }
    const entry = { ...found, key };
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

function prefixOf({ key, kind }: StoredEntry): string {
  return key.slice(0, key.lastIndexOf(kind === 'referrer' ? '.' : '/') + 1);
}
