// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The data sets: every kind of content that the image and distribution specifications know of. */
import { digestOf } from '../support/wire-suite.js';
import { Content, mediaTypes, type Algorithm, type Shape } from './content.js';

export interface DataSet {
  readonly name: string;
  readonly content: Content;
  /** Manifests are pushed by digest with their tags as `?tag=`. */
  readonly tagParameters?: boolean;
  /** The manifests' bytes are followed by two spaces, so that their digests do not fit. */
  readonly wrongDigest?: boolean;
}

/** Made anew for each run. `sparse` is what a registry may refuse: manifests whose parts are not there. */
export function dataSets({ sparse }: { readonly sparse: boolean }): DataSet[] {
  return [
    named('image', (set) => set.image({ tag: 'image' })),
    named('image-uncompressed', (set) => {
      const layers = () => [set.blob(mediaTypes.layer), set.blob(mediaTypes.layer)];
      set.image({ tag: 'image-uncompressed', layers });
    }),
    named('large-manifest', (set) => set.image({ tag: 'large-manifest', annotations: manyAnnotations() })),
    named('index', (set) => set.indexOfImages({ tag: 'index' })),
    named('nested-index', (set) => set.index([set.indexOfImages(), set.indexOfImages()], { tag: 'index-of-index' })),
    named('empty-index', (set) => set.index([], { tag: 'index' })),
    named('artifact', (set) => set.image({ tag: 'artifact', ...artifact(set, firstType) })),
    named('artifact-index', (set) => set.indexOfImages({ tag: 'artifact-index', ...artifact(set, firstType) })),
    named('artifact-without-layers', (set) => {
      set.image({ tag: 'artifact-without-layers', ...artifact(set, firstType), layers: () => [set.emptyConfig()] });
    }),
    named('artifacts-with-subject', artifactsWithSubject),
    named('index-with-subject', (set) => {
      const subject = set.indexOfImages({ tag: 'index' });
      set.indexOfImages({ tag: 'tagged-artifact', ...artifact(set, firstType), annotations, subject });
    }),
    // Not in the official suite: a referrer that has no type, which the filter for the empty type finds.
    named('untyped-index-with-subject', (set) => {
      const subject = set.image({ tag: 'image' });
      set.index([subject], { tag: 'tagged-index', annotations, subject });
      set.image({ ...artifact(set, firstType), subject });
    }),
    named('missing-subject', (set) => {
      const subject = { mediaType: mediaTypes.image, digest: digestOf('was never pushed'), size: 123 };
      set.image({ tag: 'tagged-artifact', ...artifact(set, firstType), annotations, subject });
    }),
    named('data-field', (set) => set.image({ tag: 'data-field' }), new Content({ inline: true })),
    named('non-distributable-layers', nonDistributable),
    named('custom-fields', (set) => set.indexOfImages({ tag: 'custom-fields', customField: true })),
    named('no-layers', (set) => set.image({ tag: 'no-layers', layers: () => [] })),
    ...(sparse ? [named('sparse', incomplete)] : []),
    // A push by tag is a push by sha256; without tags, these are all pushed by their sha512.
    named('sha512', (set) => set.indexOfImages(), new Content({ algorithm: 'sha512' })),
    // Not in the official suite: who is asked for by sha512 is answered by sha512.
    named('sha512-with-subject', sha512WithSubject, new Content({ algorithm: 'sha512' })),
    tagParameters('tag-param-sha256', 'sha256'),
    tagParameters('tag-param-sha512', 'sha512'),
    { ...named('bad-digest-image', (set) => set.image()), wrongDigest: true },
  ];
}

function named(name: string, fill: (set: Content) => void, content = new Content()): DataSet {
  fill(content);
  return { name, content };
}

const firstType = 'application/vnd.example.ha-registry.test.v1';
const secondType = 'application/vnd.example.ha-registry.test.v2';
const annotations = { 'org.example.greeting': 'hello' };

function artifact(set: Content, artifactType: string, layerType = artifactType): Shape {
  return { artifactType, config: set.emptyConfig, layers: () => [set.blob(layerType)] };
}

/** 3.9 MB: the specification asks registries to take 4 MB. */
function manyAnnotations(): Record<string, string> {
  const value = 'A'.repeat(10_000);
  return Object.fromEntries(Array.from({ length: 390 }, (_, number) => [`org.example.large-${number}`, value]));
}

/** Three referrers of three types, of which an image has its config's. */
function artifactsWithSubject(set: Content): void {
  const subject = set.image({ tag: 'image' });
  set.image({ subject });
  set.image({ tag: 'tagged-artifact1', ...artifact(set, firstType), annotations, subject });
  set.image({ tag: 'tagged-artifact2', ...artifact(set, secondType, mediaTypes.bytes), annotations, subject });
}

/** Two referrers of an image, and one of what is not there. */
function sha512WithSubject(set: Content): void {
  const subject = set.image();
  set.image({ ...artifact(set, firstType), annotations, subject });
  set.index([subject], { artifactType: secondType, subject });
  set.image({ ...artifact(set, secondType), subject: set.absent(mediaTypes.image) });
}

/** Layers that stay where their `urls` say: nobody pushes them. */
function nonDistributable(set: Content): void {
  const foreign = (mediaType: string) => ({ ...set.absent(mediaType), size: 123_456, urls: ['https://store.example.com/layer'] });
  const layers = () => [foreign(mediaTypes.foreignLayerGzip), foreign(mediaTypes.foreignLayer), set.gzipLayer()];
  set.image({ tag: 'non-distributable-image', layers });
}

/** An image without one of its layers, and an index without one of its images. */
export function incomplete(set: Content): void {
  set.image({ tag: 'sparse-image', layers: () => [set.absent(mediaTypes.layerGzip), set.gzipLayer()] });
  set.index([set.image(), set.absent(mediaTypes.image)], { tag: 'sparse-index' });
}

/** Each manifest has a tag, the index two. */
function tagParameters(name: string, algorithm: Algorithm): DataSet {
  const content = new Content({ algorithm });
  content.indexOfImages({ tag: name });
  content.manifests.forEach((manifest, number) => content.tags.set(`${name}-${number}`, manifest));
  return { name, content, tagParameters: true };
}
