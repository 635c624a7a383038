// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { ManifestCache } from '../manifest/manifest-cache.js';
import type { FoundManifest } from '../manifest/manifest-queries.js';
import type { Digest } from '../oci/digest.js';
import type { RepositoryName } from '../oci/repository-name.js';
import type { BlobStore } from '../storage/blob-store.js';
import { linkPrefix, manifestPrefix, tagPrefix } from '../storage/keys.js';
import { requireOwner } from '../storage/store-lost.js';
import type { MetadataReads } from './metadata-reads.js';
import { SharedLookups } from './shared-lookups.js';
import { StoreEntries } from './store-entries.js';
import { listStoredReferrers } from './stored-referrers.js';
import { listStoredRepositories } from './stored-repositories.js';
import { listStoredTags } from './stored-tags.js';

/** Requests to an object store that are on their way together: at 20 ms each, 1,600 look-ups a second. */
const lookupsAtOnce = 32;
/** Each makes many requests, one after another: pulls do not wait for them. */
const listsAtOnce = 8;

/** Answers from the store alone: all that was acknowledged and not deleted since, and perhaps what is being written. */
export function openStoreReads(store: BlobStore, cache: ManifestCache): MetadataReads {
  const entries = new StoreEntries(store, cache);
  const lookups = new SharedLookups(lookupsAtOnce);
  const lists = new SharedLookups(listsAtOnce);
  /** Nothing is there in a store that has gone. */
  const certain = async <Answer>(answer: Answer | Promise<Answer>): Promise<Answer> => {
    const found = await answer;
    if (found === undefined || (Array.isArray(found) && found.length === 0)) await requireOwner(store);
    return found;
  };
  const find = <Answer>(name: string, look: () => Promise<Answer>): Promise<Answer> => lookups.find(name, () => certain(look()));
  const found = async (repository: RepositoryName, digest: Digest): Promise<FoundManifest | undefined> => {
    const manifest = await entries.findManifest(repository, digest);
    return manifest && { digest, mediaType: manifest.mediaType, size: manifest.bytes.byteLength, content: manifest.bytes };
  };
  return {
    links: {
      find: ({ repository, digest }) => find(linkPrefix(repository, digest), () => entries.findLink(repository, digest)),
    },
    manifestsByTag: {
      find: ({ repository, tag }) =>
        find(tagPrefix(repository, tag), async () => {
          const digest = await entries.findTag(repository, tag);
          return digest === undefined ? undefined : found(repository, digest);
        }),
    },
    manifestsByDigest: {
      find: ({ repository, digest }) => find(manifestPrefix(repository, digest), () => found(repository, digest)),
    },
    findManifestBytes: async (repository, digest) => (await certain(entries.findManifest(repository, digest)))?.bytes,
    listTags: (repository, last, limit) =>
      lists.find(`tags ${repository} ${limit} ${last}`, () => certain(listStoredTags(store, repository, last, limit))),
    listRepositories: (last, limit) =>
      lists.find(`repositories ${limit} ${last}`, () => certain(listStoredRepositories(store, last, limit))),
    listReferrers: (repository, subject, filter) =>
      lists.find(
        // What one may see is nobody else's answer.
        filter.select === undefined ? `referrers ${repository} ${subject} ${JSON.stringify(filter)}` : Symbol('referrers'),
        async () => {
          const page = await listStoredReferrers(entries, repository, subject, filter);
          await certain(page.descriptors);
          return page;
        },
      ),
  };
}
