// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { createHash } from 'node:crypto';
import type { RequestBody } from '../http/contract.js';
import { mayMiss, pushManifest, type Sparse } from '../manifest/push-manifest.js';
import { algorithmOf, type Digest } from '../oci/digest.js';
import { RegistryError } from '../oci/errors.js';
import { isManifestMediaType, listedIn, parseManifest, type Manifest } from '../oci/manifest.js';
import { findTag, referrersTag, type Tag } from '../oci/reference.js';
import type { RepositoryName } from '../oci/repository-name.js';
import type { MetadataReads } from '../reads/metadata-reads.js';
import type { Uploads } from '../upload/active-upload.js';
import { beginUpload } from '../upload/upload-sessions.js';
import { blobName, checkMarker, indexName, LayoutError, markerName, parseIndex, refName, type LayoutDescriptor } from './image-layout.js';
import type { LayoutSource } from './layout-source.js';

/** A command waits for what it has begun. */
const neverGivenUp = new AbortController().signal;

export interface ImportParts {
  readonly uploads: Uploads;
  readonly links: MetadataReads['links'];
  readonly sparse: Sparse;
  readonly onProgress: (done: 'compared' | 'uploaded', counts: BlobCounts) => void;
}

interface BlobCounts {
  readonly blobs: number;
  readonly bytes: number;
}

export interface ImportCounts extends BlobCounts {
  readonly tags: readonly Tag[];
  readonly manifests: number;
  /** What an index lists, and neither the layout nor the repository has. */
  readonly missing: readonly Digest[];
  /** Names in index.json that cannot be tags; what they name has come without one. */
  readonly unnamed: readonly string[];
}

interface Image {
  readonly digest: Digest;
  readonly manifest: Manifest;
  readonly bytes: Uint8Array;
}

/** What of a layout is to be imported, with all of its manifests read and compared with their digests. */
export interface ReadLayout {
  readonly source: LayoutSource;
  /** Each after what it lists. */
  readonly images: readonly Image[];
  readonly tags: ReadonlyMap<Digest, readonly Tag[]>;
  readonly unnamed: readonly string[];
}

/** With a tag, the one image of the layout, or the one of that name, with its referrers; else everything. Throws LayoutError. */
export async function readLayout(source: LayoutSource, tag: Tag | undefined, maxManifestBytes: number): Promise<ReadLayout> {
  checkMarker(await source.read(markerName, smallBytes), source.place);
  const listed = parseIndex(await source.read(indexName, largestIndexBytes), source.place);
  const strange = listed.find(({ mediaType }) => !isManifestMediaType(mediaType));
  if (strange !== undefined)
    throw new LayoutError(`${source.place}: ${indexName} lists ${strange.digest}, which is no manifest: ${strange.mediaType}`);
  const { roots, tags, unnamed } = tag === undefined ? everything(listed) : await oneOf(source, listed, tag, maxManifestBytes);
  const graph = new Graph(source, maxManifestBytes);
  for (const root of roots) await graph.add(root.digest, root.mediaType);
  return { source, images: graph.images, tags, unnamed };
}

/**
 * Blobs first, then manifests without a tag, then tags: whatever ends it, nobody sees half of an image. Everything is read and compared before anything is written: a
 * layout that is refused (LayoutError) leaves nothing behind, not even the name of a repository.
 */
export async function importLayout(
  parts: ImportParts,
  { source, images, tags, unnamed }: ReadLayout,
  repository: RepositoryName,
): Promise<ImportCounts> {
  const blobs = await findBlobs(parts, source, repository, images);
  const sum = await compareBlobs(parts, source, blobs);
  await uploadBlobs(parts, source, repository, blobs);
  const missing = new Set<Digest>();
  const push = async (image: Image, own: readonly Tag[]): Promise<void> => {
    const { manifest, digest, bytes } = image;
    const allowMissing = mayMiss(manifest, parts.sparse);
    const { journal } = parts.uploads;
    for (const lacking of await pushManifest(journal, { repository, digest, manifest, bytes, tags: own, allowMissing }))
      missing.add(lacking);
  };
  const children = new Set(images.flatMap(({ manifest }) => manifest.children));
  const isNeeded = ({ digest }: Image): boolean => !tags.has(digest) || children.has(digest);
  for (const image of images.filter(isNeeded)) await push(image, []);
  for (const image of images) {
    const own = tags.get(image.digest) ?? [];
    for (let start = 0; start < own.length; start += tagsAtOnce) await push(image, own.slice(start, start + tagsAtOnce));
  }
  return { ...sum, tags: [...tags.values()].flat().sort(), manifests: images.length, missing: [...missing], unnamed };
}

