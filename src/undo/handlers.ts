// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Caller } from '../access/caller.js';
import { BodyTooLarge, type Reply, type Request } from '../http/contract.js';
import { nextLink, parsePage } from '../http/pagination.js';
import { findDigest, type Digest } from '../oci/digest.js';
import { RegistryError } from '../oci/errors.js';
import type { Tag } from '../oci/reference.js';
import type { RepositoryName } from '../oci/repository-name.js';
import { aboveAll, tagHistory } from './history.js';
import { restoreManifest, restoreTag, type RestoreParts, type TagTarget } from './restore.js';
import { parseTime } from './time.js';

const json = { 'Content-Type': 'application/json' };
/** A page without `n`. */
const changesPerPage = 100;
const mostChanges = 1000;
/** Who restores where nobody has a name. */
const operator = 'loopback';
const mostBodyBytes = 64 * 1024;

interface TagPath {
  readonly repository: RepositoryName;
  readonly tag: Tag;
}

/** GET /api/v1/repositories/<name>/tags/<tag>/history, with ?n= and ?last= (a sequence). Newest first. */
export async function getTagHistory(
  { journal }: RestoreParts,
  _request: Request,
  { repository, tag }: TagPath,
  query: URLSearchParams,
): Promise<Reply> {
  const page = parsePage(query, changesPerPage);
  if (!/^\d{0,18}$/.test(page.last)) throw badRequest('last must be the sequence of a change');
  const below = page.last === '' ? aboveAll : BigInt(page.last);
  const limit = Math.min(page.limit, mostChanges);
  const { current, changes, more } = await tagHistory({ queryer: journal.writes, store: journal.store }, repository, tag, below, limit);
  const path = `/api/v1/repositories/${repository}/tags/${tag}/history`;
  const headers = more === undefined ? {} : nextLink(path, { n: String(limit), last: more });
  return {
    status: 200,
    headers: { ...json, ...headers },
    body: JSON.stringify({ repository, tag, digest: current ?? null, history: changes }),
  };
}

/** POST /api/v1/repositories/<name>/tags/<tag>/restore: `{"to": <digest>}`, `{"at": <time>}`, or nothing for what the tag pointed at before. */
export async function postTagRestore(parts: RestoreParts, request: Request, { repository, tag }: TagPath, caller: Caller): Promise<Reply> {
  const body = await readObject(request, ['to', 'at']);
  const { digest, before, restored, missing } = await restoreTag(parts, repository, tag, targetOf(body), caller.id || operator);
  return { status: 200, headers: json, body: JSON.stringify({ repository, tag, digest, before: before ?? null, restored, missing }) };
}

/** POST /api/v1/repositories/<name>/manifests/<digest>/restore: `{"tags": false}` leaves out the tags that were deleted with it. */
export async function postManifestRestore(
  parts: RestoreParts,
  request: Request,
  { repository, digest }: { readonly repository: RepositoryName; readonly digest: Digest },
  caller: Caller,
): Promise<Reply> {
  const { tags: withTags = true } = await readObject(request, ['tags']);
  if (typeof withTags !== 'boolean') throw badRequest('tags must be true or false');
  const { restored, tags, missing } = await restoreManifest(parts, repository, digest, withTags, caller.id || operator);
  return { status: 200, headers: json, body: JSON.stringify({ repository, digest, restored, tags, missing }) };
}

function targetOf({ to, at }: Readonly<Record<string, unknown>>): TagTarget {
  if (to !== undefined && at !== undefined) throw badRequest('to and at exclude each other');
  if (to !== undefined) {
    const digest = typeof to === 'string' ? findDigest(to) : undefined;
    if (digest === undefined) throw badRequest('to must be a digest');
    return { to: digest };
  }
  if (at === undefined) return {};
  const time = typeof at === 'string' ? parseTime(at) : undefined;
  if (time === undefined) throw badRequest('at must be a time as RFC 3339 has it');
  return { at: time };
}

/** No body is an empty object. */
async function readObject(request: Request, known: readonly string[]): Promise<Readonly<Record<string, unknown>>> {
  const bytes = await request.body.bytes(mostBodyBytes).catch((error: unknown) => {
    throw error instanceof BodyTooLarge ? badRequest(`the body has at most ${mostBodyBytes} bytes`) : error;
  });
  if (bytes.byteLength === 0) return {};
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch {
    throw badRequest('the body must be JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw badRequest('the body must be a JSON object');
  const strange = Object.keys(value).find((key) => !known.includes(key));
  if (strange !== undefined) throw badRequest(`unknown key ${JSON.stringify(strange.slice(0, 60))}: ${known.join(' and ')} there may be`);
  return value as Record<string, unknown>;
}

function badRequest(message: string): RegistryError {
  return new RegistryError('UNSUPPORTED', message, { status: 400 });
}
