// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What was moved or deleted comes back by ordinary writes: new entries, with newer sequences than what hides the old ones. */
import type { Journal } from '../journal/write-entries.js';
import { mayMiss, pushManifest, type Sparse } from '../manifest/push-manifest.js';
import type { Digest } from '../oci/digest.js';
import { RegistryError } from '../oci/errors.js';
import { parseManifest } from '../oci/manifest.js';
import type { Tag } from '../oci/reference.js';
import type { RepositoryName } from '../oci/repository-name.js';
import { everPointedAt, findChangeAt, findFormerlyTagged, findKeptManifest, findTagged } from './undo-queries.js';

export interface RestoreParts {
  readonly journal: Journal;
  /** `manifests.sparse`: what a restored manifest may lack is what a pushed one may. */
  readonly sparse: Sparse;
}

/** Which of a tag's former manifests: by default the one before what it points at now. */
export type TagTarget = { readonly to?: Digest; readonly at?: undefined } | { readonly at?: Date; readonly to?: undefined };

export interface RestoredTag {
  readonly digest: Digest;
  /** What it pointed at until now. */
  readonly before: Digest | undefined;
  /** False when it pointed there already. */
  readonly restored: boolean;
  /** References that the manifest may lack, and does. */
  readonly missing: readonly Digest[];
}

/** Throws MANIFEST_UNKNOWN when the history has no such state, or its manifest is gone, and MANIFEST_BLOB_UNKNOWN when something of the manifest is gone. `by` stands in its history. */
export async function restoreTag(
  parts: RestoreParts,
  repository: RepositoryName,
  tag: Tag,
  target: TagTarget,
  by: string,
): Promise<RestoredTag> {
  const { writes } = parts.journal;
  const before = await findTagged(writes, repository, tag);
  const digest = await chooseTarget(parts, repository, tag, target, before);
  if (digest === before) return { digest, before, restored: false, missing: [] };
  const { missing } = await bringBack(parts, repository, digest, [tag], by);
  return { digest, before, restored: true, missing };
}

async function chooseTarget(
  { journal: { writes } }: RestoreParts,
  repository: RepositoryName,
  tag: Tag,
  { to, at }: TagTarget,
  now: Digest | undefined,
): Promise<Digest> {
  const name = `${repository}:${tag}`;
  if (to !== undefined) {
    if (await everPointedAt(writes, repository, tag, to)) return to;
    throw unknown(`${name} has never pointed at ${to}`);
  }
  if (at !== undefined) {
    const change = await findChangeAt(writes, repository, tag, at);
    if (change?.digest !== undefined) return change.digest;
    throw unknown(`there was no ${name} at ${at.toISOString()}`);
  }
  const former = await findFormerlyTagged(writes, repository, tag, now);
  if (former !== undefined) return former;
  throw unknown(now === undefined ? `there has never been a ${name}` : `${name} has never pointed at anything else`);
}

export interface RestoredManifest {
  /** False when there was nothing to do. */
  readonly restored: boolean;
  /** Those that went with it and are back, also where it came back without them before. */
  readonly tags: readonly Tag[];
  readonly missing: readonly Digest[];
}

/** With the tags that were deleted with it, unless they were set again since. Throws as `restoreTag` does. */
export async function restoreManifest(
  parts: RestoreParts,
  repository: RepositoryName,
  digest: Digest,
  withTags: boolean,
  by: string,
): Promise<RestoredManifest> {
  return bringBack(parts, repository, digest, withTags ? 'own' : [], by);
}

/** What an index lists, and was deleted as well, comes back first. */
async function bringBack(
  parts: RestoreParts,
  repository: RepositoryName,
  digest: Digest,
  wanted: readonly Tag[] | 'own',
  by: string,
): Promise<RestoredManifest> {
  const { journal, sparse } = parts;
  const kept = await findKeptManifest(journal.writes, repository, digest);
  if (kept === undefined) throw unknown(`the manifest ${digest} is not in ${repository}, nor can it come back`);
  const tags = wanted === 'own' ? kept.tags : wanted;
  if (!kept.deleted && tags.length === 0) return { restored: false, tags, missing: [] };
  const manifest = parseManifest(kept.bytes, kept.mediaType);
  for (const child of manifest.children) {
    const found = await findKeptManifest(journal.writes, repository, child);
    if (found?.deleted === true) await bringBack(parts, repository, child, [], by);
  }
  const push = { repository, digest, manifest, bytes: kept.bytes, tags, by, allowMissing: mayMiss(manifest, sparse) };
  const missing = await pushManifest(journal, push).catch((error: unknown) => {
    throw nameMissing(error, digest, repository);
  });
  return { restored: true, tags, missing };
}

function nameMissing(error: unknown, digest: Digest, repository: RepositoryName): unknown {
  if (!(error instanceof RegistryError) || error.code !== 'MANIFEST_BLOB_UNKNOWN') return error;
  const { code, detail } = error;
  const gone = (Array.isArray(detail) ? (detail as { readonly digest: Digest }[]) : []).map((reference) => reference.digest);
  const more = gone.length > mostNamed ? ` and ${gone.length - mostNamed} more` : '';
  const message = `${digest} cannot come back, since this of it is gone from ${repository}: ${gone.slice(0, mostNamed).join(', ')}${more}`;
  return new RegistryError(code, message, { status: 409, detail, cause: error });
}

const mostNamed = 5;

function unknown(message: string): RegistryError {
  return new RegistryError('MANIFEST_UNKNOWN', message);
}