const smallBytes = 64 * 1024;
const tagsAtOnce = 100;
const largestIndexBytes = 64 * 1024 * 1024;

interface Selection {
  readonly roots: readonly LayoutDescriptor[];
  readonly tags: ReadonlyMap<Digest, readonly Tag[]>;
  readonly unnamed: readonly string[];
}

function everything(listed: readonly LayoutDescriptor[]): Selection {
  const tags = new Map<Digest, Tag[]>();
  const unnamed: string[] = [];
  for (const { digest, annotations } of listed) {
    const name = annotations?.[refName];
    if (name === undefined) continue;
    // Some write the whole name of the image.
    const found = findTag(name) ?? findTag(name.slice(name.lastIndexOf(':') + 1));
    if (found === undefined) unnamed.push(name);
    else tags.set(digest, [...new Set([...(tags.get(digest) ?? []), found])]);
  }
  return { roots: listed, tags, unnamed };
}

async function oneOf(source: LayoutSource, listed: readonly LayoutDescriptor[], tag: Tag, maxBytes: number): Promise<Selection> {
  const named = listed.filter(({ annotations }) => annotations?.[refName] === tag);
  const subjects = new Map<Digest, Digest | undefined>();
  /** Some list the images of an index beside it. */
  const parts = new Set<Digest>();
  for (const { digest, mediaType } of listed) {
    const manifest = (await load(source, digest, mediaType, maxBytes))?.manifest;
    subjects.set(digest, manifest?.subject);
    for (const child of manifest?.children ?? []) parts.add(child);
  }
  const isFallback = ({ annotations }: LayoutDescriptor): boolean =>
    listed.some(({ digest }) => annotations?.[refName] === referrersTag(digest));
  const isPart = ({ digest, annotations }: LayoutDescriptor): boolean => parts.has(digest) && annotations?.[refName] === undefined;
  const images = listed.filter((entry) => subjects.get(entry.digest) === undefined && !isFallback(entry) && !isPart(entry));
  const candidates = named.length > 0 ? named : images;
  const [chosen, ...others] = [...new Map(candidates.map((entry) => [entry.digest, entry])).values()];
  if (chosen === undefined) throw new LayoutError(`${source.place} holds no image`);
  if (others.length > 0) {
    const names = candidates.map(({ digest, annotations }) => annotations?.[refName] ?? digest).slice(0, mostNamed);
    throw new LayoutError(`${source.place} holds several images, none of which is named ${tag}: ${names.join(', ')}`);
  }
  return { roots: await withReferrers(source, listed, chosen, subjects, maxBytes), tags: new Map([[chosen.digest, [tag]]]), unnamed: [] };
}

const mostNamed = 10;

/** What refers to it, and to that: by `subject`, or by an index under the name that old clients give it. */
async function withReferrers(
  source: LayoutSource,
  listed: readonly LayoutDescriptor[],
  chosen: LayoutDescriptor,
  subjects: ReadonlyMap<Digest, Digest | undefined>,
  maxBytes: number,
): Promise<LayoutDescriptor[]> {
  const roots = [chosen];
  for (const root of roots) {
    const fallback = listed.find(({ annotations }) => annotations?.[refName] === referrersTag(root.digest));
    const older = fallback && listedIn((await source.read(blobName(fallback.digest), maxBytes)) ?? new Uint8Array());
    for (const digest of older ?? []) if (roots.every((known) => known.digest !== digest)) roots.push({ ...root, digest, mediaType: '' });
    for (const entry of listed)
      if (subjects.get(entry.digest) === root.digest && roots.every(({ digest }) => digest !== entry.digest)) roots.push(entry);
  }
  return roots;
}

/** Manifests of the layout, each after what it lists. */
class Graph {
  readonly images: Image[] = [];
  private readonly seen = new Set<Digest>();
  private readonly source: LayoutSource;
  private readonly maxBytes: number;

  constructor(source: LayoutSource, maxBytes: number) {
    this.source = source;
    this.maxBytes = maxBytes;
  }

  async add(digest: Digest, mediaType: string): Promise<void> {
    if (!(await this.visit(digest, mediaType)))
      throw new LayoutError(`${this.source.place}: ${indexName} lists ${digest}, which is not there`);
  }

  /** False when the layout has no such manifest. */
  private async visit(digest: Digest, mediaType: string): Promise<boolean> {
    if (this.seen.has(digest)) return true;
    const image = await load(this.source, digest, mediaType, this.maxBytes);
    if (image === undefined) return false;
    this.seen.add(digest);
    for (const child of image.manifest.children) await this.visit(child, '');
    this.images.push(image);
    return true;
  }
}

