// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { sqlState, sqlStateOf } from '../database/failures.js';
import { digestFromText } from '../database/columns.js';
import { resurrectLink } from '../blob/resurrect-link.js';
import { writeEntries, type Journal, type Prepared } from '../journal/write-entries.js';
import type { Digest } from '../oci/digest.js';
import { RegistryError } from '../oci/errors.js';
import type { Manifest } from '../oci/manifest.js';
import { tagBody, tagTemplate } from '../storage/keys.js';
import { writeManifestObject } from '../storage/manifest-object.js';
import { commitManifest, entriesOf, prepareManifest, type ManifestPush } from './manifest-queries.js';

/**
 * Stores a manifest and points tags at it, all or nothing: the manifest's entry, its referrer entry, then the tags', then one transaction. Returns the references that
 * are missing and may be. Throws MANIFEST_BLOB_UNKNOWN for those that may not.
 */
export async function pushManifest(journal: Journal, push: ManifestPush, signal?: AbortSignal): Promise<readonly Digest[]> {
  let missing: readonly Digest[];
  try {
    missing = await write(journal, push, signal);
  } catch (error) {
    if (!(error instanceof ReferencesMissing) || !(await comesBack(journal, push, error.digests))) throw error;
    return write(journal, push, signal);
  }
  return missing.length > 0 && (await comesBack(journal, push, missing)) ? write(journal, push, signal) : missing;
}

/** What was collected since the client asked for it comes back; what somebody else brought back meanwhile is there as well. False when no blob is among the missing. */
async function comesBack(journal: Journal, { repository, manifest }: ManifestPush, missing: readonly Digest[]): Promise<boolean> {
  const own = new Set([...manifest.blobs, ...manifest.optionalBlobs]);
  const blobs = missing.filter((digest) => own.has(digest));
  for (const digest of blobs) await resurrectLink(journal, repository, digest);
  return blobs.length > 0;
}

function write(journal: Journal, push: ManifestPush, signal: AbortSignal | undefined): Promise<readonly Digest[]> {
  const objects = entryObjects(push);
  const templates = objects.map(({ template }) => template);
  const prepare = async (node: string): Promise<Prepared<readonly Digest[]>> => {
    const prepared = await prepareManifest(journal.writes, node, push, templates);
    if (prepared.used !== undefined) {
      const quota = journal.quotas?.of(push.repository);
      quota?.note(Number(prepared.used));
      if (prepared.outcome === 'full' && quota !== undefined) throw quota.exceeded(Number(prepared.used), push.bytes.byteLength);
    }
    if (prepared.outcome === 'missing') throw new ReferencesMissing(digestsOf(prepared.missing));
    const missing = digestsOf([...prepared.missing, ...(prepared.unusable ?? [])]);
    if (prepared.outcome === 'unchanged') return { done: missing };
    const sequence = BigInt(prepared.sequence ?? 0);
    return { sequence, objects, commit: () => commit(journal, node, sequence, push), outcome: missing };
  };
  return writeEntries(journal, prepare, signal);
}

function digestsOf(columns: readonly Buffer[]): Digest[] {
  return columns.map((column) => digestFromText(`\\x${column.toString('hex')}`));
}

/** `manifests.sparse`. */
export type Sparse = 'reject' | 'indexes' | 'accept';

/** An index may name images that are not mirrored (yet), and a build cache names layers in one; an image without its layers is a push that broke. */
export function mayMiss(manifest: Manifest, sparse: Sparse): boolean {
  const isIndex = manifest.mediaType.includes('index') || manifest.mediaType.includes('manifest.list');
  return sparse === 'accept' || (sparse === 'indexes' && isIndex);
}

function entryObjects(push: ManifestPush) {
  const { repository, digest, tags, by = '' } = push;
  const body = tagBody(new Date(), by);
  return [...manifestObjects(push), ...tags.map((tag) => ({ template: tagTemplate(repository, tag, digest), bytes: body }))];
}

/** The objects of the manifest itself: its entry and, with a subject, that among the referrers. */
export function manifestObjects(push: Pick<ManifestPush, 'repository' | 'digest' | 'manifest' | 'bytes'>) {
  const { repository, digest, manifest, bytes } = push;
  const [manifestEntry, referrerEntry] = entriesOf(repository, digest, manifest.subject);
  return [
    ...(manifestEntry === undefined ? [] : [{ template: manifestEntry, bytes: writeManifestObject(manifest.mediaType, bytes) }]),
    ...(referrerEntry === undefined ? [] : [{ template: referrerEntry, bytes: Buffer.from(JSON.stringify(referrerDescriptor(push))) }]),
  ];
}

/** As the referrers API lists it. */
export function referrerDescriptor({
  digest,
  manifest,
  bytes,
}: Pick<ManifestPush, 'digest' | 'manifest' | 'bytes'>): Record<string, unknown> {
  const { mediaType, artifactType, annotations } = manifest;
  return { mediaType, digest, size: bytes.byteLength, artifactType, annotations };
}

async function commit({ writes }: Journal, node: string, sequence: bigint, push: ManifestPush): Promise<void> {
  try {
    await commitManifest(writes, node, sequence, push);
  } catch (error) {
    if (sqlStateOf(error) !== sqlState.referencesMissing) throw error;
    const { detail = '' } = error as { detail?: string };
    throw new ReferencesMissing(detail.split(' ').map((hex) => digestFromText(`\\x${hex}`)));
  }
}

class ReferencesMissing extends RegistryError {
  readonly digests: readonly Digest[];

  constructor(digests: readonly Digest[]) {
    super('MANIFEST_BLOB_UNKNOWN', 'the manifest refers to what is not in this repository', {
      detail: digests.map((digest) => ({ digest })),
    });
    this.digests = digests;
  }
}
