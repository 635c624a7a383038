// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { randomUUID } from 'node:crypto';
import type { BlobStore } from './blob-store.js';

/**
 * What the layout of keys rests on, tried out: a written object is listed at once, in the order of bytes, by pages and by directories; upper and lower case are two
 * (two tags would be one); what is deleted is gone. Throws an Error that says what is missing.
 */
export async function checkStore(store: BlobStore): Promise<void> {
  const directory = `cluster/check-${randomUUID()}/`;
  const keys = [`${directory}A`, `${directory}a-/x`, `${directory}b`];
  const [first = '', second = ''] = keys;
  for (const key of keys.toReversed()) await store.put(key, new Uint8Array());
  const listed = await store.list(directory);
  const page = await store.list(directory, { after: first, limit: 1 });
  const directories = await store.listDirectories(directory);
  const folded = await store.get(`${directory}a`);
  await store.delete(keys);
  const left = await store.list(directory);
  const unfit = (what: string) => new Error(`${store.location} is not fit for a store: ${what}`);
  if (folded !== undefined) throw unfit('it must be case-sensitive');
  if (listed.length !== keys.length) throw unfit('what was written must be listed at once');
  if (listed.join() !== keys.join() || page.join() !== second || directories.join() !== `${directory}a-/`)
    throw unfit('it must list keys in the order of their bytes');
  if (left.length > 0) throw unfit('what was deleted must not be listed any more');
}
