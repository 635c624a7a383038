// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * The layout of the store, the same on S3 and on a filesystem. Keys are written once; names, digests and deletions stand in them,
 * so that LIST alone answers most questions.
 *
 *     data/<last 2 hex>/<uuid>                                                  bytes of one completed upload
 *     repositories/<name>/_blobs/<algorithm>/<hex>/<seq>.<uuid>                 link: the repository may read this digest, from data/…/<uuid>;
 *                                                                               a body, when not empty, names another key with the data
 *     repositories/<name>/_manifests/<algorithm>/<hex>/<seq>                    header lines, a blank line, the exact bytes
 *     repositories/<name>/_referrers/<algorithm>/<subject hex>/<algorithm>-<hex>.<seq>   the referrer's descriptor
 *     repositories/<name>/_tags/<tag>/<seq>.<algorithm>.<hex>                   the tag points at this manifest; body {at, by}
 *     …/<seq>.deleted                                                           a deletion is an entry of _blobs, _manifests and _tags; a tag's has
 *                                                                               the body {at, by}, or none where that was not known
 *     uploads/<session>/<offset>-<uuid>                                         the tail of an upload that is too small for a part
 *     access/keys/<ms>-<random>                                                 a signing key of tokens, encrypted
 *     access/revoked/<ms>-sha256-<hex of the identity>                          what this identity was given until then does not count any more
 *     cluster/owner                                                             which cluster's store this is
 *     cluster/claims/<cluster>                                                  for a moment: who is about to write the owner
 *     cluster/generations/<seq>                                                 which database it went with from then on; the generation counts as a sequence
 *     cluster/high-water/<seq>                                                  a sequence that the database has given out
 *     cluster/blocks/<seq>                                                      a block of sequences that may be in use, by its number
 *     cluster/nodes/<node>                                                      a node that uses this store
 *     cluster/damaged/<uuid>/<seq>                                              data/…/<uuid> has not the bytes that it should have
 *
 * `<seq>` counts down from 2^63 - 1, so that the newest entry of a prefix lists first; the newest entry wins.
 *
 * A template is a key whose sequence is not known yet; `%` stands for it.
 */
import { algorithmOf, findDigest, hexOf, type Digest } from '../oci/digest.js';
import { findTag, type Tag } from '../oci/reference.js';
import { findRepositoryName, type RepositoryName } from '../oci/repository-name.js';

export type KeyTemplate = string & { readonly __keyTemplate: true };

const largestSequence = 9223372036854775807n;

export const ownerKey = 'cluster/owner';
export const claimsPrefix = 'cluster/claims/';
export const generationsPrefix = 'cluster/generations/';
export const highWaterPrefix = 'cluster/high-water/';
export const blocksPrefix = 'cluster/blocks/';
export const damagePrefix = 'cluster/damaged/';
export const nodesPrefix = 'cluster/nodes/';
export const repositoriesPrefix = 'repositories/';
export const signingKeysPrefix = 'access/keys/';
export const revocationsPrefix = 'access/revoked/';

/** Under one of the prefixes of `cluster/` that count: the highest lists first. */
export function countedKey(prefix: string, count: bigint): string {
  return prefix + (largestSequence - count).toString().padStart(20, '0');
}

export function countOf(prefix: string, key: string): bigint {
  return largestSequence - BigInt(key.slice(prefix.length));
}

export function nodeKey(node: string): string {
  return nodesPrefix + node;
}

/** The node whose mark a key is. */
export function nodeOf(key: string): string | undefined {
  const id = key.slice(nodesPrefix.length);
  return /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(id) ? id : undefined;
}

/** What marks some data as damaged; each mark has a sequence of its own, since data may be healed and be damaged again. */
export function damagePrefixOf(uuid: string): string {
  return `${damagePrefix}${uuid}/`;
}

export function damageKey(uuid: string, sequence: bigint): string {
  return countedKey(damagePrefixOf(uuid), sequence);
}

export function dataKey(uuid: string): string {
  return `data/${uuid.slice(-2)}/${uuid}`;
}

/**
 * Data of another program's store that we took over in place have a uuid of version 8, made from their digest; links to them name their key in the body.
 */
