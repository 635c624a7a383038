// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * Refresh tokens that were taken back: all that an identity was given until then. They stand in the store, so that they count on every node and without Postgres, for
 * longer than any token is worth something.
 */
import { createHash } from 'node:crypto';
import type { BlobStore } from '../../storage/blob-store.js';
import { revocationsPrefix } from '../../storage/keys.js';

export interface Revocations {
  revoke(id: string): Promise<void>;
  /** Whether what this identity was given at that time does not count any more. */
  covers(id: string, issuedMs: number): Promise<boolean>;
  refresh(): Promise<void>;
  close(): void;
}

const refreshEveryMs = 60_000;
/** Another node may have revoked something just now; nobody exchanges tokens often. */
const freshMs = 2_000;
/** At least: how long tokens live may change, and has been longer for those that there are. */
const keepMs = 400 * 86_400_000;

export async function openRevocations(
  store: Pick<BlobStore, 'put' | 'list' | 'delete'>,
  longestTokenMs: number,
  onError: (error: unknown) => void,
  now: () => number = Date.now,
): Promise<Revocations> {
  let revokedMs = new Map<string, number>();
  let lookedMs = 0;
  const refresh = async (): Promise<void> => {
    const names = await store.list(revocationsPrefix);
    lookedMs = now();
    const entries = names.map((name) => ({ name, ...parse(name) }));
    const old = entries.filter(({ atMs }) => atMs + Math.max(keepMs, longestTokenMs) < now());
    if (old.length > 0) await store.delete(old.map(({ name }) => name));
    revokedMs = new Map(entries.toSorted((a, b) => a.atMs - b.atMs).map(({ hash, atMs }) => [hash, atMs]));
  };
  await refresh();
  const timer = setInterval(() => void refresh().catch(onError), refreshEveryMs).unref();
  return {
    refresh,
    async revoke(id) {
      const atMs = now();
      const hash = hashOf(id);
      await store.put(`${revocationsPrefix}${String(atMs).padStart(15, '0')}-sha256-${hash}`, new Uint8Array());
      revokedMs.set(hash, atMs);
    },
    async covers(id, issuedMs) {
      if (lookedMs + freshMs <= now()) await refresh();
      return issuedMs <= (revokedMs.get(hashOf(id)) ?? -1);
    },
    close: () => clearInterval(timer),
  };
}

/** A name of any length makes a file's name that is not too long. */
function hashOf(id: string): string {
  return createHash('sha256').update(id).digest('hex');
}

/** Also `<ms>-<identity as hex>`, as it was before. */
function parse(name: string): { readonly hash: string; readonly atMs: number } {
  const [at = '', kind = '', hash] = name.slice(revocationsPrefix.length).split('-');
  return { hash: hash ?? hashOf(Buffer.from(kind, 'hex').toString()), atMs: Number(at) };
}
