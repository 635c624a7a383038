// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * The layout of CNCF distribution, versions 2 and 3:
 *
 *     docker/registry/v2/blobs/<algorithm>/<first 2 hex>/<hex>/data
 *     docker/registry/v2/repositories/<name>/_layers/<algorithm>/<hex>/link                     body: the digest
 *     docker/registry/v2/repositories/<name>/_manifests/revisions/<algorithm>/<hex>/link
 *     docker/registry/v2/repositories/<name>/_manifests/tags/<tag>/current/link
 *     docker/registry/v2/repositories/<name>/_manifests/tags/<tag>/index/<algorithm>/<hex>/link  what the tag pointed at
 *     docker/registry/v2/repositories/<name>/_uploads/…
 *
 * What was deleted there has lost its `link`.
 */
import { algorithmOf, findDigest, hexOf, type Digest } from '../oci/digest.js';
import { findTag, type Tag } from '../oci/reference.js';
import { findRepositoryName, type RepositoryName } from '../oci/repository-name.js';

const top = 'docker/registry/v2/';
export const distributionRepositories = `${top}repositories/`;

export function distributionBlob(digest: Digest): string {
  const hex = hexOf(digest);
  return `${top}blobs/${algorithmOf(digest)}/${hex.slice(0, 2)}/${hex}/data`;
}

/** What a repository holds. */
export interface DistributionRepository {
  readonly repository: RepositoryName;
  readonly layers: readonly Digest[];
  readonly revisions: readonly Digest[];
  /** Each with the key that says where it points. */
  readonly tags: readonly { readonly tag: Tag; readonly key: string }[];
}

/** Repositories in the order of a walk over them; `strange` is told of keys that are none of the layout's. */
export async function* listDistribution(
  keys: AsyncIterable<string>,
  strange: (key: string) => void,
): AsyncGenerator<DistributionRepository> {
  let current: { repository: RepositoryName; layers: Digest[]; revisions: Digest[]; tags: { tag: Tag; key: string }[] } | undefined;
  for await (const key of keys) {
    const parsed = parseKey(key);
    if (parsed === undefined) {
      strange(key);
      continue;
    }
    if (parsed.kind === 'other') continue;
    if (current?.repository !== parsed.repository) {
      if (current !== undefined) yield current;
      current = { repository: parsed.repository, layers: [], revisions: [], tags: [] };
    }
    if (parsed.kind === 'layer') current.layers.push(parsed.digest);
    else if (parsed.kind === 'revision') current.revisions.push(parsed.digest);
    else current.tags.push({ tag: parsed.tag, key });
  }
  if (current !== undefined) yield current;
}

type ParsedKey =
  | { readonly kind: 'layer'; readonly repository: RepositoryName; readonly digest: Digest }
  | { readonly kind: 'revision'; readonly repository: RepositoryName; readonly digest: Digest }
  | { readonly kind: 'tag'; readonly repository: RepositoryName; readonly tag: Tag }
  | { readonly kind: 'other' };

const shape = /^(.+?)\/_(layers|manifests\/revisions|manifests\/tags|uploads)\/(.+)$/;

function parseKey(key: string): ParsedKey | undefined {
  const [, name = '', kind, rest = ''] = shape.exec(key.slice(distributionRepositories.length)) ?? [];
  const repository = findRepositoryName(name);
  if (kind === 'uploads') return { kind: 'other' };
  if (repository === undefined || kind === undefined) return undefined;
  const segments = rest.split('/');
  if (kind === 'manifests/tags') {
    const tag = findTag(segments[0] ?? '');
    if (segments[1] === 'index') return { kind: 'other' };
    return tag === undefined || segments.slice(1).join('/') !== 'current/link' ? undefined : { kind: 'tag', repository, tag };
  }
  const digest = findDigest(`${segments[0]}:${segments[1]}`);
  // Beside `link` there may be what a client pushed to sign it, long ago.
  if (segments[2] !== 'link') return { kind: 'other' };
  if (digest === undefined) return undefined;
  return kind === 'layers' ? { kind: 'layer', repository, digest } : { kind: 'revision', repository, digest };
}
