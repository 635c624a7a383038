// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * The image layout of image-spec 1.1:
 *
 *     oci-layout                     {"imageLayoutVersion":"1.0.0"}
 *     index.json                     an index of what can be asked for; annotations name the tags
 *     blobs/<algorithm>/<hex>        manifests, configs and layers
 */
import { algorithmOf, hexOf, type Digest } from '../oci/digest.js';
import { mediaTypes, parseManifest } from '../oci/manifest.js';

export const markerName = 'oci-layout';
export const indexName = 'index.json';
export const refName = 'org.opencontainers.image.ref.name';

/** The layout is not one, or lacks something. Its message is one line for the operator. */
export class LayoutError extends Error {
  override readonly name = 'LayoutError';
}

export interface LayoutDescriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly size: number;
  readonly artifactType?: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

export function blobName(digest: Digest): string {
  return `blobs/${algorithmOf(digest)}/${hexOf(digest)}`;
}

export function markerBytes(): Uint8Array {
  return Buffer.from(JSON.stringify({ imageLayoutVersion: '1.0.0' }));
}

export function indexBytes(manifests: readonly LayoutDescriptor[]): Uint8Array {
  return Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests }));
}

/** Throws LayoutError for anything but a version that we know. */
export function checkMarker(bytes: Uint8Array | undefined, place: string): void {
  if (bytes === undefined) throw new LayoutError(`${place} is no OCI image layout: it has no ${markerName}`);
  const version = (parseJson(bytes, `${place}: ${markerName}`) as { readonly imageLayoutVersion?: unknown } | null)?.imageLayoutVersion;
  if (typeof version !== 'string' || !version.startsWith('1.'))
    throw new LayoutError(`${place}: ${markerName} names the version ${JSON.stringify(version)}, and 1.0.0 is the one that is known`);
}

/** What index.json lists. Throws LayoutError. */
export function parseIndex(bytes: Uint8Array | undefined, place: string): LayoutDescriptor[] {
  if (bytes === undefined) throw new LayoutError(`${place} is no OCI image layout: it has no ${indexName}`);
  const index = parseJson(bytes, `${place}: ${indexName}`);
  try {
    parseManifest(bytes, mediaTypes.ociIndex);
  } catch (error) {
    throw new LayoutError(`${place}: ${indexName}: ${(error as Error).message}`, { cause: error });
  }
  const { manifests } = index as { readonly manifests?: readonly LayoutDescriptor[] | null };
  for (const { annotations } of manifests ?? [])
    if (annotations !== undefined && (annotations === null || Object.values(annotations).some((value) => typeof value !== 'string')))
      throw new LayoutError(`${place}: ${indexName}: annotations must be text`);
  return [...(manifests ?? [])];
}

function parseJson(bytes: Uint8Array, what: string): unknown {
  try {
    return JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch {
    throw new LayoutError(`${what} is not JSON`);
  }
}
