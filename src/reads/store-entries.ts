// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { LinkedBlob } from '../blob/link-queries.js';
import type { ManifestCache } from '../manifest/manifest-cache.js';
import type { Digest } from '../oci/digest.js';
import type { Tag } from '../oci/reference.js';
import type { RepositoryName } from '../oci/repository-name.js';
import type { BlobStore } from '../storage/blob-store.js';
import { isMarkedDamaged } from '../storage/damage-marks.js';
import { dataKey, isForeign, linkPrefix, manifestPrefix, tagPrefix } from '../storage/keys.js';
import { readManifestObject } from '../storage/manifest-object.js';
import { unavailable } from '../database/failures.js';
import { findNewestEntry } from './newest-entry.js';

export interface StoredManifest {
  readonly mediaType: string;
  readonly bytes: Uint8Array;
}

/** What the newest entry of a prefix says, which is what counts; a deletion is an entry like any other. Every question is a LIST: nothing is remembered but what never changes. */
export class StoreEntries {
  readonly store: BlobStore;
  private readonly cache: ManifestCache;
  /** By the key of the link, which is never written again. */
  private readonly data = new Map<string, LinkedBlob>();

  constructor(store: BlobStore, cache: ManifestCache) {
    this.store = store;
    this.cache = cache;
  }

  async findTag(repository: RepositoryName, tag: Tag): Promise<Digest | undefined> {
    const newest = await findNewestEntry(this.store, tagPrefix(repository, tag));
    return newest?.entry.kind === 'tag' && newest.entry.digest !== 'deleted' ? newest.entry.digest : undefined;
  }

  /** The manifest, where the repository has it. */
  async findManifest(repository: RepositoryName, digest: Digest): Promise<StoredManifest | undefined> {
    const prefix = manifestPrefix(repository, digest);
    for (let attempt = 0; attempt < attempts; attempt++) {
      const newest = await findNewestEntry(this.store, prefix);
      if (newest?.entry.kind !== 'manifest' || newest.entry.deleted) return undefined;
      const known = this.cache.get(newest.key);
      const object = known ?? (await this.store.get(newest.key));
      if (object === undefined) continue;
      const manifest = read(newest.key, object, digest);
      if (known === undefined) this.cache.set(newest.key, object);
      return manifest;
    }
    return undefined;
  }

  async findLink(repository: RepositoryName, digest: Digest): Promise<LinkedBlob | undefined> {
    const prefix = linkPrefix(repository, digest);
    for (let attempt = 0; attempt < attempts; attempt++) {
      const newest = await findNewestEntry(this.store, prefix);
      if (newest?.entry.kind !== 'link' || newest.entry.uuid === 'deleted') return undefined;
      const { uuid } = newest.entry;
      const damaged = await isMarkedDamaged(this.store, uuid);
      const known = this.data.get(newest.key);
      if (known !== undefined) return { ...known, damaged };
      const key = isForeign(uuid) ? await this.bodyOf(newest.key) : dataKey(uuid);
      if (key === undefined) continue;
      const size = await this.store.size(key);
      // A link counts only while its data are there.
      if (size === undefined) return undefined;
      const found = { uuid, key, size, damaged };
      if (this.data.size >= mostData) this.data.clear();
      this.data.set(newest.key, found);
      return found;
    }
    return undefined;
  }

  /** Where the data of another program's store are. */
  private async bodyOf(link: string): Promise<string | undefined> {
    const body = await this.store.get(link);
    return body && Buffer.from(body).toString('utf8').trim();
  }
}

/** An entry may be superseded, and its object deleted, between the list and the look: the next list has the newer one. */
const attempts = 3;
/** Some 3 MB. */
const mostData = 10_000;

/** The other copy is in the database, which cannot be asked now. */
function read(key: string, object: Uint8Array, digest: Digest): StoredManifest {
  try {
    const { mediaType, bytes } = readManifestObject(object, digest);
    if (mediaType === undefined) throw new Error('its header does not tell its media type');
    return { mediaType, bytes };
  } catch (error) {
    throw unavailable(
      'the copy of this manifest in the store is damaged, and the database is away',
      new Error(`${key}: ${(error as Error).message}`),
    );
  }
}
