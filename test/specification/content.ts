// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Builds the contents that registries must take: blobs, images, indexes and artifacts, new ones each time. */
import { randomBytes, randomUUID } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { digestOf } from '../support/wire-suite.js';

export const mediaTypes = {
  image: 'application/vnd.oci.image.manifest.v1+json',
  index: 'application/vnd.oci.image.index.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  layer: 'application/vnd.oci.image.layer.v1.tar',
  layerGzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
  foreignLayer: 'application/vnd.oci.image.layer.nondistributable.v1.tar',
  foreignLayerGzip: 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip',
  empty: 'application/vnd.oci.empty.v1+json',
  bytes: 'application/octet-stream',
} as const;

export const algorithms = ['sha256', 'sha512'] as const;
export type Algorithm = (typeof algorithms)[number];

/** Every name that the bytes could be found under. */
export function digestsOf(bytes: Uint8Array): string[] {
  return algorithms.map((algorithm) => digestOf(bytes, algorithm));
}

export interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly artifactType?: string;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly data?: string;
  readonly platform?: Readonly<Record<string, string>>;
  readonly urls?: readonly string[];
}

export interface ManifestContent extends Descriptor {
  readonly bytes: Buffer;
  /** Digest of the subject. */
  readonly subject: string | undefined;
}

export interface Shape {
  readonly tag?: string;
  readonly artifactType?: string;
  /** One that nobody else has is added. */
  readonly annotations?: Readonly<Record<string, string>>;
  readonly subject?: Descriptor;
  /** Makes the layers of one image; without it there are two. */
  readonly layers?: () => readonly Descriptor[];
  /** Makes the config; without it an image's. */
  readonly config?: () => Descriptor;
  /** A field that no specification knows, in config and manifest. */
  readonly customField?: boolean;
}

/** A data set: what is pushed, and what must be found afterwards. */
export class Content {
  readonly blobs = new Map<string, Buffer>();
  /** In the order in which they are pushed. */
  readonly manifests: ManifestContent[] = [];
  readonly tags = new Map<string, ManifestContent>();
  /** What the referrers API must list, by subject. */
  readonly referrers = new Map<string, Descriptor[]>();
  private readonly algorithm: Algorithm;
  private readonly inline: boolean;

  /** With `inline`, descriptors of blobs carry their bytes in `data`. */
  constructor({ algorithm = 'sha256', inline = false }: { algorithm?: Algorithm; inline?: boolean } = {}) {
    this.algorithm = algorithm;
    this.inline = inline;
  }

  blob(mediaType: string, bytes: Buffer = randomBytes(2048)): Descriptor {
    const descriptor = this.absent(mediaType, bytes);
    this.blobs.set(descriptor.digest, bytes);
    return this.inline ? { ...descriptor, data: bytes.toString('base64') } : descriptor;
  }

  /** Describes bytes that are not pushed. */
  absent(mediaType: string, bytes: Buffer = randomBytes(1024)): Descriptor {
    return { mediaType, digest: digestOf(bytes, this.algorithm), size: bytes.byteLength };
  }

  /** What manifests name and nobody pushes: parts of incomplete ones, layers that are elsewhere, subjects. */
  lacking(): Set<string> {
    const pushed = new Set([...this.blobs.keys(), ...this.manifests.map(({ digest }) => digest)]);
    return new Set(this.manifests.flatMap(({ bytes }) => namedIn(bytes)).filter((digest) => !pushed.has(digest)));
  }

  gzipLayer = (): Descriptor => this.blob(mediaTypes.layerGzip, gzipSync(`contents of a layer: ${randomUUID()}`));

  emptyConfig = (): Descriptor => this.blob(mediaTypes.empty, Buffer.from('{}'));

  image(shape: Shape = {}, platform: Readonly<Record<string, string>> = { os: 'linux', architecture: 'amd64' }): ManifestContent {
    const layers = shape.layers?.() ?? [this.gzipLayer(), this.gzipLayer()];
    const config = shape.config?.() ?? this.imageConfig(shape, platform, layers);
    const { artifactType = config.mediaType } = shape;
    return this.manifest(mediaTypes.image, { config, layers }, shape, artifactType);
  }

  index(manifests: readonly Descriptor[], shape: Shape = {}): ManifestContent {
    return this.manifest(mediaTypes.index, { manifests: manifests.map(plain) }, shape, shape.artifactType);
  }

  /** An index of an image for each of two platforms; the images have its shape too, but not its tag. */
  indexOfImages({ tag, ...shape }: Shape = {}): ManifestContent {
    const images = ['amd64', 'arm64'].map((architecture) => {
      const platform = { os: 'linux', architecture };
      return { ...this.image(shape, platform), platform };
    });
    return this.index(images, tag === undefined ? shape : { ...shape, tag });
  }

  private imageConfig({ customField }: Shape, platform: Readonly<Record<string, string>>, layers: readonly Descriptor[]): Descriptor {
    const rootfs = { type: 'layers', diff_ids: layers.map(({ digest }) => digest) };
    return this.blob(mediaTypes.config, json({ author: 'ha-registry', ...platform, rootfs, ...unknownField(customField) }));
  }

  private manifest(mediaType: string, parts: object, shape: Shape, artifactType: string | undefined): ManifestContent {
    const annotations =
      shape.annotations === undefined ? undefined : { ...shape.annotations, [`org.example.${randomUUID()}`]: randomUUID() };
    const subject = shape.subject === undefined ? undefined : plain(shape.subject);
    const fields = { artifactType: shape.artifactType, ...parts, subject, annotations, ...unknownField(shape.customField) };
    const bytes = json({ schemaVersion: 2, mediaType, ...fields });
    const content = { ...this.absent(mediaType, bytes), bytes, subject: subject?.digest };
    this.manifests.push(content);
    if (shape.tag !== undefined) this.tags.set(shape.tag, content);
    if (subject !== undefined) {
      const referrer = { ...plain(content), ...(artifactType === undefined ? {} : { artifactType }), ...(annotations && { annotations }) };
      this.referrers.set(subject.digest, [...(this.referrers.get(subject.digest) ?? []), referrer]);
    }
    return content;
  }
}

/** Without what only the tests know of a manifest. */
function plain({ mediaType, digest, size, platform }: Descriptor): Descriptor {
  return { mediaType, digest, size, ...(platform === undefined ? {} : { platform }) };
}

function namedIn(bytes: Buffer): string[] {
  const { config, layers = [], manifests = [], subject } = JSON.parse(bytes.toString()) as Parts;
  return [config, ...layers, ...manifests, subject].flatMap((part) => (part === undefined ? [] : [part.digest]));
}

interface Parts {
  readonly config?: Descriptor;
  readonly layers?: readonly Descriptor[];
  readonly manifests?: readonly Descriptor[];
  readonly subject?: Descriptor;
}

function json(value: object): Buffer {
  return Buffer.from(JSON.stringify(value));
}

function unknownField(wanted: boolean | undefined): object {
  return wanted === true ? { [`org.${randomUUID()}`]: randomUUID() } : {};
}