export function foreignUuid(digest: Digest): string {
  const hex = `${hexOf(digest).slice(0, 12)}8${hexOf(digest).slice(13, 16)}8${hexOf(digest).slice(17, 32)}`;
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

export function isForeign(uuid: string): boolean {
  return uuid[14] === '8';
}

export function tailKey(session: string, offset: number, uuid: string): string {
  return `uploads/${session}/${offset}-${uuid}`;
}

export function linkPrefix(repository: RepositoryName, digest: Digest): string {
  return `repositories/${repository}/_blobs/${digestPath(digest)}/`;
}

export function manifestPrefix(repository: RepositoryName, digest: Digest): string {
  return `repositories/${repository}/_manifests/${digestPath(digest)}/`;
}

export function tagPrefix(repository: RepositoryName, tag: Tag | ''): string {
  return tag === '' ? `repositories/${repository}/_tags/` : `repositories/${repository}/_tags/${tag}/`;
}

export function linkTemplate(repository: RepositoryName, digest: Digest, uuid: string): KeyTemplate {
  return `${linkPrefix(repository, digest)}%.${uuid}` as KeyTemplate;
}

export function manifestTemplate(repository: RepositoryName, digest: Digest): KeyTemplate {
  return `${manifestPrefix(repository, digest)}%` as KeyTemplate;
}

export function referrersPrefix(repository: RepositoryName, subject: Digest): string {
  return `repositories/${repository}/_referrers/${digestPath(subject)}/`;
}

export function referrerTemplate(repository: RepositoryName, subject: Digest, digest: Digest): KeyTemplate {
  return `${referrersPrefix(repository, subject)}${algorithmOf(digest)}-${hexOf(digest)}.%` as KeyTemplate;
}

export function tagTemplate(repository: RepositoryName, tag: Tag, digest: Digest): KeyTemplate {
  return `${tagPrefix(repository, tag)}%.${algorithmOf(digest)}.${hexOf(digest)}` as KeyTemplate;
}

export function deletionTemplate(prefix: string): KeyTemplate {
  return `${prefix}%.deleted` as KeyTemplate;
}

export function isDeletion(key: string): boolean {
  return key.endsWith('.deleted');
}

/** Of a tag, or of its deletion: no other entry is found by way of it. */
export function isTagEntry(key: string): boolean {
  return key.includes('/_tags/');
}

/** The body of a tag's entry: when, and by whom where that is known. */
export function tagBody(at = new Date(), by = ''): Uint8Array {
  return Buffer.from(JSON.stringify({ at: at.toISOString(), by }));
}

/** undefined for a body that does not tell. */
export function timeInTagBody(body: Uint8Array): Date | undefined {
  try {
    const { at } = JSON.parse(Buffer.from(body).toString('utf8')) as { at?: unknown };
    const time = new Date(typeof at === 'string' ? at : Number.NaN);
    return Number.isNaN(time.getTime()) ? undefined : time;
  } catch {
    return undefined;
  }
}

export function entryKey(template: KeyTemplate, sequence: bigint): string {
  return template.replace('%', (largestSequence - sequence).toString().padStart(20, '0'));
}

/** The entry's template, from its key. */
export function templateOf(key: string, sequence: bigint): KeyTemplate {
  return key.replace((largestSequence - sequence).toString().padStart(20, '0'), '%') as KeyTemplate;
}

/** What an entry's key says. */
export type Entry = { readonly repository: RepositoryName; readonly sequence: bigint } & (
  | { readonly kind: 'link'; readonly digest: Digest; /** `deleted` for a deletion. */ readonly uuid: string }
  | { readonly kind: 'manifest'; readonly digest: Digest; readonly deleted: boolean }
  | { readonly kind: 'referrer'; readonly subject: Digest; readonly digest: Digest }
  | { readonly kind: 'tag'; readonly tag: Tag; readonly digest: Digest | 'deleted' }
);

/** Reads an entry back from its key; undefined for a key that no version of this program has written. */
export function parseEntry(key: string): Entry | undefined {
  const segments = key.split('/');
  // No component of a repository name begins with `_`, though a tag may.
  const kindAt = segments.findIndex((segment) => segment.startsWith('_'));
  if (segments[0] !== 'repositories' || kindAt < 2) return undefined;
  const repository = findRepositoryName(segments.slice(1, kindAt).join('/'));
  const [kind, ...path] = segments.slice(kindAt);
  const parts = path.at(-1)?.split('.') ?? [];
  const sequence = sequenceOf(kind === '_referrers' ? parts.pop() : parts.shift());
  if (repository === undefined || sequence === undefined || parts.length > 2) return undefined;
  const [head, rest] = parts;
  if (kind === '_tags') {
    const tag = path.length === 2 ? findTag(path[0] ?? '') : undefined;
    const digest = head === 'deleted' && rest === undefined ? head : findDigest(`${head}:${rest}`);
    return tag && digest && { kind: 'tag', repository, tag, digest, sequence };
  }
  const digest = findDigest(`${path[0]}:${path[1]}`);
  if (path.length !== 3 || digest === undefined || rest !== undefined) return undefined;
  if (kind === '_referrers') {
    const referrer = findDigest(head?.replace('-', ':') ?? '');
    return referrer && { kind: 'referrer', repository, subject: digest, digest: referrer, sequence };
  }
  const isDeleted = head === 'deleted';
  if (kind === '_manifests')
    return head === undefined || isDeleted ? { kind: 'manifest', repository, digest, deleted: isDeleted, sequence } : undefined;
  if (kind !== '_blobs' || head === undefined || !linkEnd.test(head)) return undefined;
  return { kind: 'link', repository, digest, uuid: head, sequence };
}

const linkEnd = /^(deleted|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$/;

function sequenceOf(text = ''): bigint | undefined {
  const sequence = /^\d{20}$/.test(text) ? largestSequence - BigInt(text) : -1n;
  return sequence < 0n ? undefined : sequence;
}

function digestPath(digest: Digest): string {
  return `${algorithmOf(digest)}/${hexOf(digest)}`;
}
