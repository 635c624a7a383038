// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Small images of random content, as OCI layouts and as archives for `docker load`. Nothing is pulled from outside. */
import { createHash, randomBytes } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { tarOf } from './tar.js';

export interface Blob {
  readonly mediaType: string;
  readonly digest: string;
  readonly bytes: Buffer;
}

export interface Image {
  readonly manifest: Blob;
  readonly config: Blob;
  /** Compressed as in the manifest; `tar` is the content. */
  readonly layers: readonly (Blob & { readonly tar: Buffer })[];
  readonly architecture: string;
}

export interface Index {
  readonly manifest: Blob;
  readonly images: readonly Image[];
}

/** An image or index in a directory on disk, under one tag. */
export interface Layout {
  readonly directory: string;
  readonly tag: string;
  readonly digest: string;
  readonly images: readonly Image[];
}

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

interface Root extends Descriptor {
  readonly annotations?: Readonly<Record<string, string>>;
}

const refName = 'org.opencontainers.image.ref.name';
const MiB = 1024 * 1024;
export const layerSizes = [40 * 1024, 300 * 1024, 3 * MiB];

export function makeImage(architecture = 'amd64'): Image {
  const layers = layerSizes.map((size, number) => {
    const tar = tarOf([{ name: `file-${number}`, content: randomBytes(size) }]);
    return { ...blob('application/vnd.oci.image.layer.v1.tar+gzip', gzipSync(tar, { level: 1 })), tar };
  });
  const config = jsonBlob('application/vnd.oci.image.config.v1+json', {
    created: '2026-01-01T00:00:00Z',
    architecture,
    os: 'linux',
    config: { Cmd: ['/file-0'] },
    rootfs: { type: 'layers', diff_ids: layers.map(({ tar }) => digestOf(tar)) },
    history: layers.map(() => ({ created: '2026-01-01T00:00:00Z', created_by: 'the clients drill' })),
  });
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const manifest = jsonBlob(mediaType, { schemaVersion: 2, mediaType, config: descriptor(config), layers: layers.map(descriptor) });
  return { manifest, config, layers, architecture };
}

export function makeIndex(): Index {
  const images = ['amd64', 'arm64'].map((architecture) => makeImage(architecture));
  const mediaType = 'application/vnd.oci.image.index.v1+json';
  const manifests = images.map(({ manifest, architecture }) => ({ ...descriptor(manifest), platform: { os: 'linux', architecture } }));
  return { manifest: jsonBlob(mediaType, { schemaVersion: 2, mediaType, manifests }), images };
}

export async function writeLayout(directory: string, tag: string, content: Image | Index): Promise<Layout> {
  const images = 'images' in content ? content.images : [content];
  const blobs = path.join(directory, 'blobs/sha256');
  await mkdir(blobs, { recursive: true });
  for (const { digest, bytes } of [content.manifest, ...images.flatMap(({ manifest, config, layers }) => [manifest, config, ...layers])]) {
    await writeFile(path.join(blobs, digest.slice('sha256:'.length)), bytes);
  }
  const index = { schemaVersion: 2, manifests: [{ ...descriptor(content.manifest), annotations: { [refName]: tag } }] };
  await writeFile(path.join(directory, 'index.json'), JSON.stringify(index));
  await writeFile(path.join(directory, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  return { directory, tag, digest: content.manifest.digest, images };
}

/** Checks that everything in a layout is there and hashes right, and returns the digest of its one root. */
export async function verifyLayout(directory: string): Promise<string> {
  const { manifests } = JSON.parse(await readFile(path.join(directory, 'index.json'), 'utf8')) as { manifests: Root[] };
  const tagged = manifests.filter(({ annotations }) => annotations?.[refName] !== undefined); // oras lists an index's children as well.
  const [root, ...others] = tagged.length > 0 ? tagged : manifests;
  if (root === undefined || others.length > 0) throw new Error(`the layout has ${others.length + 1} roots instead of one`);
  await verifyTree(directory, root);
  return root.digest;
}

/** What `docker load` and skopeo's `docker-archive:` read. */
export async function writeDockerArchive(file: string, { config, layers }: Image, name: string): Promise<void> {
  const entries = layers.map(({ tar, digest }) => ({ name: `${digest.slice('sha256:'.length)}.tar`, content: tar }));
  const manifest = [{ Config: 'config.json', RepoTags: [name], Layers: entries.map((entry) => entry.name) }];
  const files = [
    { name: 'config.json', content: config.bytes },
    { name: 'manifest.json', content: Buffer.from(JSON.stringify(manifest)) },
  ];
  await writeFile(file, tarOf([...files, ...entries]));
}

export function digestOf(bytes: Uint8Array | string): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

async function verifyTree(directory: string, { digest, size, mediaType }: Descriptor): Promise<void> {
  const bytes = await readFile(path.join(directory, 'blobs', digest.replace(':', '/')));
  if (digestOf(bytes) !== digest || bytes.length !== size) throw new Error(`${digest} (${size} bytes) has other content in the layout`);
  if (!/manifest|index/.test(mediaType)) return;
  const {
    config,
    layers = [],
    manifests = [],
  } = JSON.parse(bytes.toString()) as {
    config?: Descriptor;
    layers?: Descriptor[];
    manifests?: Descriptor[];
  };
  for (const child of [...(config === undefined ? [] : [config]), ...layers, ...manifests]) await verifyTree(directory, child);
}

function descriptor({ mediaType, digest, bytes }: Blob): Descriptor {
  return { mediaType, digest, size: bytes.length };
}

function jsonBlob(mediaType: string, value: object): Blob {
  return blob(mediaType, Buffer.from(JSON.stringify(value)));
}

function blob(mediaType: string, bytes: Buffer): Blob {
  return { mediaType, digest: digestOf(bytes), bytes };
}
