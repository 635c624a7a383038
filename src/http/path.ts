// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { parseDigest, type Digest } from '../oci/digest.js';
import { RegistryError } from '../oci/errors.js';
import { parseReference, parseTag, type Reference, type Tag } from '../oci/reference.js';
import { parseRepositoryName, type RepositoryName } from '../oci/repository-name.js';

/** What a path names, with its parts checked. */
export type Resource =
  | { readonly kind: 'base' }
  | { readonly kind: 'catalog' }
  | { readonly kind: 'livez' }
  | { readonly kind: 'readyz' }
  | { readonly kind: 'metrics' }
  | { readonly kind: 'token' }
  | { readonly kind: 'explain' }
  | { readonly kind: 'revoke' }
  | { readonly kind: 'blob'; readonly repository: RepositoryName; readonly digest: Digest }
  | { readonly kind: 'uploads'; readonly repository: RepositoryName }
  | { readonly kind: 'session'; readonly repository: RepositoryName; readonly id: string }
  | { readonly kind: 'manifest'; readonly repository: RepositoryName; readonly reference: Reference }
  | { readonly kind: 'tags'; readonly repository: RepositoryName }
  | { readonly kind: 'referrers'; readonly repository: RepositoryName; readonly digest: Digest }
  | { readonly kind: 'tag-history'; readonly repository: RepositoryName; readonly tag: Tag }
  | { readonly kind: 'tag-restore'; readonly repository: RepositoryName; readonly tag: Tag }
  | { readonly kind: 'manifest-restore'; readonly repository: RepositoryName; readonly digest: Digest };

const fixed: Record<string, Resource> = {
  '/v2': { kind: 'base' },
  '/v2/': { kind: 'base' },
  '/v2/_catalog': { kind: 'catalog' },
  '/livez': { kind: 'livez' },
  '/readyz': { kind: 'readyz' },
  '/metrics': { kind: 'metrics' },
  '/token': { kind: 'token' },
  '/api/v1/policy/explain': { kind: 'explain' },
  '/api/v1/tokens/revoke': { kind: 'revoke' },
};

/**
 * hot: bench/manifests.ts. Reads the raw path from its end, since a repository's name may contain any of the words that come after it.
 * Throws NOT_FOUND, NAME_INVALID, DIGEST_INVALID or TAG_INVALID.
 */
export function parsePath(raw: string): Resource {
  const path = raw.includes('%') ? decode(raw) : raw;
  const known = fixed[path];
  if (known !== undefined) return known;
  if (!path.startsWith('/v2/')) return parseOwnPath(path);
  const lastSlash = path.lastIndexOf('/');
  const last = path.slice(lastSlash + 1);
  const kindSlash = path.lastIndexOf('/', lastSlash - 1);
  const kind = path.slice(kindSlash + 1, lastSlash);
  const repository = (): RepositoryName => parseRepositoryName(path.slice(4, kindSlash));
  switch (kind) {
    case 'manifests':
      return { kind: 'manifest', repository: repository(), reference: parseReference(last) };
    case 'referrers':
      return { kind: 'referrers', repository: repository(), digest: parseDigest(last) };
    case 'tags':
      if (last === 'list') return { kind: 'tags', repository: repository() };
      break;
    case 'uploads':
      if (path.endsWith('/blobs', kindSlash)) {
        const name = parseRepositoryName(path.slice(4, kindSlash - '/blobs'.length));
        return last === '' ? { kind: 'uploads', repository: name } : { kind: 'session', repository: name, id: last };
      }
      break;
    case 'blobs':
      if (last === 'uploads') return { kind: 'uploads', repository: repository() };
      return { kind: 'blob', repository: repository(), digest: parseDigest(last) };
  }
  throw notFound(path);
}

/** `/api/v1/repositories/<name>/<tags or manifests>/<one of them>/<what to do>`: our own interface, read from its end as well. */
function parseOwnPath(path: string): Resource {
  if (!path.startsWith(ownPrefix)) throw notFound(path);
  const segments = path.slice(ownPrefix.length).split('/');
  const [kind, subject = '', action] = segments.slice(-3);
  const repository = (): RepositoryName => parseRepositoryName(segments.slice(0, -3).join('/'));
  if (kind === 'tags' && action === 'history') return { kind: 'tag-history', repository: repository(), tag: parseTag(subject) };
  if (kind === 'tags' && action === 'restore') return { kind: 'tag-restore', repository: repository(), tag: parseTag(subject) };
  if (kind === 'manifests' && action === 'restore')
    return { kind: 'manifest-restore', repository: repository(), digest: parseDigest(subject) };
  throw notFound(path);
}

const ownPrefix = '/api/v1/repositories/';

/** Clients may escape the colon of a digest. */
function decode(raw: string): string {
  try {
    return decodeURIComponent(raw);
  } catch {
    throw notFound(raw);
  }
}

function notFound(path: string): RegistryError {
  return new RegistryError('NOT_FOUND', 'no such endpoint', { detail: path.slice(0, 300) });
}
