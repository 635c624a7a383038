// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Digest } from '../oci/digest.js';
import { parseManifest } from '../oci/manifest.js';
import { referrersTag } from '../oci/reference.js';
import type { RepositoryName } from '../oci/repository-name.js';
import { PageRoom, type ReferrerDescriptor, type ReferrerFilter, type ReferrerPage } from '../referrer/referrer-queries.js';
import { parseEntry, referrersPrefix } from '../storage/keys.js';
import { byBytes, inOrder } from './in-order.js';
import type { StoreEntries } from './store-entries.js';

/** Manifests that are looked at together. */
const mostAtOnce = 16;
/** Digests that `select` is asked about together. */
const selectedAtOnce = 1_000;

/** Manifests whose subject is this digest, and those under its fallback tag that the repository has; by digest. */
export async function listStoredReferrers(
  entries: StoreEntries,
  repository: RepositoryName,
  subject: Digest,
  { artifactType, after, select }: ReferrerFilter,
): Promise<ReferrerPage> {
  const [referring, listed] = await Promise.all([
    listReferring(entries, repository, subject),
    listUnderFallbackTag(entries, repository, subject),
  ]);
  const digests = [...new Set([...referring, ...listed])].filter((digest) => after === undefined || digest > after).sort(byBytes);
  const room = new PageRoom();
  const descriptors: ReferrerDescriptor[] = [];
  for (let at = 0; at < digests.length; at += selectedAtOnce) {
    const some = digests.slice(at, at + selectedAtOnce);
    const selected = select === undefined ? some : await select(some);
    // An entry may outlive its manifest for a while: what counts is whether that is there.
    for await (const [, descriptor] of inOrder(selected, mostAtOnce, (digest) => describe(entries, repository, digest))) {
      if (descriptor === undefined || (artifactType !== undefined && (descriptor.artifactType ?? '') !== artifactType)) continue;
      if (!room.takes(descriptor.size)) return { descriptors, next: descriptors.at(-1)?.digest };
      descriptors.push(descriptor);
    }
  }
  return { descriptors, next: undefined };
}

async function listReferring({ store }: StoreEntries, repository: RepositoryName, subject: Digest): Promise<Digest[]> {
  const keys = await store.list(referrersPrefix(repository, subject));
  return keys.flatMap((key) => {
    const entry = parseEntry(key);
    return entry?.kind === 'referrer' ? [entry.digest] : [];
  });
}

async function listUnderFallbackTag(entries: StoreEntries, repository: RepositoryName, subject: Digest): Promise<Digest[]> {
  const digest = await entries.findTag(repository, referrersTag(subject));
  const index = digest === undefined ? undefined : await entries.findManifest(repository, digest);
  return index === undefined ? [] : [...parseManifest(index.bytes, index.mediaType).children];
}

async function describe(entries: StoreEntries, repository: RepositoryName, digest: Digest): Promise<ReferrerDescriptor | undefined> {
  const stored = await entries.findManifest(repository, digest);
  if (stored === undefined) return undefined;
  const { mediaType, artifactType, annotations } = parseManifest(stored.bytes, stored.mediaType);
  return {
    mediaType,
    digest,
    size: stored.bytes.byteLength,
    ...(artifactType === undefined ? {} : { artifactType }),
    ...(annotations === undefined ? {} : { annotations: inOrderOfPostgres(annotations) }),
  };
}

/** A client that compares two answers sees the same bytes: jsonb sorts keys by their length, then by their bytes. */
function inOrderOfPostgres(annotations: Record<string, string>): Record<string, string> {
  const keyed = Object.entries(annotations).map(([key, value]) => ({ key, value, bytes: Buffer.from(key) }));
  keyed.sort((a, b) => a.bytes.length - b.bytes.length || Buffer.compare(a.bytes, b.bytes));
  return Object.fromEntries(keyed.map(({ key, value }) => [key, value]));
}
