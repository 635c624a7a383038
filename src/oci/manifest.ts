// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { findDigest, type Digest } from './digest.js';
import { RegistryError } from './errors.js';

export const mediaTypes = {
  ociManifest: 'application/vnd.oci.image.manifest.v1+json',
  ociIndex: 'application/vnd.oci.image.index.v1+json',
  ociArtifact: 'application/vnd.oci.artifact.manifest.v1+json',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerList: 'application/vnd.docker.distribution.manifest.list.v2+json',
} as const;

type ManifestMediaType = (typeof mediaTypes)[keyof typeof mediaTypes];

/** Layers that clients need not upload: they name where else the bytes are. Some do, for sites without a network. */
const nonDistributable = /^application\/vnd\.(oci\.image\.layer\.nondistributable\.|docker\.image\.rootfs\.foreign\.)/;

/** What the registry needs to know of a manifest. The bytes themselves are stored as they came. */
export interface Manifest {
  readonly mediaType: ManifestMediaType;
  /** Config, layers and those children of an index that are no manifests; without repetition and non-distributable layers. */
  readonly blobs: readonly Digest[];
  /** Non-distributable layers: nobody has to push them, and those that are here belong to the manifest as the others do. */
  readonly optionalBlobs: readonly Digest[];
  /** Children of an index that are manifests. */
  readonly children: readonly Digest[];
  readonly subject: Digest | undefined;
  /** As the referrers API tells it: artifactType, else the config's media type for an image, nothing for an index without one. */
  readonly artifactType: string | undefined;
  readonly annotations: Record<string, string> | undefined;
}

type Json = Record<string, unknown>;

/** Parses a manifest pushed with this Content-Type. Throws MANIFEST_INVALID with what is wrong. */
export function parseManifest(bytes: Uint8Array, contentType: string | undefined): Manifest {
  const json = parseJson(bytes);
  const mediaType = mediaTypeOf(json, contentType);
  if (mediaType !== mediaTypes.ociArtifact && json['schemaVersion'] !== 2) throw invalid('schemaVersion must be 2');
  const common = {
    mediaType,
    subject: json['subject'] === undefined || json['subject'] === null ? undefined : descriptor(json['subject'], 'subject').digest,
    annotations: annotationsOf(json['annotations']),
  };
  const artifactType = optionalString(json['artifactType'], 'artifactType');
  switch (mediaType) {
    case mediaTypes.ociIndex:
    case mediaTypes.dockerList: {
      const entries = descriptors(json['manifests'], 'manifests');
      const children = entries.filter((entry) => isManifestMediaType(entry.mediaType));
      const asChild = new Set(children.map((entry) => entry.digest));
      const blobs = entries.filter((entry) => !asChild.has(entry.digest));
      return { ...common, artifactType, children: digestsOf(children), blobs: digestsOf(blobs), optionalBlobs: [] };
    }
    case mediaTypes.ociManifest:
    case mediaTypes.dockerManifest: {
      const config = descriptor(json['config'], 'config');
      const layers = descriptors(json['layers'], 'layers');
      const blobs = digestsOf([config, ...layers.filter((layer) => !nonDistributable.test(layer.mediaType))]);
      const optional = digestsOf(layers.filter((layer) => nonDistributable.test(layer.mediaType)));
      const required = new Set(optional.length === 0 ? [] : blobs);
      const optionalBlobs = optional.filter((digest) => !required.has(digest));
      return { ...common, artifactType: artifactType ?? config.mediaType, children: [], blobs, optionalBlobs };
    }
    case mediaTypes.ociArtifact:
      return { ...common, artifactType, children: [], blobs: digestsOf(descriptors(json['blobs'], 'blobs')), optionalBlobs: [] };
  }
}

export function isManifestMediaType(mediaType: string): mediaType is ManifestMediaType {
  return (Object.values(mediaTypes) as string[]).includes(mediaType);
}

/** The digests that an index lists, or none when the bytes are no index. For the tags that old clients keep referrers under. */
export function listedIn(bytes: Uint8Array): Digest[] {
  try {
    const entries = (JSON.parse(Buffer.from(bytes).toString('utf8')) as Json)['manifests'];
    return Array.isArray(entries) ? digestsOf(descriptors(entries, 'manifests')) : [];
  } catch {
    return [];
  }
}

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function parseJson(bytes: Uint8Array): Json {
  let json: unknown;
  try {
    json = JSON.parse(decoder.decode(bytes));
  } catch (error) {
    throw invalid(`not JSON in UTF-8: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (!isObject(json)) throw invalid('not a JSON object');
  return json;
}

/** The Content-Type and the mediaType field must agree; either may be missing, and parameters are dropped. */
function mediaTypeOf(json: Json, contentType: string | undefined): ManifestMediaType {
  const header = contentType?.split(';')[0]?.trim().toLowerCase();
  const field = optionalString(json['mediaType'], 'mediaType');
  const mediaType = header === undefined || header === '' || header === 'application/json' ? (field ?? impliedMediaType(json)) : header;
  if (!isManifestMediaType(mediaType)) throw invalid(`unsupported media type ${JSON.stringify(mediaType.slice(0, 200))}`);
  if (field !== undefined && field !== mediaType)
    throw invalid(`Content-Type ${mediaType} does not agree with mediaType ${JSON.stringify(field)}`);
  return mediaType;
}

function impliedMediaType(json: Json): string {
  return Array.isArray(json['manifests']) ? mediaTypes.ociIndex : mediaTypes.ociManifest;
}

interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
}

function descriptors(value: unknown, field: string): Descriptor[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw invalid(`${field} must be an array`);
  return value.map((entry, index) => descriptor(entry, `${field}[${index}]`));
}

function descriptor(value: unknown, field: string): Descriptor {
  if (!isObject(value)) throw invalid(`${field} must be a descriptor`);
  const { mediaType, digest: text, size } = value;
  if (typeof mediaType !== 'string' || mediaType === '' || !isText(mediaType)) throw invalid(`${field}.mediaType must be a string`);
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) throw invalid(`${field}.size must be a number of bytes`);
  const digest = typeof text === 'string' ? findDigest(text) : undefined;
  if (digest === undefined) throw invalid(`${field}.digest is no digest of a supported algorithm`);
  return { mediaType, digest };
}

function digestsOf(entries: readonly Descriptor[]): Digest[] {
  return [...new Set(entries.map((entry) => entry.digest))];
}

function annotationsOf(value: unknown): Record<string, string> | undefined {
  if (value === undefined || value === null) return undefined;
  if (!isObject(value)) throw invalid('annotations must be an object');
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== 'string') throw invalid(`annotation ${JSON.stringify(key.slice(0, 200))} must be a string`);
    if (!isText(key) || !isText(text)) throw invalid('annotations must be well-formed text without U+0000');
  }
  return value as Record<string, string>;
}

function optionalString(value: unknown, field: string): string | undefined {
  if (value === undefined || value === null || value === '') return undefined;
  if (typeof value !== 'string' || !isText(value)) throw invalid(`${field} must be well-formed text without U+0000`);
  return value;
}

/** What Postgres can hold as text. */
function isText(text: string): boolean {
  return !text.includes('\0') && text.isWellFormed();
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function invalid(message: string): RegistryError {
  return new RegistryError('MANIFEST_INVALID', message);
}
