// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { BlobStore } from '../storage/blob-store.js';
import { parseEntry, type Entry } from '../storage/keys.js';

/** Keys that others left among ours, such as the markers that some tools make for folders, may list before it: then more than one is asked for. */
const pageKeys = 1000;

/** The first entry below a prefix: of one tag, link or manifest it is the newest, which is what counts. */
export async function findNewestEntry(
  store: BlobStore,
  prefix: string,
): Promise<{ readonly key: string; readonly entry: Entry } | undefined> {
  let after = '';
  for (let limit = 1; ; limit = pageKeys) {
    const keys = await store.list(prefix, { after, limit });
    for (const key of keys) {
      const entry = parseEntry(key);
      if (entry !== undefined) return { key, entry };
    }
    if (keys.length < limit) return undefined;
    after = keys.at(-1) ?? '';
  }
}
