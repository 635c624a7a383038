// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { algorithmOf, makeDigest } from '../oci/digest.js';
import type { BlobStore } from '../storage/blob-store.js';
import type { Hasher } from '../worker/hash.js';
import type { VerifyData } from './read-group.js';

/** Some 20 MB of keys. Data that many repositories share are met again within so many others. */
const mostRemembered = 100_000;

/** Re-hashes data in the workers, each object once as far as memory reaches. */
export function verifyData(store: BlobStore, hasher: Hasher): VerifyData {
  const known = new Map<string, Promise<boolean>>();
  return (key, digest, size) => {
    const before = known.get(key);
    if (before !== undefined) return before;
    const algorithm = algorithmOf(digest);
    const result = store
      .hash(key, algorithm, hasher.initial(algorithm), size)
      .then((state) => makeDigest(algorithm, hasher.digest(algorithm, state)) === digest);
    if (known.size >= mostRemembered) known.clear();
    known.set(key, result);
    return result;
  };
}
