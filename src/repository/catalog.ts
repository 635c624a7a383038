// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Caller } from '../access/caller.js';
import type { Reply, Request } from '../http/contract.js';
import { listVisible, pageOf, parsePage } from '../http/pagination.js';
import type { MetadataReads } from '../reads/metadata-reads.js';

/** GET /v2/_catalog, with ?n= and ?last=: not in the specification, but what `repo ls` and browsers ask. Repositories in the order of their bytes. */
export async function getCatalog(
  { reads }: { readonly reads: MetadataReads },
  request: Request,
  _path: unknown,
  query: URLSearchParams,
  caller: Caller,
): Promise<Reply> {
  const page = parsePage(query);
  const list = (last: string, limit: number) => reads.listRepositories(last, limit);
  const repositories = (await listVisible(list, page, caller.catalogFilter(), request.signal)) ?? [];
  const { elements, headers } = pageOf(repositories, page, '/v2/_catalog');
  return { status: 200, headers: { 'Content-Type': 'application/json', ...headers }, body: JSON.stringify({ repositories: elements }) };
}
