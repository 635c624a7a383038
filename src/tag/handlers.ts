// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Caller } from '../access/caller.js';
import type { Reply, Request } from '../http/contract.js';
import { listVisible, pageOf, parsePage } from '../http/pagination.js';
import { RegistryError } from '../oci/errors.js';
import type { RepositoryName } from '../oci/repository-name.js';
import type { MetadataReads } from '../reads/metadata-reads.js';

/** end-8: GET /v2/<name>/tags/list, with ?n= and ?last=. Sorted by bytes. */
export async function getTags(
  { reads }: { readonly reads: MetadataReads },
  request: Request,
  { repository }: { readonly repository: RepositoryName },
  query: URLSearchParams,
  caller: Caller,
): Promise<Reply> {
  const page = parsePage(query);
  const list = (last: string, limit: number) => reads.listTags(repository, last, limit);
  const tags = await listVisible(list, page, caller.tagFilter(repository), request.signal);
  if (tags === undefined) throw new RegistryError('NAME_UNKNOWN', 'repository unknown', { detail: repository });
  const { elements, headers } = pageOf(tags, page, `/v2/${repository}/tags/list`);
  return {
    status: 200,
    headers: { 'Content-Type': 'application/json', ...headers },
    body: JSON.stringify({ name: repository, tags: elements }),
  };
}
