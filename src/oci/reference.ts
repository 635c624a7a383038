// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { algorithmOf, hexOf, parseDigest, type Digest } from './digest.js';
import { RegistryError } from './errors.js';

export type Tag = string & { readonly __tag: true };
export type Reference = { readonly digest: Digest; readonly tag?: undefined } | { readonly tag: Tag; readonly digest?: undefined };

const tagGrammar = /^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$/;

export function findTag(text: string): Tag | undefined {
  return tagGrammar.test(text) ? (text as Tag) : undefined;
}

/** Throws TAG_INVALID. */
export function parseTag(text: string): Tag {
  const tag = findTag(text);
  if (tag === undefined) throw new RegistryError('TAG_INVALID', 'invalid tag', { detail: text.slice(0, 200) });
  return tag;
}

/** A reference with a colon is a digest, since no tag may contain one. Throws DIGEST_INVALID or TAG_INVALID. */
export function parseReference(text: string): Reference {
  return text.includes(':') ? { digest: parseDigest(text) } : { tag: parseTag(text) };
}

/** The tag under which clients that found no referrers API keep the list of a subject's referrers. */
export function referrersTag(subject: Digest): Tag {
  return `${algorithmOf(subject)}-${hexOf(subject).slice(0, 64)}` as Tag;
}
