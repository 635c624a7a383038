// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { parseDigest, type Digest } from '../oci/digest.js';
import { RegistryError } from '../oci/errors.js';
import { parseReference, type Reference } from '../oci/reference.js';
import { parseRepositoryName, type RepositoryName } from '../oci/repository-name.js';

/** What a path names, with its parts checked. */
export type Resource =
  | { readonly kind: 'base' }
  | { readonly kind: 'catalog' }
  | { readonly kind: 'livez' }
  | { readonly kind: 'readyz' }
  | { readonly kind: 'metrics' }
  | { readonly kind: 'blob'; readonly repository: RepositoryName; readonly digest: Digest }
  | { readonly kind: 'uploads'; readonly repository: RepositoryName }
  | { readonly kind: 'session'; readonly repository: RepositoryName; readonly id: string }
  | { readonly kind: 'manifest'; readonly repository: RepositoryName; readonly reference: Reference }
  | { readonly kind: 'tags'; readonly repository: RepositoryName }
  | { readonly kind: 'referrers'; readonly repository: RepositoryName; readonly digest: Digest };

const fixed: Record<string, Resource> = {
  '/v2': { kind: 'base' },
  '/v2/': { kind: 'base' },
  '/v2/_catalog': { kind: 'catalog' },
  '/livez': { kind: 'livez' },
  '/readyz': { kind: 'readyz' },
  '/metrics': { kind: 'metrics' },
};

/**
 * hot: bench/manifests.ts. Reads the raw path from its end, since a repository's name may contain any of the words that come after it.
 * Throws NOT_FOUND, NAME_INVALID, DIGEST_INVALID or TAG_INVALID.
 */
export function parsePath(raw: string): Resource {
  const path = raw.includes('%') ? decode(raw) : raw;
  const known = fixed[path];
  if (known !== undefined) return known;
  if (!path.startsWith('/v2/')) throw notFound(path);
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
