// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** A manifest's entry: header lines, a blank line, the exact bytes. */
import { createHash } from 'node:crypto';
import { algorithmOf, makeDigest, type Digest } from '../oci/digest.js';

export interface ManifestObject {
  readonly mediaType: string | undefined;
  readonly bytes: Uint8Array;
}

export function writeManifestObject(mediaType: string, bytes: Uint8Array): Uint8Array {
  return Buffer.concat([Buffer.from(`Content-Type: ${mediaType}\n\n`), bytes]);
}

/** Throws an Error that says what is wrong with it: bytes of another digest are. */
export function readManifestObject(object: Uint8Array, digest: Digest): ManifestObject {
  const text = Buffer.from(object.buffer, object.byteOffset, object.byteLength);
  const end = text.indexOf('\n\n');
  if (end < 0) throw new Error('it has no header');
  const mediaType = /^Content-Type: (.+)$/im.exec(text.toString('utf8', 0, end))?.[1];
  const bytes = text.subarray(end + 2);
  const actual = hashOf(bytes, digest);
  if (actual !== digest) throw new Error(`its bytes have the digest ${actual}`);
  return { mediaType, bytes };
}

/** The digest of these bytes, by the algorithm of another. */
export function hashOf(bytes: Uint8Array, like: Digest): Digest {
  const algorithm = algorithmOf(like);
  return makeDigest(algorithm, createHash(algorithm).update(bytes).digest());
}
