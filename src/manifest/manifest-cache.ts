// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Digest } from '../oci/digest.js';

/**
 * Bytes of manifests by digest, which never change. Whether a repository has the manifest is asked of Postgres each time; only the bytes are spared.
 * The least recently used go first.
 */
export class ManifestCache {
  private readonly budgetBytes: number;
  private readonly entries = new Map<Digest, Uint8Array>();
  heldBytes = 0;
  hits = 0;
  misses = 0;

  constructor(budgetBytes: number) {
    this.budgetBytes = budgetBytes;
  }

  get(digest: Digest): Uint8Array | undefined {
    const bytes = this.entries.get(digest);
    if (bytes === undefined) {
      this.misses++;
      return undefined;
    }
    this.hits++;
    this.entries.delete(digest);
    this.entries.set(digest, bytes);
    return bytes;
  }

  set(digest: Digest, bytes: Uint8Array): void {
    if (bytes.byteLength > this.budgetBytes / 4 || this.entries.has(digest)) return;
    this.entries.set(digest, bytes);
    this.heldBytes += bytes.byteLength;
    for (const [oldest, { byteLength }] of this.entries) {
      if (this.heldBytes <= this.budgetBytes) return;
      this.entries.delete(oldest);
      this.heldBytes -= byteLength;
    }
  }
}
