// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { RegistryError } from '../oci/errors.js';
import { parseManifest, type Manifest } from '../oci/manifest.js';
import type { Collection } from './collection.js';
import { findManifestOf, findOptionalWalk, listManifestsAfter, moveOptionalWalk, referToOptional } from './optional-walk-queries.js';

/**
 * Makes manifests that a version before has stored refer to their non-distributable layers, one batch of manifests; links are not collected until all were looked at.
 * Returns how many were, and less than `limit` at the end.
 */
export async function noteOptionalBlobs({ pool, node }: Pick<Collection, 'pool' | 'node'>, limit: number): Promise<number> {
  const walk = await findOptionalWalk(pool);
  if (walk === undefined) return 0;
  const manifests = await listManifestsAfter(pool, walk, limit);
  for (const row of manifests.filter(({ mayHaveOptional }) => mayHaveOptional)) {
    const found = await findManifestOf(pool, row);
    const optional = found === undefined ? [] : (parsed(found)?.optionalBlobs ?? []);
    if (optional.length > 0) await referToOptional(pool, node.id, row, optional);
  }
  await moveOptionalWalk(pool, walk, manifests.length < limit ? undefined : manifests.at(-1));
  return manifests.length;
}

/** undefined for what would not be taken any more. */
function parsed({ bytes, mediaType }: { readonly bytes: Uint8Array; readonly mediaType: string }): Manifest | undefined {
  try {
    return parseManifest(bytes, mediaType);
  } catch (error) {
    if (error instanceof RegistryError) return undefined;
    throw error;
  }
}
