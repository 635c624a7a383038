// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * Refresh tokens that were taken back: all that an identity was given until then. They stand in the store, so that they count on every node and without Postgres, until
 * nothing is left that they could stop.
 */
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
    const old = entries.filter(({ atMs }) => atMs + longestTokenMs < now());
    if (old.length > 0) await store.delete(old.map(({ name }) => name));
    revokedMs = new Map(entries.toSorted((a, b) => a.atMs - b.atMs).map(({ id, atMs }) => [id, atMs]));
  };
  await refresh();
  const timer = setInterval(() => void refresh().catch(onError), refreshEveryMs).unref();
  return {
    refresh,
    async revoke(id) {
      const atMs = now();
      await store.put(`${revocationsPrefix}${String(atMs).padStart(15, '0')}-${Buffer.from(id).toString('hex')}`, new Uint8Array());
      revokedMs.set(id, atMs);
    },
    async covers(id, issuedMs) {
      if (lookedMs + freshMs <= now()) await refresh();
      return issuedMs <= (revokedMs.get(id) ?? -1);
    },
    close: () => clearInterval(timer),
  };
}

function parse(name: string): { readonly id: string; readonly atMs: number } {
  const [at = '', hex = ''] = name.slice(revocationsPrefix.length).split('-');
  return { id: Buffer.from(hex, 'hex').toString(), atMs: Number(at) };
}
