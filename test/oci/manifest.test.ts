// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import t from 'tap';
import { isManifestMediaType, listedIn, mediaTypes, parseManifest } from '../../src/oci/manifest.js';

const digests = Array.from({ length: 6 }, (_, index) => `sha256:${String(index).repeat(64)}`);
const [a = '', b = '', c = '', d = '', e = ''] = digests;
const layerType = 'application/vnd.oci.image.layer.v1.tar';
const of = (digest: string, mediaType: string = layerType) => ({ mediaType, digest, size: 1 });
const parse = (value: unknown, contentType?: string) => parseManifest(Buffer.from(JSON.stringify(value)), contentType);
const image = {
  schemaVersion: 2,
  mediaType: mediaTypes.ociManifest,
  config: of(a, 'application/vnd.example.config'),
  layers: [of(b), of(c)],
};
const index = { schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests: [of(a, mediaTypes.ociManifest)] };

void t.test('references', async (t) => {
  for (const [what, manifest, blobs, children] of [
    ['an image', image, [a, b, c], []],
    ['without layers', { ...image, layers: [] }, [a], []],
    ['with null for layers', { ...image, layers: null }, [a], []],
    ['the same layer again', { ...image, layers: [of(b), of(b), of(a)] }, [a, b], []],
    [
      'a layer that is elsewhere',
      { ...image, layers: [of(b), of(c, 'application/vnd.oci.image.layer.nondistributable.v1.tar+zstd')] },
      [a, b],
      [],
    ],
    ["docker's word for it", { ...image, layers: [of(c, 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip')] }, [a], []],
    ['docker', { ...image, mediaType: mediaTypes.dockerManifest }, [a, b, c], []],
    ['an index', index, [], [a]],
    ['an index of nothing', { ...index, manifests: [] }, [], []],
    ['an index without the field', { ...index, manifests: undefined }, [], []],
    [
      'an index in an index',
      { ...index, manifests: [of(a, mediaTypes.ociIndex), of(b, mediaTypes.dockerList), of(c, mediaTypes.dockerManifest)] },
      [],
      [a, b, c],
    ],
    ['a build cache', { ...index, manifests: [of(a), of(b, 'application/vnd.buildkit.cacheconfig.v0')] }, [a, b], []],
    ['a docker list', { ...index, mediaType: mediaTypes.dockerList }, [], [a]],
    ['an artifact manifest', { mediaType: mediaTypes.ociArtifact, artifactType: 'x', blobs: [of(d)] }, [d], []],
  ] as const) {
    const parsed = parse(manifest);
    t.strictSame([parsed.blobs, parsed.children], [blobs, children], what);
  }
  const elsewhere = 'application/vnd.oci.image.layer.nondistributable.v1.tar';
  t.strictSame(parse(image).optionalBlobs, []);
  t.strictSame(
    parse({ ...image, layers: [of(b), of(c, elsewhere), of(d, elsewhere), of(c, elsewhere)] }).optionalBlobs,
    [c, d],
    'kept apart, once each',
  );
  t.strictSame(parse({ ...image, layers: [of(b), of(b, elsewhere)] }).optionalBlobs, [], 'what it needs as well is needed');
});

void t.test('subject, type and annotations', async (t) => {
  t.equal(parse(image).subject, undefined);
  t.equal(parse({ ...image, subject: of(e, mediaTypes.ociManifest) }).subject, e);
  t.equal(parse({ ...index, subject: of(e, mediaTypes.ociManifest) }).subject, e);
  t.equal(parse({ ...image, subject: null }).subject, undefined);
  t.equal(parse(image).artifactType, 'application/vnd.example.config', "an image's is its config's");
  t.equal(parse({ ...image, artifactType: 'own' }).artifactType, 'own');
  t.equal(parse({ ...image, artifactType: '' }).artifactType, 'application/vnd.example.config', 'empty is none');
  t.equal(parse(index).artifactType, undefined, 'an index has none by itself');
  t.equal(parse({ ...index, artifactType: 'own' }).artifactType, 'own');
  t.strictSame(parse({ ...image, annotations: { a: 'b' } }).annotations, { a: 'b' });
  t.equal(parse({ ...image, annotations: null }).annotations, undefined);
});

void t.test('media types', async (t) => {
  const untyped = { ...image, mediaType: undefined };
  for (const [what, manifest, contentType, expected] of [
    ['both agree', image, mediaTypes.ociManifest, mediaTypes.ociManifest],
    ['a parameter', image, `${mediaTypes.ociManifest}; charset=utf-8`, mediaTypes.ociManifest],
    ['upper case', image, mediaTypes.ociManifest.toUpperCase(), mediaTypes.ociManifest],
    ['only in the manifest', image, undefined, mediaTypes.ociManifest],
    ['only in the manifest, as JSON', index, 'application/json', mediaTypes.ociIndex],
    ['only in the header', untyped, mediaTypes.dockerManifest, mediaTypes.dockerManifest],
    ['nowhere: an image', untyped, undefined, mediaTypes.ociManifest],
    ['nowhere: an index', { ...index, mediaType: undefined }, undefined, mediaTypes.ociIndex],
  ] as const) {
    t.equal(parse(manifest, contentType).mediaType, expected, what);
  }
  for (const [what, manifest, contentType] of [
    ['they do not agree', image, mediaTypes.ociIndex],
    ['one of docker', image, mediaTypes.dockerManifest],
    ['unknown', untyped, 'text/plain'],
    ['unknown in the manifest', { ...image, mediaType: 'text/plain' }, undefined],
    ['not text', { ...image, mediaType: 5 }, mediaTypes.ociManifest],
  ] as const) {
    t.throws(() => parse(manifest, contentType), { code: 'MANIFEST_INVALID', status: 400 }, what);
  }
  t.notOk(isManifestMediaType(layerType));
  t.ok(isManifestMediaType(mediaTypes.dockerList));
});

void t.test('what is no manifest', async (t) => {
  for (const value of [
    null,
    1,
    'x',
    [],
    {},
    { ...image, schemaVersion: 1 },
    { ...image, schemaVersion: '2' },
    { ...image, config: undefined },
    { ...image, config: [] },
    { ...image, layers: {} },
    { ...image, layers: [null] },
    { ...image, layers: [{ ...of(b), digest: 'sha256:x' }] },
    { ...image, layers: [{ ...of(b), size: -1 }] },
    { ...image, layers: [{ ...of(b), size: 1.5 }] },
    { ...image, layers: [{ ...of(b), size: '1' }] },
    { ...image, layers: [{ ...of(b), mediaType: undefined }] },
    { ...image, layers: [{ ...of(b), mediaType: '' }] },
    { ...image, subject: 'x' },
    { ...image, subject: { digest: a } },
    { ...image, annotations: [] },
    { ...image, annotations: { a: 1 } },
    { ...image, annotations: { a: '\0' } },
    { ...image, annotations: { '\0': 'a' } },
    { ...image, annotations: { a: '\ud800' } },
    { ...image, annotations: { '\udfff': 'a' } },
    { ...image, artifactType: 'a\0' },
    { ...image, artifactType: '\ud800' },
    { ...image, config: of(a, 'a\0') },
    { ...index, manifests: 'x' },
  ]) {
    t.throws(() => parse(value), { code: 'MANIFEST_INVALID', status: 400 }, JSON.stringify(value));
  }
  for (const bytes of [
    Buffer.from(''),
    Buffer.from('{'),
    Buffer.from([0xff]),
    Buffer.from('\ufeff{}'),
    Buffer.from(JSON.stringify(image), 'utf16le'),
  ]) {
    t.throws(() => parseManifest(bytes, undefined), { code: 'MANIFEST_INVALID' }, bytes.toString('hex').slice(0, 20));
  }
});

void t.test('the index of a fallback tag', async (t) => {
  t.strictSame(listed({ ...index, manifests: [of(a), of(b), of(a)] }), [a, b]);
  for (const value of [image, {}, [], null, 'x', { manifests: 'x' }, { manifests: [{ digest: 'x' }] }])
    t.strictSame(listed(value), [], JSON.stringify(value));
  t.strictSame(listedIn(Buffer.from('no JSON')), []);
});

function listed(value: unknown): string[] {
  return listedIn(Buffer.from(JSON.stringify(value)));
}
