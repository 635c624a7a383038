// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { openLinks } from '../blob/link-queries.js';
import type { Availability } from '../database/availability.js';
import type { Elsewhere, WatchBatches } from '../database/batched-read.js';
import { isDatabaseAway } from '../database/failures.js';
import type { ReadPools } from '../database/pool.js';
import { findManifestBytes, openManifestReads } from '../manifest/manifest-queries.js';
import { listReferrers } from '../referrer/referrer-queries.js';
import { listRepositories } from '../repository/repository-queries.js';
import { listTags } from '../tag/tag-queries.js';
import type { Lookup, MetadataReads } from './metadata-reads.js';

/** Reads Postgres, and the store while Postgres is away; also where it was lost while it was asked. */
export function openReads(
  pools: ReadPools,
  gcDelayMs: number,
  availability: Availability,
  store: MetadataReads,
  watch: WatchBatches | undefined,
): MetadataReads {
  const reads = availability.guardReads(pools.reads);
  const { writes } = pools;
  const links = openLinks({ reads, writes }, gcDelayMs, watch, otherwise(store.links));
  const manifests = openManifestReads({ reads, writes }, gcDelayMs, watch, {
    byTag: otherwise(store.manifestsByTag),
    byDigest: otherwise(store.manifestsByDigest),
  });
  return {
    links: unlessDegraded(availability, links, store.links),
    manifestsByTag: unlessDegraded(availability, manifests.byTag, store.manifestsByTag),
    manifestsByDigest: unlessDegraded(availability, manifests.byDigest, store.manifestsByDigest),
    findManifestBytes: (repository, digest) =>
      either(
        () => findManifestBytes(reads, repository, digest),
        () => store.findManifestBytes(repository, digest),
      ),
    listTags: (repository, last, limit) =>
      either(
        () => listTags(reads, repository, last, limit),
        () => store.listTags(repository, last, limit),
      ),
    listRepositories: (last, limit) =>
      either(
        () => listRepositories(reads, last, limit),
        () => store.listRepositories(last, limit),
      ),
    listReferrers: (repository, subject, filter) =>
      either(
        () => listReferrers(reads, repository, subject, filter),
        () => store.listReferrers(repository, subject, filter),
      ),
  };
}

/** hot: bench/manifests.ts. */
function unlessDegraded<Key, Value>(
  availability: Availability,
  database: Lookup<Key, Value>,
  store: Lookup<Key, Value>,
): Lookup<Key, Value> {
  return { find: (key) => (availability.degraded ? store.find(key) : database.find(key)) };
}

function otherwise<Key, Value>(store: Lookup<Key, Value>): Elsewhere<Key, Value> {
  return (key, failure) => (isDatabaseAway(failure) ? store.find(key) : Promise.reject(failure));
}

async function either<T>(database: () => Promise<T>, store: () => Promise<T>): Promise<T> {
  try {
    return await database();
  } catch (error) {
    if (!isDatabaseAway(error)) throw error;
    return store();
  }
}
