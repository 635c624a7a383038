// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Caller } from '../access/caller.js';
import { isNotModified } from '../http/conditional.js';
import { BodyTooLarge, type Headers, type Reply, type Request } from '../http/contract.js';
import { writeEntries, type Journal, type Prepared } from '../journal/write-entries.js';
import { algorithmOf, makeDigest, type Digest, type DigestAlgorithm } from '../oci/digest.js';
import { RegistryError } from '../oci/errors.js';
import { parseManifest } from '../oci/manifest.js';
import { parseTag, type Reference, type Tag } from '../oci/reference.js';
import type { RepositoryName } from '../oci/repository-name.js';
import { deletionTemplate, manifestPrefix, tagBody, tagPrefix } from '../storage/keys.js';
import { deleteTag } from '../tag/delete-tag.js';
import type { Hasher } from '../worker/hash.js';
import type { ManifestCache } from './manifest-cache.js';
import type { MetadataReads } from '../reads/metadata-reads.js';
import { commitManifestDeletion, prepareManifestDeletion, type FoundManifest } from './manifest-queries.js';
import type { PullTimes } from './pull-times.js';
import { mayMiss, pushManifest, type Sparse } from './push-manifest.js';
import type { ReceiveBudget } from './receive-budget.js';

export interface ManifestParts {
  readonly reads: MetadataReads;
  readonly cache: ManifestCache;
  readonly pulls: PullTimes;
  readonly journal: Journal;
  readonly hasher: Hasher;
  readonly receiving: ReceiveBudget;
  readonly limits: { readonly maxSizeBytes: number; readonly sparse: Sparse };
}

export interface ManifestPath {
  readonly repository: RepositoryName;
  readonly reference: Reference;
}

/** The specification asks for ten; more tags than this in one push are answered 414. */
const mostTags = 100;

/** end-3: GET and HEAD /v2/<name>/manifests/<reference>. The stored bytes, whatever the client accepts. */
export async function getManifest(parts: ManifestParts, request: Request, { repository, reference }: ManifestPath): Promise<Reply> {
  const { reads } = parts;
  const found = await (reference.tag === undefined
    ? reads.manifestsByDigest.find({ repository, digest: reference.digest })
    : reads.manifestsByTag.find({ repository, tag: reference.tag }));
  if (found === undefined) throw manifestUnknown(reference);
  if (request.method === 'GET') parts.pulls.note(repository, found.digest);
  const headers = {
    'Content-Type': found.mediaType,
    'Docker-Content-Digest': found.digest,
    ETag: `"${found.digest}"`,
    // A tag may move at any time; what a digest names never changes.
    'Cache-Control': reference.tag === undefined ? 'max-age=31536000, immutable' : 'no-cache',
  };
  if (isNotModified(request, found.digest)) return { status: 304, headers };
  return { status: 200, headers, body: found.content ?? (await largeManifest(parts, repository, reference, found)) };
}

/** end-7: PUT /v2/<name>/manifests/<reference>, with ?tag= for further tags of a push by digest. */
export async function putManifest(
  parts: ManifestParts,
  request: Request,
  { repository, reference }: ManifestPath,
  query: URLSearchParams,
  caller: Caller,
): Promise<Reply> {
  const { limits, hasher, journal, receiving } = parts;
  const tags = tagsOf(reference, query);
  const refused = tags.find((tag) => !caller.may('put-manifest', repository, { tag }));
  if (refused !== undefined) throw new RegistryError('DENIED', 'access to this is denied', { detail: refused });
  const bytes = await limited(request, limits.maxSizeBytes, receiving);
  const digest = digestOf(hasher, reference.digest === undefined ? 'sha256' : algorithmOf(reference.digest), bytes);
  if (reference.digest !== undefined && reference.digest !== digest) {
    throw new RegistryError('DIGEST_INVALID', 'the manifest has another digest', {
      detail: { expected: reference.digest, actual: digest },
    });
  }
  const manifest = parseManifest(bytes, request.header('content-type'));
  const allowMissing = mayMiss(manifest, limits.sparse);
  const limitBytes = journal.quotas?.of(repository)?.limitBytes;
  const push = { repository, digest, manifest, bytes, tags, allowMissing, by: caller.id, limitBytes };
  const missing = await pushManifest(journal, push, request.signal);
  const headers: Headers = { Location: `/v2/${repository}/manifests/${digest}`, 'Docker-Content-Digest': digest };
  if (manifest.subject !== undefined) headers['OCI-Subject'] = manifest.subject;
  if (reference.digest !== undefined && tags.length > 0) headers['OCI-Tag'] = tags;
  if (missing.length > 0) headers['Warning'] = `299 - "${missing.length} of the references are not in this repository (yet)"`;
  return { status: 201, headers };
}

