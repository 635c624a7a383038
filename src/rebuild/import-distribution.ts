// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Takes over what CNCF distribution wrote into this store, where it lies: blobs are linked to, manifests are small and get entries of our own. Nothing of it is changed. */
import { commitForeignLink, commitLink, prepareLink } from '../blob/link-queries.js';
import { sideBySide } from '../journal/side-by-side.js';
import { writeEntries, type Journal } from '../journal/write-entries.js';
import { pushManifest } from '../manifest/push-manifest.js';
import { findDigest, type Digest } from '../oci/digest.js';
import { parseManifest } from '../oci/manifest.js';
import type { Tag } from '../oci/reference.js';
import type { RepositoryName } from '../oci/repository-name.js';
import { foreignUuid, isForeign, linkPrefix, linkTemplate, manifestPrefix } from '../storage/keys.js';
import { walkKeys } from '../storage/walk-keys.js';
import { distributionBlob, distributionRepositories, listDistribution, type DistributionRepository } from './distribution-layout.js';
import { listDeletions, listPastTags } from './import-queries.js';
import { hashOf } from '../storage/manifest-object.js';
import type { ReadManifest } from './manifest-object.js';
import type { Finding, VerifyData } from './read-group.js';
import type { Counts } from './rebuild-queries.js';

export interface ImportOptions {
  readonly verify: VerifyData | undefined;
  readonly onProgress: (counts: Counts) => void;
  readonly onFinding: (finding: Finding) => void;
}

/** Entries written side by side: their objects and commits are waited for, not worked on. */
const entriesAtOnce = 16;
/** In one push of a manifest. */
const mostTags = 100;

/**
 * Can be done again, to take over what came since: what is here is passed over, and so is what was deleted here, or moved on, since it was taken over.
 * Returns how much there is; `undefined` when the store holds nothing of distribution's.
 */
export async function importDistribution(journal: Journal, options: ImportOptions): Promise<Counts | undefined> {
  const counts = { repositories: 0, links: 0, manifests: 0, tags: 0 };
  const keys = walkKeys(journal.store, distributionRepositories);
  const strange = (key: string): void => options.onFinding({ key, reason: 'not a key of the layout of distribution' });
  for await (const found of listDistribution(keys, strange)) {
    const deletions = await listDeletions(journal.writes, found.repository);
    counts.links += await importLayers(journal, found, deletions, options);
    const { manifests, tags } = await importManifests(journal, found, deletions, options);
    counts.manifests += manifests;
    counts.tags += tags;
    counts.repositories++;
    options.onProgress(counts);
  }
  await journal.history.requireStore();
  return counts.repositories === 0 ? undefined : counts;
}

async function importLayers(
  journal: Journal,
  { repository, layers }: DistributionRepository,
  deletions: ReadonlySet<string>,
  { verify, onFinding }: ImportOptions,
): Promise<number> {
  let count = 0;
  await sideBySide(layers, entriesAtOnce, async (digest) => {
    if (deletions.has(linkPrefix(repository, digest))) return;
    const key = distributionBlob(digest);
    const size = await journal.store.size(key);
    if (size === undefined) return onFinding({ key, reason: `the data of ${digest} in ${repository} are missing` });
    if (verify !== undefined && !(await verify(key, digest, size)))
      return onFinding({ key, reason: `the bytes are not those of ${digest}` });
    await linkForeign(journal, repository, digest, key, size);
    count++;
  });
  return count;
}

/** Where the digest is stored already, the link goes to that. */
function linkForeign(journal: Journal, repository: RepositoryName, digest: Digest, key: string, size: number): Promise<void> {
  const { writes } = journal;
  return writeEntries<void>(journal, async (node) => {
    const prepared = await prepareLink(writes, node, { repository, digest }, { own: foreignUuid(digest) });
    if (prepared.outcome === 'linked') return { done: undefined };
    const sequence = BigInt(prepared.sequence ?? 0);
    const { uuid } = prepared;
    const link = { repository, digest, uuid, sequence, size };
    return {
      sequence,
      objects: [{ template: linkTemplate(repository, digest, uuid), bytes: Buffer.from(isForeign(uuid) ? key : '') }],
      commit: () => (isForeign(uuid) ? commitForeignLink(writes, node, link, key) : commitLink(writes, node, link)),
      outcome: undefined,
    };
  });
}

async function importManifests(
  journal: Journal,
  found: DistributionRepository,
  deletions: ReadonlySet<string>,
  { onFinding }: ImportOptions,
): Promise<{ manifests: number; tags: number }> {
  const { repository, revisions } = found;
  const tags = await tagsByDigest(journal, found, onFinding);
  const past = await listPastTags(journal.writes, repository);
  const sum = { manifests: 0, tags: 0 };
  await sideBySide(revisions, entriesAtOnce, async (digest) => {
    const pointing = tags.get(digest) ?? [];
    tags.delete(digest);
    if (deletions.has(manifestPrefix(repository, digest))) return;
    const read = await readManifest(journal, digest);
    if ('reason' in read) {
      onFinding({ key: distributionBlob(digest), reason: `the manifest ${digest} of ${repository} cannot be used: ${read.reason}` });
      return;
    }
    // What was moved or deleted here since it was taken over stays so.
    const fresh = pointing.filter((tag) => !past.has(`${tag} ${digest}`));
    const push = { repository, digest, ...read, allowMissing: true };
    for (let start = 0; start === 0 || start < fresh.length; start += mostTags)
      await pushManifest(journal, { ...push, tags: fresh.slice(start, start + mostTags) });
    sum.manifests++;
    sum.tags += pointing.length;
  });
  for (const [digest, [tag]] of tags) {
    const key = `${distributionRepositories}${repository}/_manifests/tags/${tag}/current/link`;
    onFinding({ key, reason: `its manifest ${digest} is not there` });
  }
  return sum;
}

async function readManifest({ store }: Journal, digest: Digest): Promise<ReadManifest | { readonly reason: string }> {
  const bytes = await store.get(distributionBlob(digest));
  if (bytes === undefined) return { reason: 'its bytes are missing' };
  if (hashOf(bytes, digest) !== digest) return { reason: 'its bytes have another digest' };
  try {
    return { manifest: parseManifest(bytes, undefined), bytes };
  } catch (error) {
    return { reason: (error as Error).message };
  }
}

async function tagsByDigest(
  { store }: Journal,
  { tags }: DistributionRepository,
  onFinding: ImportOptions['onFinding'],
): Promise<Map<Digest, Tag[]>> {
  const byDigest = new Map<Digest, Tag[]>();
  await sideBySide(tags, entriesAtOnce, async ({ tag, key }) => {
    const digest = findDigest(
      Buffer.from((await store.get(key)) ?? [])
        .toString('utf8')
        .trim(),
    );
    if (digest === undefined) return onFinding({ key, reason: 'the tag names no digest' });
    byDigest.set(digest, [...(byDigest.get(digest) ?? []), tag]);
  });
  return byDigest;
}
