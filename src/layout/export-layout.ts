// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { createHash } from 'node:crypto';
import type { FoundManifest } from '../manifest/manifest-queries.js';
import { algorithmOf, type Digest } from '../oci/digest.js';
import { parseManifest } from '../oci/manifest.js';
import type { Tag } from '../oci/reference.js';
import type { RepositoryName } from '../oci/repository-name.js';
import type { MetadataReads } from '../reads/metadata-reads.js';
import type { BlobStore } from '../storage/blob-store.js';
import { blobName, LayoutError, refName, type LayoutDescriptor } from './image-layout.js';
import type { LayoutTarget } from './layout-target.js';

export interface ExportParts {
  readonly reads: MetadataReads;
  readonly store: BlobStore;
  readonly onProgress: (counts: ExportCounts) => void;
}

export interface ExportCounts {
  readonly tags: number;
  readonly manifests: number;
  readonly blobs: number;
  readonly bytes: number;
  /** What an index lists and the repository has not. */
  readonly missing: readonly Digest[];
}

/** One tag, one digest, or without both every tag. */
export interface ExportSelection {
  readonly repository: RepositoryName;
  readonly tag: Tag | undefined;
  readonly digest: Digest | undefined;
}

const tagsAtOnce = 1000;

/** With everything that the manifests refer to, and what refers to them. Throws LayoutError when something of it is not there, or has other bytes than its digest says. */
export async function exportLayout(parts: ExportParts, selection: ExportSelection, target: LayoutTarget): Promise<ExportCounts> {
  const exporter = new Exporter(parts, selection.repository, target);
  const { tag, digest } = selection;
  if (digest !== undefined) await exporter.addDigest(digest);
  else if (tag !== undefined) await exporter.addTag(tag);
  else await exporter.addAllTags();
  await target.finish(exporter.listed());
  return exporter.counts();
}

class Exporter {
  private readonly parts: ExportParts;
  private readonly repository: RepositoryName;
  private readonly target: LayoutTarget;
  /** By tag, or by digest where there is none. */
  private readonly roots = new Map<string, LayoutDescriptor>();
  private readonly manifests = new Map<Digest, LayoutDescriptor>();
  private readonly blobs = new Set<Digest>();
  private readonly missing = new Set<Digest>();
  private tags = 0;
  private bytes = 0;

  constructor(parts: ExportParts, repository: RepositoryName, target: LayoutTarget) {
    this.parts = parts;
    this.repository = repository;
    this.target = target;
  }

  async addAllTags(): Promise<void> {
    for (let last = ''; ;) {
      const tags = await this.parts.reads.listTags(this.repository, last, tagsAtOnce);
      if (tags === undefined) throw new LayoutError(`there is no repository ${this.repository}`);
      // One that is deleted meanwhile is left out.
      for (const tag of tags as Tag[]) await this.addTagged(tag);
      if (tags.length < tagsAtOnce) break;
      last = tags.at(-1) ?? '';
    }
    if (this.tags === 0) throw new LayoutError(`${this.repository} has no tags; a manifest is exported by its digest`);
  }

  async addTag(tag: Tag): Promise<void> {
    if (!(await this.addTagged(tag))) throw new LayoutError(`there is no ${this.repository}:${tag}`);
  }

  async addDigest(digest: Digest): Promise<void> {
    const found = await this.parts.reads.manifestsByDigest.find({ repository: this.repository, digest });
    if (found === undefined) throw new LayoutError(`there is no ${this.repository}@${digest}`);
    this.roots.set(digest, await this.addManifest(found));
  }

  /** What index.json lists: referrers stand in it beside the tags, since nothing else leads to them. */
  listed(): LayoutDescriptor[] {
    return [...this.roots.values()];
  }

  counts(): ExportCounts {
    const { tags, manifests, blobs, bytes, missing } = this;
    return { tags, manifests: manifests.size, blobs: blobs.size, bytes, missing: [...missing] };
  }

