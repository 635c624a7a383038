// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { BlobStore } from '../storage/blob-store.js';
import { repositoriesPrefix } from '../storage/keys.js';
import { byBytes, inOrder } from './in-order.js';
import { isRepository } from './stored-tags.js';

/** LISTs that are on their way together. */
const mostAtOnce = 32;

/** Names after `last` in the order of their bytes, at most `limit`. What holds an entry is a repository; the directories of others lead to them. */
export async function listStoredRepositories(store: BlobStore, last: string, limit: number): Promise<string[]> {
  const names: string[] = [];
  if (limit === 0) return names;
  for await (const name of walk(store, await listNames(store, ''), last)) if (names.push(name) >= limit) break;
  return names;
}

async function* walk(store: BlobStore, names: readonly string[], last: string): AsyncGenerator<string> {
  // What is below `a` comes after `a` itself, but also after `a-b`, with all that is below that.
  const steps = names.flatMap((name) => [name, `${name}/`]).filter((step) => step > last || (step.endsWith('/') && last.startsWith(step)));
  const look = (step: string): Promise<boolean | string[]> => (step.endsWith('/') ? listNames(store, step) : isRepository(store, step));
  for await (const [name, found] of inOrder(steps.sort(byBytes), mostAtOnce, look)) {
    if (Array.isArray(found)) yield* walk(store, found, last);
    else if (found) yield name;
  }
}

/** `parent` is empty or ends in a slash. No component of a name begins with `_`. */
async function listNames(store: BlobStore, parent: string): Promise<string[]> {
  const base = repositoriesPrefix + parent;
  const directories = await store.listDirectories(base);
  return directories
    .filter((directory) => directory[base.length] !== '_')
    .map((directory) => directory.slice(repositoriesPrefix.length, -1));
}
