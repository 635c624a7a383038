// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { RepositoryName } from '../oci/repository-name.js';
import type { BlobStore } from '../storage/blob-store.js';
import { parseEntry, repositoriesPrefix, tagPrefix } from '../storage/keys.js';
import { byBytes } from './in-order.js';

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
  const add = (key: string, tag: string): void => {
    const entry = parseEntry(key);
    if (tag > last && entry?.kind === 'tag' && entry.digest !== 'deleted') tags.push(tag);
  };
  const pageSize = Math.max(pageKeys, limit);
  let current = '';
  for (let after = prefix + last.slice(0, mostLast); ;) {
    const keys = await store.list(prefix, { after, limit: pageSize });
    for (const key of keys) {
      const tag = key.slice(prefix.length, key.indexOf('/', prefix.length));
      if (tag !== current) add(key, tag);
      current = tag;
    }
    if (keys.length < pageSize) break;
    if (tags.length >= limit) {
      await addShorter(store, prefix, current, add);
      break;
    }
    after = `${prefix}${current}/${afterAllEntries}`;
  }
  if (tags.length > 0) return tags.sort(byBytes).slice(0, limit);
  return (await isRepository(store, repository)) ? [] : undefined;
}

export async function isRepository(store: BlobStore, name: string): Promise<boolean> {
  return (await store.list(`${repositoriesPrefix}${name}/_`, { limit: 1 })).length > 0;
}

/** Sorts behind every sequence. */
const afterAllEntries = '~';

/**
 * Keys sort by the tag with a slash behind it, where `a-b/` and `a.b/` come before `a/`. So of the tags that a walk has not come to, those that come before one that it has
 * seen are beginnings of the one where it stands.
 */
async function addShorter(store: BlobStore, prefix: string, tag: string, add: (key: string, tag: string) => void): Promise<void> {
  for (let end = 1; end < tag.length; end++) {
    if (tag[end] !== '-' && tag[end] !== '.') continue;
    const shorter = tag.slice(0, end);
    const [key] = await store.list(`${prefix}${shorter}/`, { limit: 1 });
    if (key !== undefined) add(key, shorter);
  }
}
