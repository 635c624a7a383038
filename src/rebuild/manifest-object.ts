// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Digest } from '../oci/digest.js';
import { parseManifest, type Manifest } from '../oci/manifest.js';
import { readManifestObject } from '../storage/manifest-object.js';

export interface ReadManifest {
  readonly manifest: Manifest;
  readonly bytes: Uint8Array;
}

/** Reads a manifest's entry. Throws an Error that says what is wrong with it. */
export function parseManifestObject(object: Uint8Array, digest: Digest): ReadManifest {
  const { mediaType, bytes } = readManifestObject(object, digest);
  return { manifest: parseManifest(bytes, mediaType), bytes };
}
