// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * Bytes that never change: of manifests by digest, of their objects in the store by key. Whether a repository has them is asked each time; only the bytes are spared.
 * The least recently used go first.
 */
export class ManifestCache {
  private readonly budgetBytes: number;
  private readonly entries = new Map<string, Uint8Array>();
  heldBytes = 0;
  hits = 0;
  misses = 0;

  constructor(budgetBytes: number) {
    this.budgetBytes = budgetBytes;
  }

  get(name: string): Uint8Array | undefined {
    const bytes = this.entries.get(name);
    if (bytes === undefined) {
      this.misses++;
      return undefined;
    }
    this.hits++;
    this.entries.delete(name);
    this.entries.set(name, bytes);
    return bytes;
  }

  set(name: string, bytes: Uint8Array): void {
    if (bytes.byteLength > this.budgetBytes / 4 || this.entries.has(name)) return;
    this.entries.set(name, bytes);
    this.heldBytes += bytes.byteLength;
    for (const [oldest, { byteLength }] of this.entries) {
      if (this.heldBytes <= this.budgetBytes) return;
      this.entries.delete(oldest);
      this.heldBytes -= byteLength;
    }
  }
}
