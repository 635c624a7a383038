// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Marks of data that have not the bytes that they should have: what reads without Postgres, and a rebuild, know of it. */
import type { Digest } from '../oci/digest.js';
import type { BlobStore } from './blob-store.js';
import { countOf, damageKey, damagePrefix, damagePrefixOf } from './keys.js';
import { walkKeys } from './walk-keys.js';

/** Every mark has a key of its own, so writing it late, or twice, does no harm. */
export function writeDamageMark(store: BlobStore, uuid: string, sequence: bigint, digest: Digest): Promise<void> {
  return store.put(damageKey(uuid, sequence), Buffer.from(JSON.stringify({ digest })));
}

export async function isMarkedDamaged(store: BlobStore, uuid: string): Promise<boolean> {
  return (await store.list(damagePrefixOf(uuid), { limit: 1 })).length > 0;
}

/** By the uuid of the data, the newest mark's sequence. */
export type DamageMarks = ReadonlyMap<string, bigint>;

export async function readDamageMarks(store: BlobStore): Promise<DamageMarks> {
  const marks = new Map<string, bigint>();
  for await (const key of walkKeys(store, damagePrefix)) {
    const [uuid = ''] = key.slice(damagePrefix.length).split('/', 1);
    if (!marks.has(uuid)) marks.set(uuid, countOf(damagePrefixOf(uuid), key));
  }
  return marks;
}
