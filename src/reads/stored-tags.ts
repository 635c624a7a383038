// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { RepositoryName } from '../oci/repository-name.js';
import type { BlobStore } from '../storage/blob-store.js';
import { parseEntry, repositoriesPrefix, tagPrefix, type Entry } from '../storage/keys.js';
import { byBytes } from './in-order.js';
import { findNewestEntry } from './newest-entry.js';

/** What one LIST of an object store answers at most. */
const pageKeys = 1000;
/** No tag is longer than 128; what a client says beyond this does not change what comes after it. */
const mostLast = 200;

/**
 * Tags after `last` in the order of their bytes, at most `limit`; undefined when there is no such repository. The newest entry of each tag lists first, so a walk over
 * the keys tells which are there; the history of the last tag of a page is skipped.
 */
export async function listStoredTags(
  store: BlobStore,
  repository: RepositoryName,
  last: string,
  limit: number,
): Promise<string[] | undefined> {
  const prefix = tagPrefix(repository, '');
  const tags: string[] = [];
  const add = (entry: Entry): void => {
    if (entry.kind === 'tag' && entry.tag > last && entry.digest !== 'deleted') tags.push(entry.tag);
  };
  const pageSize = Math.max(pageKeys, limit);
  let current = '';
  for (let after = prefix + last.slice(0, mostLast); ;) {
    const keys = await store.list(prefix, { after, limit: pageSize });
    for (const key of keys) {
      if (key.startsWith(`${prefix}${current}/`)) continue;
      // Whatever else lies there is no tag.
      const entry = parseEntry(key);
      if (entry?.kind !== 'tag') continue;
      add(entry);
      current = entry.tag;
    }
    if (keys.length < pageSize) break;
    const end = keys.at(-1) ?? '';
    const [name = ''] = end.slice(prefix.length).split('/', 1);
    if (tags.length >= limit) {
      await addShorter(store, prefix, name, add);
      break;
    }
    after = name === current ? `${prefix}${name}/${afterAllEntries}` : end;
  }
  if (tags.length > 0) return tags.sort(byBytes).slice(0, limit);
  return (await isRepository(store, repository)) ? [] : undefined;
}

export async function isRepository(store: BlobStore, name: string): Promise<boolean> {
  return (await findNewestEntry(store, `${repositoriesPrefix}${name}/_`)) !== undefined;
}

/** Sorts behind every sequence. */
const afterAllEntries = '~';

/**
 * Keys sort by the tag with a slash behind it, where `a-b/` and `a.b/` come before `a/`. So of the tags that a walk has not come to, those that come before one that it has
 * seen are beginnings of the one where it stands.
 */
async function addShorter(store: BlobStore, prefix: string, tag: string, add: (entry: Entry) => void): Promise<void> {
  for (let end = 1; end < tag.length; end++) {
    if (tag[end] !== '-' && tag[end] !== '.') continue;
    const newest = await findNewestEntry(store, `${prefix}${tag.slice(0, end)}/`);
    if (newest !== undefined) add(newest.entry);
  }
}
