// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { sqlState, sqlStateOf } from '../database/failures.js';
import { digestFromText } from '../database/columns.js';
import { writeEntries, type Journal } from '../journal/write-entries.js';
import type { Digest } from '../oci/digest.js';
import { RegistryError } from '../oci/errors.js';
import { tagTemplate } from '../storage/keys.js';
import { commitManifest, entriesOf, prepareManifest, type ManifestPush } from './manifest-queries.js';

/**
 * Stores a manifest and points tags at it, all or nothing: the manifest's entry, its referrer entry, then the tags', then one transaction. Returns the references that
 * are missing and may be. Throws MANIFEST_BLOB_UNKNOWN for those that may not.
 */
export function pushManifest(journal: Journal, push: ManifestPush): Promise<readonly Digest[]> {
  const objects = entryObjects(push);
  const templates = objects.map(({ template }) => template);
  return writeEntries<readonly Digest[]>(journal, async () => {
    const prepared = await prepareManifest(journal.writes, journal.node.id, push, templates);
    const missing = prepared.missing.map((column) => digestFromText(`\\x${column.toString('hex')}`));
    if (prepared.outcome === 'missing') throw referencesMissing(missing);
    if (prepared.outcome === 'unchanged') return { done: missing };
    const sequence = BigInt(prepared.sequence ?? 0);
    return { sequence, objects, commit: () => commit(journal, sequence, push), outcome: missing };
  });
}

function entryObjects(push: ManifestPush) {
  const { repository, digest, manifest, bytes, tags } = push;
  const [manifestEntry, referrerEntry] = entriesOf(repository, digest, manifest.subject);
  const tagBody = Buffer.from(JSON.stringify({ at: new Date().toISOString(), by: '' }));
  return [
    ...(manifestEntry === undefined ? [] : [{ template: manifestEntry, bytes: manifestObject(manifest.mediaType, bytes) }]),
    ...(referrerEntry === undefined ? [] : [{ template: referrerEntry, bytes: Buffer.from(JSON.stringify(referrerDescriptor(push))) }]),
    ...tags.map((tag) => ({ template: tagTemplate(repository, tag, digest), bytes: tagBody })),
  ];
}

/** Header lines, a blank line, the exact bytes. */
function manifestObject(mediaType: string, bytes: Uint8Array): Uint8Array {
  return Buffer.concat([Buffer.from(`Content-Type: ${mediaType}\n\n`), bytes]);
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

async function commit(journal: Journal, sequence: bigint, push: ManifestPush): Promise<void> {
  try {
    await commitManifest(journal.writes, journal.node.id, sequence, push);
  } catch (error) {
    if (sqlStateOf(error) !== sqlState.referencesMissing) throw error;
    const { detail = '' } = error as { detail?: string };
    throw referencesMissing(detail.split(' ').map((hex) => digestFromText(`\\x${hex}`)));
  }
}

function referencesMissing(digests: readonly Digest[]): RegistryError {
  return new RegistryError('MANIFEST_BLOB_UNKNOWN', 'the manifest refers to what is not in this repository', {
    detail: digests.map((digest) => ({ digest })),
  });
}
