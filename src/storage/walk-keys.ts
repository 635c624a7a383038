// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { BlobStore } from './blob-store.js';

/** What one LIST of an object store answers at most. */
const pageKeys = 1000;

/**
 * All keys that begin with `prefix`, in the order of their bytes, after `after`; for walks over all there is. Of what is written or deleted meanwhile, some may be
 * among them.
 */
export function walkKeys(store: BlobStore, prefix: string, after = ''): AsyncIterable<string> {
  return store.walk?.(prefix, after) ?? walkPages(store, prefix, after);
}

/** The next page is asked for while the one before it is used. */
async function* walkPages(store: BlobStore, prefix: string, after: string): AsyncGenerator<string> {
  let page = store.list(prefix, { after, limit: pageKeys });
  for (;;) {
    const keys = await page;
    const last = keys.at(-1);
    if (last === undefined) return;
    const more = keys.length === pageKeys;
    if (more) {
      page = store.list(prefix, { after: last, limit: pageKeys });
      page.catch(() => undefined);
    }
    yield* keys;
    if (!more) return;
  }
}
