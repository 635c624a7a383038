// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Caller } from '../access/caller.js';
import type { Headers, Reply, Request } from '../http/contract.js';
import { nextLink, selectVisible } from '../http/pagination.js';
import { findDigest, type Digest } from '../oci/digest.js';
import { RegistryError } from '../oci/errors.js';
import { mediaTypes } from '../oci/manifest.js';
import type { RepositoryName } from '../oci/repository-name.js';
import type { MetadataReads } from '../reads/metadata-reads.js';

/**
 * end-12: GET /v2/<name>/referrers/<digest>, with ?artifactType=. An empty index when there are none, or no such repository. Neither a short page nor its link tells of
 * what may not be seen.
 */
export async function getReferrers(
  { reads }: { readonly reads: MetadataReads },
  request: Request,
  { repository, digest }: { readonly repository: RepositoryName; readonly digest: Digest },
  query: URLSearchParams,
  caller: Caller,
): Promise<Reply> {
  const artifactType = query.get('artifactType')?.replaceAll('\0', '\uFFFD') ?? undefined;
  const last = query.get('last');
  const after = last === null ? undefined : findDigest(last);
  if (last !== null && after === undefined)
    throw new RegistryError('DIGEST_INVALID', 'last must be a digest', { detail: last.slice(0, 200) });
  const isVisible = caller.referrerFilter(repository);
  const select = isVisible && ((digests: readonly Digest[]) => selectVisible(digests, isVisible, request.signal));
  const { descriptors: manifests, next } = await reads.listReferrers(repository, digest, { artifactType, after, select });
  const headers: Headers = { 'Content-Type': mediaTypes.ociIndex };
  if (artifactType !== undefined) headers['OCI-Filters-Applied'] = 'artifactType';
  if (next !== undefined) {
    const more = { last: next, ...(artifactType === undefined ? {} : { artifactType }) };
    Object.assign(headers, nextLink(`/v2/${repository}/referrers/${digest}`, more));
  }
  return { status: 200, headers, body: JSON.stringify({ schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests }) };
}
