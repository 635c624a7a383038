// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { RegistryError } from './errors.js';

/** `algorithm:encoded`, checked: the algorithm is one we store, the encoded part has its length and is lower-case hex. */
export type Digest = string & { readonly __digest: true };

export const digestAlgorithms = ['sha256', 'sha512'] as const;
export type DigestAlgorithm = (typeof digestAlgorithms)[number];

const hexLength: Record<DigestAlgorithm, number> = { sha256: 64, sha512: 128 };
const hexOnly = /^[0-9a-f]+$/;

export function isDigestAlgorithm(text: string): text is DigestAlgorithm {
  return text === 'sha256' || text === 'sha512';
}

/** undefined for anything that is not a digest we could store. */
export function findDigest(text: string): Digest | undefined {
  const colon = text.indexOf(':');
  const algorithm = text.slice(0, colon);
  if (colon < 0 || !isDigestAlgorithm(algorithm)) return undefined;
  return text.length - colon - 1 === hexLength[algorithm] && hexOnly.test(text.slice(colon + 1)) ? (text as Digest) : undefined;
}

/** Throws DIGEST_INVALID. */
export function parseDigest(text: string): Digest {
  const digest = findDigest(text);
  if (digest === undefined) {
    throw new RegistryError('DIGEST_INVALID', `not a digest of a supported algorithm (${digestAlgorithms.join(', ')}), in lower-case hex`, {
      detail: text.slice(0, 200),
    });
  }
  return digest;
}

export function makeDigest(algorithm: DigestAlgorithm, hash: Uint8Array): Digest {
  return `${algorithm}:${Buffer.from(hash.buffer, hash.byteOffset, hash.byteLength).toString('hex')}` as Digest;
}

export function algorithmOf(digest: Digest): DigestAlgorithm {
  return digest.startsWith('sha256:') ? 'sha256' : 'sha512';
}

export function hexOf(digest: Digest): string {
  return digest.slice(7);
}