  private async addTagged(tag: Tag): Promise<boolean> {
    const found = await this.parts.reads.manifestsByTag.find({ repository: this.repository, tag });
    if (found === undefined) return false;
    const descriptor = await this.addManifest(found);
    this.roots.set(tag, { ...descriptor, annotations: { [refName]: tag } });
    this.tags++;
    return true;
  }

  private async addManifest({ digest, mediaType, content, size }: FoundManifest): Promise<LayoutDescriptor> {
    const known = this.manifests.get(digest);
    if (known !== undefined) return known;
    const descriptor = { mediaType, digest, size };
    this.manifests.set(digest, descriptor);
    const bytes = await this.bytesOf(digest, content);
    const manifest = parseManifest(bytes, mediaType);
    const isIndex = manifest.children.length > 0 || mediaType.includes('index') || mediaType.includes('list');
    for (const child of manifest.children) await this.addChild(child);
    for (const blob of manifest.blobs) {
      if (await this.addBlob(blob)) continue;
      if (!isIndex) throw new LayoutError(`${this.repository}@${digest} cannot be exported: its blob ${blob} is not there`);
      this.missing.add(blob);
    }
    for (const blob of manifest.optionalBlobs) await this.addBlob(blob);
    await this.write(digest, bytes.byteLength, checked(digest, [bytes]));
    await this.addReferrers(digest);
    return descriptor;
  }

  private async bytesOf(digest: Digest, content: FoundManifest['content']): Promise<Uint8Array> {
    const bytes = content ?? (await this.parts.reads.findManifestBytes(this.repository, digest));
    if (bytes === undefined) throw new LayoutError(`${this.repository}@${digest} was deleted meanwhile`);
    return typeof bytes === 'string' ? Buffer.from(bytes, 'utf8') : bytes;
  }

  private async addChild(digest: Digest): Promise<void> {
    const found = await this.parts.reads.manifestsByDigest.find({ repository: this.repository, digest });
    if (found === undefined) this.missing.add(digest);
    else await this.addManifest(found);
  }

  private async addReferrers(subject: Digest): Promise<void> {
    const { reads } = this.parts;
    for (let after: Digest | undefined; ;) {
      const { descriptors, next } = await reads.listReferrers(this.repository, subject, {
        artifactType: undefined,
        after,
        select: undefined,
      });
      for (const { digest, artifactType } of descriptors) {
        const found = await reads.manifestsByDigest.find({ repository: this.repository, digest });
        if (found === undefined) continue;
        const descriptor = await this.addManifest(found);
        this.roots.set(digest, artifactType === undefined ? descriptor : { ...descriptor, artifactType });
      }
      if (next === undefined) return;
      after = next;
    }
  }

  /** False when it is not there. */
  private async addBlob(digest: Digest): Promise<boolean> {
    if (this.blobs.has(digest)) return true;
    const found = await this.parts.reads.links.find({ repository: this.repository, digest });
    if (found === undefined) return false;
    if (found.damaged) throw new LayoutError(`blob ${digest} of ${this.repository} is damaged in the store; pushing it again heals it`);
    this.blobs.add(digest);
    await this.write(digest, found.size, checked(digest, this.read(found.key, found.size)));
    return true;
  }

  private async *read(key: string, size: number): AsyncGenerator<Uint8Array> {
    if (size === 0) return;
    const source = await this.parts.store.open(key, 0, size);
    try {
      for (let chunk = await source.next(); chunk !== undefined; chunk = await source.next()) yield chunk;
    } finally {
      source.close();
    }
  }

  private async write(digest: Digest, size: number, chunks: AsyncIterable<Uint8Array>): Promise<void> {
    const name = blobName(digest);
    if (!(await this.target.has(name, size))) await this.target.write(name, size, chunks);
    this.bytes += size;
    this.parts.onProgress(this.counts());
  }
}

/** Passes the bytes on, and throws at their end when they are not those of the digest. */
async function* checked(digest: Digest, chunks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const algorithm = algorithmOf(digest);
  const hash = createHash(algorithm);
  for await (const chunk of chunks) {
    hash.update(chunk);
    yield chunk;
  }
  if (`${algorithm}:${hash.digest('hex')}` !== digest) throw new LayoutError(`the stored bytes of ${digest} have another digest`);
}