/** end-9: DELETE /v2/<name>/manifests/<reference>. A tag goes alone, a manifest with all its tags. */
export async function deleteManifest(
  { journal }: ManifestParts,
  request: Request,
  { repository, reference }: ManifestPath,
  caller: Caller,
): Promise<Reply> {
  const deleted =
    reference.tag === undefined
      ? await deleteByDigest(journal, { repository, digest: reference.digest, by: caller.id }, request.signal)
      : await deleteTag(journal, { repository, tag: reference.tag, by: caller.id }, request.signal);
  if (!deleted) throw manifestUnknown(reference);
  return { status: 202 };
}

async function largeManifest(
  { cache, reads }: ManifestParts,
  repository: RepositoryName,
  reference: Reference,
  { digest }: FoundManifest,
): Promise<Uint8Array> {
  const cached = cache.get(digest);
  if (cached !== undefined) return cached;
  const bytes = await reads.findManifestBytes(repository, digest);
  // It may have been deleted since it was found.
  if (bytes === undefined) throw manifestUnknown(reference);
  cache.set(digest, bytes);
  return bytes;
}

function tagsOf(reference: Reference, query: URLSearchParams): Tag[] {
  if (reference.tag !== undefined) return [reference.tag];
  const tags = [...new Set(query.getAll('tag'))];
  if (tags.length > mostTags) throw new RegistryError('TAG_INVALID', `at most ${mostTags} tags can be pushed at once`, { status: 414 });
  return tags.map(parseTag);
}

async function limited(request: Request, maxSizeBytes: number, receiving: ReceiveBudget): Promise<Uint8Array> {
  const tooLarge = () =>
    new RegistryError('SIZE_INVALID', `a manifest has at most ${maxSizeBytes} bytes here (manifests.max_size)`, { status: 413 });
  if (request.body.length !== undefined && request.body.length > maxSizeBytes) throw tooLarge();
  try {
    return await receiving.run(request.body.length ?? maxSizeBytes, (leastRate) => request.body.bytes(maxSizeBytes, leastRate));
  } catch (error) {
    throw error instanceof BodyTooLarge ? tooLarge() : error;
  }
}

function digestOf(hasher: Hasher, algorithm: DigestAlgorithm, bytes: Uint8Array): Digest {
  const state = hasher.initial(algorithm);
  hasher.update(algorithm, state, bytes);
  return makeDigest(algorithm, hasher.digest(algorithm, state));
}

function deleteByDigest(
  journal: Journal,
  { repository, digest, by }: { readonly repository: RepositoryName; readonly digest: Digest; readonly by: string },
  signal: AbortSignal,
): Promise<boolean> {
  const template = deletionTemplate(manifestPrefix(repository, digest));
  const prepare = async (node: string): Promise<Prepared<boolean>> => {
    const body = tagBody(new Date(), by);
    const prepared = await prepareManifestDeletion(journal.writes, node, { repository, digest, template, body });
    if (prepared === undefined) return { done: false };
    const tags = prepared.tags.map((tag) => ({ template: deletionTemplate(tagPrefix(repository, tag)), bytes: body }));
    return {
      sequence: prepared.sequence,
      objects: [{ template, bytes: body }, ...tags],
      commit: () => commitManifestDeletion(journal.writes, node, prepared.sequence, { repository, digest, ...prepared }),
      outcome: true,
    };
  };
  return writeEntries(journal, prepare, signal);
}

function manifestUnknown(reference: Reference): RegistryError {
  return new RegistryError('MANIFEST_UNKNOWN', 'manifest unknown', { detail: reference.tag ?? reference.digest });
}
