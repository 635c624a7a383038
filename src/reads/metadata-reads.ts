// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { LinkedBlob, LinkKey } from '../blob/link-queries.js';
import type { FoundManifest, ManifestKey, TagKey } from '../manifest/manifest-queries.js';
import type { Digest } from '../oci/digest.js';
import type { RepositoryName } from '../oci/repository-name.js';
import type { ReferrerFilter, ReferrerPage } from '../referrer/referrer-queries.js';

/** Everything that a pull asks of the metadata. Two implementations: Postgres, and, where that is away, the store itself. */
export interface MetadataReads {
  /** Which data a repository's digest is read from; undefined when the repository is not linked to it. */
  readonly links: Lookup<LinkKey, LinkedBlob | undefined>;
  readonly manifestsByTag: Lookup<TagKey, FoundManifest | undefined>;
  readonly manifestsByDigest: Lookup<ManifestKey, FoundManifest | undefined>;
  /** The bytes of a manifest of this repository, or undefined when it is gone. */
  findManifestBytes(repository: RepositoryName, digest: Digest): Promise<Uint8Array | undefined>;
  /** Tags after `last` in the order of their bytes, at most `limit`; undefined when there is no such repository. */
  listTags(repository: RepositoryName, last: string, limit: number): Promise<string[] | undefined>;
  /** Names after `last` in the order of their bytes, at most `limit`. */
  listRepositories(last: string, limit: number): Promise<string[]>;
  /** A page of the manifests whose subject is this digest, and of those under its fallback tag that the repository has; by digest. */
  listReferrers(repository: RepositoryName, subject: Digest, filter: ReferrerFilter): Promise<ReferrerPage>;
}

export interface Lookup<Key, Value> {
  find(key: Key): Promise<Value>;
}
