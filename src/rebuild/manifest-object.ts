// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { createHash } from 'node:crypto';
import { algorithmOf, makeDigest, type Digest } from '../oci/digest.js';
import { parseManifest, type Manifest } from '../oci/manifest.js';

export interface ReadManifest {
  readonly manifest: Manifest;
  readonly bytes: Uint8Array;
}

/** Reads a manifest's entry: header lines, a blank line, the exact bytes. Throws an Error that says what is wrong with it. */
export function readManifestObject(object: Uint8Array, digest: Digest): ReadManifest {
  const text = Buffer.from(object.buffer, object.byteOffset, object.byteLength);
  const end = text.indexOf('\n\n');
  if (end < 0) throw new Error('it has no header');
  const contentType = /^Content-Type: (.+)$/im.exec(text.toString('utf8', 0, end))?.[1];
  const bytes = text.subarray(end + 2);
  const actual = hashOf(bytes, digest);
  if (actual !== digest) throw new Error(`its bytes have the digest ${actual}`);
  return { manifest: parseManifest(bytes, contentType), bytes };
}

export function hashOf(bytes: Uint8Array, like: Digest): Digest {
  const algorithm = algorithmOf(like);
  return makeDigest(algorithm, createHash(algorithm).update(bytes).digest());
}