/** Without a media type the manifest's own counts. */
async function load(source: LayoutSource, digest: Digest, mediaType: string, maxBytes: number): Promise<Image | undefined> {
  const bytes = await source.read(blobName(digest), maxBytes);
  if (bytes === undefined) return undefined;
  if (hashOf(digest, bytes) !== digest) throw new LayoutError(`${source.place}: ${blobName(digest)} has other bytes than its name says`);
  try {
    return { digest, bytes, manifest: parseManifest(bytes, mediaType) };
  } catch (error) {
    throw new LayoutError(`${source.place}: ${blobName(digest)}: ${(error as Error).message}`, { cause: error });
  }
}

/** Blobs to upload. What the layout lacks may be in the repository; an index may lack some altogether. */
async function findBlobs(
  { links, sparse }: ImportParts,
  source: LayoutSource,
  repository: RepositoryName,
  images: readonly Image[],
): Promise<Set<Digest>> {
  const found = new Set<Digest>();
  for (const { digest: of, manifest } of images) {
    for (const digest of manifest.blobs) {
      if (found.has(digest)) continue;
      if (await source.has(blobName(digest))) found.add(digest);
      else if (!mayMiss(manifest, sparse) && (await links.find({ repository, digest }))?.damaged !== false)
        throw new LayoutError(`${source.place}: the manifest ${of} needs the blob ${digest}, which is not there`);
    }
    for (const digest of manifest.optionalBlobs) if (await source.has(blobName(digest))) found.add(digest);
  }
  return found;
}

/** Also those that the repository has: they are part of the layout, and counted. */
async function compareBlobs({ onProgress }: ImportParts, source: LayoutSource, blobs: ReadonlySet<Digest>): Promise<BlobCounts> {
  const sum = { blobs: 0, bytes: 0 };
  await eachBlob(source, blobs, async (digest, size, chunks) => {
    if ((await hashOfAll(digest, chunks)) !== digest) throw otherBytes(source, digest);
    sum.blobs++;
    sum.bytes += size;
    onProgress('compared', sum);
  });
  return sum;
}

async function uploadBlobs(
  { uploads, links, onProgress }: ImportParts,
  source: LayoutSource,
  repository: RepositoryName,
  blobs: ReadonlySet<Digest>,
): Promise<void> {
  const unknown = new Set<Digest>();
  for (const digest of blobs) if ((await links.find({ repository, digest }))?.damaged !== false) unknown.add(digest);
  const sum = { blobs: 0, bytes: 0 };
  await eachBlob(source, unknown, async (digest, size, chunks) => {
    try {
      const upload = await beginUpload(uploads, repository, algorithmOf(digest), bodyOf(size, chunks), '');
      await upload.finish(digest, neverGivenUp);
    } catch (error) {
      // Somebody has changed it since it was compared.
      throw error instanceof RegistryError && error.code === 'DIGEST_INVALID' ? otherBytes(source, digest) : error;
    }
    sum.blobs++;
    sum.bytes += size;
    onProgress('uploaded', sum);
  });
}

function eachBlob(
  source: LayoutSource,
  blobs: ReadonlySet<Digest>,
  take: (digest: Digest, size: number, chunks: AsyncIterable<Uint8Array>) => Promise<void>,
): Promise<void> {
  const byName = new Map([...blobs].map((digest) => [blobName(digest), digest]));
  return source.each(new Set(byName.keys()), async (name, size, chunks) => {
    const digest = byName.get(name);
    if (digest !== undefined) await take(digest, size, chunks);
  });
}

function otherBytes({ place }: LayoutSource, digest: Digest): LayoutError {
  return new LayoutError(`${place}: ${blobName(digest)} has other bytes than its name says`);
}

/** An upload takes bodies of requests. */
function bodyOf(size: number, chunks: AsyncIterable<Uint8Array>): RequestBody {
  return {
    length: size,
    bytes: () => Promise.reject(new Error('a blob is not taken as a whole')),
    async pipe(sink) {
      for await (const chunk of chunks) {
        for (let rest = chunk; rest.byteLength > 0;) {
          rest = rest.subarray(sink.write(rest));
          if (rest.byteLength > 0) await sink.ready();
        }
      }
    },
  };
}

function hashOf(like: Digest, bytes: Uint8Array): string {
  const algorithm = algorithmOf(like);
  return `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`;
}

async function hashOfAll(like: Digest, chunks: AsyncIterable<Uint8Array>): Promise<string> {
  const algorithm = algorithmOf(like);
  const hash = createHash(algorithm);
  for await (const chunk of chunks) hash.update(chunk);
  return `${algorithm}:${hash.digest('hex')}`;
}
