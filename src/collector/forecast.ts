// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What a round would collect now, found by looks alone: nothing is locked and nothing is changed. */
import type { Collection } from './collection.js';
import { findLinksOfBlobs, listDueBlobs, listDueLinks, listDueManifests, listDueTrash, nameManifests } from './forecast-queries.js';
import { findAncestors, lookAt, type ManifestRow } from './manifest-queue-queries.js';
import { findPrunable } from './prune.js';

export type Forecast =
  | { readonly kind: 'manifest'; readonly repository: string; readonly digest: string }
  | { readonly kind: 'link'; readonly repository: string; readonly digest: string }
  | { readonly kind: 'blob'; readonly digest: string; readonly bytes: number }
  | { readonly kind: 'record'; readonly key: string }
  | { readonly kind: 'object'; readonly key: string };

const page = 1000;

/** In the order in which they would go. What only becomes due by that is not among them: it has its own time. */
export async function* forecast({
  pool,
  store,
  lifetimesOf,
}: Pick<Collection, 'pool' | 'store' | 'lifetimesOf'>): AsyncGenerator<Forecast> {
  const seen = new Set<string>();
  const isNew = (key: string): boolean => !seen.has(key) && seen.add(key) !== undefined;

  for (let after = '0'; ;) {
    const due = await listDueManifests(pool, after, page);
    const lifetimes = new Map(due.map(({ repositoryId, repository }) => [repositoryId, lifetimesOf(repository)]));
    const looked = due.length === 0 ? [] : await lookAt(pool, await findAncestors(pool, due), lifetimes);
    const dead: ManifestRow[] = looked.filter((row) => !row.live && isNew(`m ${row.repositoryId} ${row.digest.toString('hex')}`));
    for (const manifest of await nameManifests(pool, dead)) yield { kind: 'manifest', ...manifest };
    if (due.length < page) break;
    after = due.at(-1)?.id ?? after;
  }

  const touched = new Map<string, { digest: Buffer; uuid: string }>();
  for (let after = '0'; ;) {
    const { rows, last } = await listDueLinks(pool, after, page);
    for (const { repositoryId, repository, digestName, digest, uuid } of rows) {
      if (!isNew(`l ${repositoryId} ${digest.toString('hex')}`)) continue;
      touched.set(`${digest.toString('hex')} ${uuid}`, { digest, uuid });
      yield { kind: 'link', repository, digest: digestName };
    }
    if (last === undefined) break;
    after = last;
  }

  for (const blob of await listDueBlobs(pool)) touched.set(`${blob.digest.toString('hex')} ${blob.uuid}`, blob);
  const blobs = [...touched.values()];
  for (let from = 0; from < blobs.length; from += page) {
    for (const { digest, digestName, bytes, repositoryIds } of await findLinksOfBlobs(pool, blobs.slice(from, from + page))) {
      if (repositoryIds.every((id) => seen.has(`l ${id} ${digest.toString('hex')}`))) yield { kind: 'blob', digest: digestName, bytes };
    }
  }

  for await (const found of findPrunable({ pool, store }))
    for (const key of found.flatMap(({ keys }) => keys)) yield { kind: 'record', key };

  for (let after = ''; ;) {
    const keys = await listDueTrash(pool, after, page);
    for (const key of keys) yield { kind: 'object', key };
    if (keys.length < page) return;
    after = keys.at(-1) ?? after;
  }
}
