// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Caller } from '../access/caller.js';
import type { Headers, Reply, Request } from '../http/contract.js';
import { nextLink } from '../http/pagination.js';
import { findDigest, type Digest } from '../oci/digest.js';
import { RegistryError } from '../oci/errors.js';
import { mediaTypes } from '../oci/manifest.js';
import type { RepositoryName } from '../oci/repository-name.js';
import type { MetadataReads } from '../reads/metadata-reads.js';
import type { ReferrerDescriptor, ReferrerFilter } from './referrer-queries.js';

/** A client must be able to take a page as a manifest, of which 4 MiB is what all of them take. */
const pageBytes = 3 * 1024 * 1024;
const pageReferrers = 1000;

/** end-12: GET /v2/<name>/referrers/<digest>, with ?artifactType=. An empty index when there are none, or no such repository. */
export async function getReferrers(
  { reads }: { readonly reads: MetadataReads },
  _request: Request,
  { repository, digest }: { readonly repository: RepositoryName; readonly digest: Digest },
  query: URLSearchParams,
  caller: Caller,
): Promise<Reply> {
  const artifactType = query.get('artifactType')?.replaceAll('\0', '\uFFFD') ?? undefined;
  const last = query.get('last');
  const after = last === null ? undefined : findDigest(last);
  if (last !== null && after === undefined)
    throw new RegistryError('DIGEST_INVALID', 'last must be a digest', { detail: last.slice(0, 200) });
  const list = (filter: ReferrerFilter) => reads.listReferrers(repository, digest, filter);
  const found = await listVisible(list, { artifactType, after, limit: pageReferrers + 1 }, caller.referrerFilter(repository));
  const manifests = firstPage(found);
  const headers: Headers = { 'Content-Type': mediaTypes.ociIndex };
  if (artifactType !== undefined) headers['OCI-Filters-Applied'] = 'artifactType';
  if (manifests.length < found.length) {
    const next = { last: manifests.at(-1)?.digest ?? '', ...(artifactType === undefined ? {} : { artifactType }) };
    Object.assign(headers, nextLink(`/v2/${repository}/referrers/${digest}`, next));
  }
  return { status: 200, headers, body: JSON.stringify({ schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests }) };
}

/** Reads on until there is one more than a page of what may be seen, or no more: neither a short page nor its link tells of what may not. */
async function listVisible(
  list: (filter: ReferrerFilter) => Promise<readonly ReferrerDescriptor[]>,
  filter: ReferrerFilter,
  isVisible: ((digest: Digest) => boolean) | undefined,
): Promise<readonly ReferrerDescriptor[]> {
  if (isVisible === undefined) return list(filter);
  const visible: ReferrerDescriptor[] = [];
  for (let { after } = filter; ;) {
    const some = await list({ ...filter, after });
    visible.push(...some.filter(({ digest }) => isVisible(digest)));
    if (visible.length >= filter.limit || some.length < filter.limit) return visible;
    after = some.at(-1)?.digest;
  }
}

/** As many as fit a page, but one at least. */
function firstPage(found: readonly ReferrerDescriptor[]): readonly ReferrerDescriptor[] {
  let bytes = 0;
  const end = found.findIndex((descriptor, index) => {
    bytes += JSON.stringify(descriptor).length;
    return index >= pageReferrers || (index > 0 && bytes > pageBytes);
  });
  return end < 0 ? found : found.slice(0, end);
}
