// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Test } from 'tap';
import { errorCode, jsonOf, type Answer, type HttpClient } from './support/http-client.js';
import {
  describe,
  digestOf,
  imageOf,
  imageWithBlobs,
  indexOf,
  locationOf,
  onBothStores,
  pushBlob,
  putManifest,
  startWireNode,
  stopWireNode,
  types,
  type WireNode,
} from './support/wire-suite.js';

onBothStores({}, async (t, node) => {
  const { client, engine } = node;
  await t.test('push and pull', (t) => pushAndPull(t, client));
  await t.test('digests', (t) => digests(t, client));
  await t.test('conditions', (t) => conditions(t, client));
  await t.test('what is accepted', (t) => accepted(t, client));
  await t.test('what is refused', (t) => refused(t, client));
  await t.test('media types', (t) => mediaTypes(t, client));
  await t.test('size', (t) => size(t, node));
  await t.test('missing references', (t) => missingReferences(t, client));
  await t.test('?tag=', (t) => tagParameters(t, client));
  await t.test('deletion', (t) => deletion(t, client));
  await t.test('manifests.sparse', (t) => sparse(t, engine));
});

async function pushAndPull(t: Test, client: HttpClient): Promise<void> {
  const image = await imageWithBlobs(client, 'images/a', ['one', 'two']);
  // Odd spacing: what is stored is what was sent.
  const bytes = `${JSON.stringify(JSON.parse(image), undefined, 3)}\n\n`;
  const digest = digestOf(bytes);
  for (const reference of ['v1', digest, 'v1', 'V1', '_a.b-c', 'x'.repeat(128)]) {
    const put = await putManifest(client, 'images/a', reference, bytes);
    t.equal(put.status, 201, `PUT ${reference}`);
    t.equal(put.headers['docker-content-digest'], digest, 'with its digest');
    t.notOk('warning' in put.headers, 'without a warning');
    t.notOk('oci-subject' in put.headers, 'without a subject');
    t.equal((await client.send('GET', locationOf(put))).body.toString(), bytes, 'at its Location');
    const url = `/v2/images/a/manifests/${reference}`;
    for (const accept of ['*/*', types.manifest, types.dockerManifest]) {
      const got = await client.send('GET', url, { headers: { Accept: accept } });
      t.equal(got.status, 200, `GET ${reference}, Accept: ${accept}`);
      t.equal(got.body.toString(), bytes, 'the exact bytes');
      t.match(got.headers, { 'content-type': types.manifest, 'docker-content-digest': digest, etag: `"${digest}"` }, 'headers');
      const head = await client.send('HEAD', url, { headers: { Accept: accept } });
      t.strictSame([head.status, head.body.length, head.headers['content-length']], [200, 0, String(bytes.length)], 'HEAD');
      t.match(head.headers, { 'content-type': types.manifest, 'docker-content-digest': digest }, 'headers of HEAD');
    }
  }
  for (const path of [
    'images/a/manifests/v2',
    `images/a/manifests/${digestOf('x')}`,
    `images/b/manifests/${digest}`,
    'nobody/manifests/v1',
  ]) {
    const missing = await client.send('GET', `/v2/${path}`);
    t.strictSame([missing.status, errorCode(missing)], [404, 'MANIFEST_UNKNOWN'], path);
    const head = await client.send('HEAD', `/v2/${path}`);
    t.strictSame([head.status, head.body.length], [404, 0], `HEAD ${path}`);
  }

  const moved = await imageWithBlobs(client, 'images/a', ['three']);
  t.equal((await putManifest(client, 'images/a', 'v1', moved)).status, 201, 'the tag moves');
  t.equal((await client.send('GET', '/v2/images/a/manifests/v1')).body.toString(), moved, 'at once');
  t.equal((await client.send('GET', `/v2/images/a/manifests/${digest}`)).body.toString(), bytes, 'the old one stays under its digest');
  t.equal((await putManifest(client, 'images/a', 'v1', bytes)).status, 201, 'and back');
  t.equal((await client.send('GET', '/v2/images/a/manifests/v1')).body.toString(), bytes, 'at once');

  // Past 4 KiB bytes take another way through the program.
  for (const length of [4000, 4096, 4097, 5000, 300_000]) {
    const large = imageOf(['one'], { annotations: { padding: 'p' } });
    const padded = large.replace('"p"', `"${'p'.repeat(length - large.length + 1)}"`);
    const put = await putManifest(client, 'images/a', 'padded', padded);
    t.equal(put.status, 201, `${padded.length} bytes`);
    for (const reference of ['padded', digestOf(padded), 'padded']) {
      const got = await client.send('GET', `/v2/images/a/manifests/${reference}`);
      t.ok(got.body.equals(Buffer.from(padded)), `${padded.length} bytes by ${reference}`);
      const head = await client.send('HEAD', `/v2/images/a/manifests/${reference}`);
      t.equal(head.headers['content-length'], String(padded.length), 'HEAD');
    }
  }
}

async function digests(t: Test, client: HttpClient): Promise<void> {
  const image = await imageWithBlobs(client, 'digests', ['layer'], { annotations: { for: 'sha512' } });
  const sha512 = digestOf(image, 'sha512');
  const put = await putManifest(client, 'digests', sha512, image);
  t.strictSame([put.status, put.headers['docker-content-digest']], [201, sha512], 'by sha512');
  const got = await client.send('GET', `/v2/digests/manifests/${sha512}`);
  t.strictSame([got.status, got.headers['docker-content-digest'], got.body.toString()], [200, sha512, image], 'read by sha512');
  t.equal((await client.send('GET', `/v2/digests/manifests/${digestOf(image)}`)).status, 404, 'which is not its sha256');

  for (const algorithm of ['sha256', 'sha512'] as const) {
    const wrong = await putManifest(client, 'digests', digestOf(image, algorithm), `${image}  `);
    t.strictSame([wrong.status, errorCode(wrong)], [400, 'DIGEST_INVALID'], `two more spaces, ${algorithm}`);
  }
  for (const digest of ['sha256:baddigeststring', 'sha256:', 'md5:d41d8cd98f00b204e9800998ecf8427e', `sha256:${'A'.repeat(64)}`, ':']) {
    const answer = await putManifest(client, 'digests', digest, image);
    t.strictSame([answer.status, errorCode(answer)], [400, 'DIGEST_INVALID'], `PUT ${digest}`);
    const read = await client.send('GET', `/v2/digests/manifests/${digest}`);
    t.ok(read.status === 400 || read.status === 404, `GET ${digest}`);
  }
  for (const tag of ['.a', '-a', 'a'.repeat(129), 'a%20b', 'a+b', '%C3%A4', 'a%00']) {
    const answer = await putManifest(client, 'digests', tag, image);
    t.strictSame([answer.status, errorCode(answer)], [400, 'TAG_INVALID'], `PUT ${tag}`);
    for (const method of ['GET', 'DELETE']) {
      const asked = await client.send(method, `/v2/digests/manifests/${tag}`);
      t.strictSame([asked.status, errorCode(asked)], [404, 'MANIFEST_UNKNOWN'], `nobody has what is no tag: ${method} ${tag}`);
    }
    t.equal((await client.send('HEAD', `/v2/digests/manifests/${tag}`)).status, 404, `HEAD ${tag}`);
  }
}

async function conditions(t: Test, client: HttpClient): Promise<void> {
  const image = await imageWithBlobs(client, 'conditions', ['layer']);
  const digest = digestOf(image);
  await putManifest(client, 'conditions', 'v1', image);
  for (const reference of ['v1', digest]) {
    for (const method of ['GET', 'HEAD']) {
      const same = await client.send(method, `/v2/conditions/manifests/${reference}`, { headers: { 'If-None-Match': `"${digest}"` } });
      t.strictSame(
        [same.status, same.body.length, same.headers['docker-content-digest']],
        [304, 0, digest],
        `${method} ${reference}: unchanged`,
      );
    }
  }
  const cacheControl = async (reference: string) =>
    (await client.send('GET', `/v2/conditions/manifests/${reference}`)).headers['cache-control'];
  t.match(await cacheControl(digest), /max-age=31536000/, 'what a digest names never changes');
  t.notMatch(await cacheControl('v1'), /max-age=[1-9]/, 'a tag may');
  await putManifest(client, 'conditions', 'v1', await imageWithBlobs(client, 'conditions', ['other']));
  const moved = await client.send('GET', '/v2/conditions/manifests/v1', { headers: { 'If-None-Match': `"${digest}"` } });
  t.equal(moved.status, 200, 'and then it is sent');
}

async function accepted(t: Test, client: HttpClient): Promise<void> {
  const repository = 'accepted';
  await imageWithBlobs(client, repository, ['layer']);
  const layer = describe(types.layer, 'layer');
  const empty = describe(types.empty, '{}');
  const foreign = {
    mediaType: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
    digest: digestOf('foreign'),
    size: 7,
    urls: ['https://x'],
  };
  const table: Record<string, readonly [body: string, contentType: string]> = {
    'no layers': [imageOf([]), types.manifest],
    'the same layer three times': [imageOf(['layer', 'layer', 'layer']), types.manifest],
    'config that is also a layer': [
      JSON.stringify({ schemaVersion: 2, mediaType: types.manifest, config: empty, layers: [{ ...empty }] }),
      types.manifest,
    ],
    'artifact without layers field': [
      JSON.stringify({ schemaVersion: 2, mediaType: types.manifest, artifactType: 'x/y', config: empty }),
      types.manifest,
    ],
    'docker image': [
      JSON.stringify({ schemaVersion: 2, mediaType: types.dockerManifest, config: empty, layers: [layer] }),
      types.dockerManifest,
    ],
    'foreign layer that is nowhere': [imageOf([], { layers: [layer, foreign] }), types.manifest],
    'non-distributable layer that is nowhere': [
      imageOf([], { layers: [{ ...foreign, mediaType: 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip' }] }),
      types.manifest,
    ],
    'a subject that is missing': [imageOf(['layer'], { subject: describe(types.manifest, 'nowhere') }), types.manifest],
    'an empty index': [indexOf([]), types.index],
    'an empty docker list': [JSON.stringify({ schemaVersion: 2, mediaType: types.dockerList, manifests: [] }), types.dockerList],
    'fields that nobody knows': [imageOf(['layer'], { 'org.example.custom': { a: [1, null, true] } }), types.manifest],
    'data of a descriptor': [imageOf([], { layers: [{ ...layer, data: Buffer.from('layer').toString('base64') }] }), types.manifest],
    'annotations of every kind of text': [
      imageOf(['layer'], { annotations: { '': '', 'ä 🚀': '\u0001\u2028"\\', __proto_: 'x' } }),
      types.manifest,
    ],
    'nesting in what is not read': [
      imageOf(['layer'], { x: 'X' }).replace('"X"', `${'['.repeat(200_000)}${']'.repeat(200_000)}`),
      types.manifest,
    ],
    'Content-Type with a parameter': [imageOf(['layer'], { annotations: { a: 'parameter' } }), `${types.manifest}; charset=utf-8`],
    'no Content-Type': [imageOf(['layer'], { annotations: { a: 'none' } }), ''],
    'mediaType only in the header': [imageOf(['layer'], { mediaType: undefined }), types.manifest],
  };
  for (const [what, [body, contentType]] of Object.entries(table)) {
    const headers = contentType === '' ? undefined : contentType;
    const put =
      headers === undefined
        ? await client.send('PUT', `/v2/${repository}/manifests/t`, { body })
        : await putManifest(client, repository, 't', body, headers);
    t.equal(put.status, 201, `${what}: ${put.body.toString()}`);
    const got = await client.send('GET', `/v2/${repository}/manifests/t`);
    t.ok(got.body.equals(Buffer.from(body)), `${what}: as it was sent`);
    t.equal(got.headers['content-type'], (contentType || types.manifest).split(';')[0], `${what}: its type`);
  }
}

async function refused(t: Test, client: HttpClient): Promise<void> {
  const repository = 'refused';
  await imageWithBlobs(client, repository, ['layer']);
  const layer = describe(types.layer, 'layer');
  const empty = describe(types.empty, '{}');
  const table: Record<string, string | Buffer> = {
    nothing: '',
    'no JSON': 'this is no manifest',
    'half of one': imageOf(['layer']).slice(0, -5),
    'two of them': imageOf(['layer']).repeat(2),
    'an array': '[]',
    null: 'null',
    'a number': '17',
    'nesting of arrays': `${'['.repeat(500_000)}${']'.repeat(500_000)}`,
    'nesting of objects': `${'{"a":'.repeat(300_000)}1${'}'.repeat(300_000)}`,
    'no UTF-8': Buffer.concat([Buffer.from(imageOf(['layer'], { a: '' }).slice(0, -3)), Buffer.from([0xff, 0xfe]), Buffer.from('"}')]),
    'UTF-16': Buffer.from(imageOf(['layer']), 'utf16le'),
    'a byte order mark': `\ufeff${imageOf(['layer'])}`,
    'schemaVersion 1': imageOf(['layer'], { schemaVersion: 1 }),
    'schemaVersion "2"': imageOf(['layer'], { schemaVersion: '2' }),
    'no schemaVersion': imageOf(['layer'], { schemaVersion: undefined }),
    'no config': imageOf(['layer'], { config: undefined }),
    'layers no array': imageOf([], { layers: {} }),
    'a layer that is none': imageOf([], { layers: ['x'] }),
    'a layer without digest': imageOf([], { layers: [{ ...layer, digest: undefined }] }),
    'a layer with a bad digest': imageOf([], { layers: [{ ...layer, digest: 'sha256:1' }] }),
    'a negative size': imageOf([], { layers: [{ ...layer, size: -1 }] }),
    'a size that is text': imageOf([], { layers: [{ ...layer, size: '1' }] }),
    'a size past all numbers': imageOf([], { layers: [{ ...layer, size: 1e300 }] }),
    'a subject that is none': imageOf(['layer'], { subject: 'x' }),
    'a subject with a bad digest': imageOf(['layer'], { subject: { ...layer, digest: 'sha256:x' } }),
    'annotations no object': imageOf(['layer'], { annotations: ['x'] }),
    'an annotation that is a number': imageOf(['layer'], { annotations: { a: 1 } }),
    'nested annotations': withRaw('annotations', `${'{"a":'.repeat(100_000)}1${'}'.repeat(100_000)}`),
    'U+0000 in an annotation': imageOf(['layer'], { annotations: { a: 'x\0y' } }),
    'U+0000 in the key of an annotation': imageOf(['layer'], { annotations: { 'x\0y': 'a' } }),
    'U+0000 in artifactType': imageOf(['layer'], { artifactType: 'a/b\0' }),
    "U+0000 in the config's type": imageOf(['layer'], { config: { ...empty, mediaType: 'a/b\0' } }),
    'half a surrogate pair in an annotation': withRaw('annotations', '{"a":"\\ud800"}'),
    'half a surrogate pair in the key of an annotation': withRaw('annotations', '{"\\udc00":"a"}'),
    'half a surrogate pair in artifactType': withRaw('artifactType', '"\\ud800"'),
    'artifactType that is a number': imageOf(['layer'], { artifactType: 1 }),
  };
  for (const [what, body] of Object.entries(table)) {
    const put = await putManifest(client, repository, 't', body);
    t.strictSame([put.status, errorCode(put)], [400, 'MANIFEST_INVALID'], what);
  }
  t.equal((await client.send('GET', `/v2/${repository}/manifests/t`)).status, 404, 'nothing of it was stored');
}

async function mediaTypes(t: Test, client: HttpClient): Promise<void> {
  const repository = 'media/types';
  const image = await imageWithBlobs(client, repository, ['layer']);
  const untyped = imageOf(['layer'], { mediaType: undefined });
  for (const [what, body, contentType] of [
    ['Content-Type of an index', image, types.index],
    ['Content-Type of docker', image, types.dockerManifest],
    ['an index as an image', indexOf([]), types.manifest],
    ['an unknown type', untyped, 'application/x-unknown'],
    ['an unknown mediaType', imageOf(['layer'], { mediaType: 'application/x-unknown' }), types.manifest],
    ['unknown on both sides', imageOf(['layer'], { mediaType: 'application/x-unknown' }), 'application/x-unknown'],
    [
      'docker schema 1',
      JSON.stringify({ schemaVersion: 1, name: 'x', tag: 'y', fsLayers: [] }),
      'application/vnd.docker.distribution.manifest.v1+prettyjws',
    ],
    ['a layer', image, types.layer],
  ] as const) {
    const put = await putManifest(client, repository, 't', body, contentType);
    t.strictSame([put.status, errorCode(put)], [400, 'MANIFEST_INVALID'], what);
  }
  for (const contentType of [types.dockerManifest, types.manifest, types.dockerManifest]) {
    t.equal((await putManifest(client, repository, 'untyped', untyped, contentType)).status, 201, `pushed as ${contentType}`);
    for (const reference of ['untyped', digestOf(untyped)]) {
      const got = await client.send('HEAD', `/v2/${repository}/manifests/${reference}`);
      t.equal(got.headers['content-type'], contentType, `is what ${reference} says`);
    }
  }
}

async function size(t: Test, { client, engine }: WireNode): Promise<void> {
  const repository = 'sizes';
  await imageWithBlobs(client, repository, ['layer']);
  const limit = 4 * 1024 * 1024;
  for (const chunked of [false, true]) {
    const most = padded(limit);
    t.equal((await putManifest(client, repository, 'most', most, types.manifest, { chunked })).status, 201, 'as large as can be');
    t.ok((await client.send('GET', `/v2/${repository}/manifests/most`)).body.equals(Buffer.from(most)), 'read back');
    for (const length of [limit + 1, 8 * limit]) {
      const answer = await putManifest(client, repository, 'more', padded(length), types.manifest, { chunked });
      t.strictSame([answer.status, errorCode(answer)], [413, 'SIZE_INVALID'], `${length} bytes, chunked: ${chunked}`);
    }
    t.equal((await client.send('GET', `/v2/${repository}/manifests/more`)).status, 404, 'not stored');
  }
  const many = imageOf(['layer'], {
    annotations: Object.fromEntries(Array.from({ length: 390 }, (_, index) => [`k${index}`, 'v'.repeat(10_000)])),
  });
  t.equal((await putManifest(client, repository, 'annotations', many)).status, 201, "the suite's large manifest");
  const expecting = client.open('PUT', `/v2/${repository}/manifests/big`, {
    'Content-Type': types.manifest,
    'Content-Length': String(100 * limit),
    Expect: '100-continue',
  });
  // uWS asks for the body before anybody can look at the headers.
  if (engine === 'node') expecting.request.on('continue', () => t.fail('a body that is too large was asked for'));
  expecting.request.flushHeaders();
  t.equal((await expecting.answer).status, 413, 'refused before it is sent');
  expecting.request.destroy();
}

async function missingReferences(t: Test, client: HttpClient): Promise<void> {
  await pushBlob(client, 'missing/elsewhere', 'the layer');
  await pushBlob(client, 'missing', '{}');
  const image = imageOf(['the layer']);
  const put = await putManifest(client, 'missing', 'v1', image);
  t.strictSame([put.status, errorCode(put)], [404, 'MANIFEST_BLOB_UNKNOWN'], 'a layer that only another repository has');
  t.match(put.body.toString(), digestOf('the layer'), 'which is named');
  t.equal((await client.send('GET', '/v2/missing/manifests/v1')).status, 404, 'not stored');
  await pushBlob(client, 'missing', 'the layer');
  t.equal((await putManifest(client, 'missing', 'v1', image)).status, 201, 'once it is there');

  const child = await imageWithBlobs(client, 'missing', ['child']);
  const index = indexOf([describe(types.manifest, child), describe(types.manifest, 'other platform')]);
  const sparse = await putManifest(client, 'missing', 'index', index, types.index);
  t.equal(sparse.status, 201, 'an index may be sparse');
  t.match(sparse.headers.warning, /^299 - "[^"]{1,4000}"$/, 'and says so');
  t.equal((await putManifest(client, 'missing', 'child', child)).status, 201, 'a child arrives');
  const again = await putManifest(client, 'missing', 'index', index, types.index);
  t.match(again.headers.warning, /^299 - "1 /, 'and is not missing any more');

  // What buildkit exports as a cache.
  const cache = indexOf([describe(types.layer, 'cached layer'), describe('application/vnd.buildkit.cacheconfig.v0', 'cache config')]);
  for (const blob of ['cached layer', 'cache config']) await pushBlob(client, 'missing', blob);
  const cached = await putManifest(client, 'missing', 'cache', cache, types.index);
  t.strictSame([cached.status, cached.headers.warning], [201, undefined], 'an index of blobs');
}

async function tagParameters(t: Test, client: HttpClient): Promise<void> {
  const image = await imageWithBlobs(client, 'parameters', ['layer']);
  const digest = digestOf(image);

  for (const reference of [digest, digestOf(image, 'sha512')]) {
    const tags = Array.from({ length: 12 }, (_, index) => `${reference.slice(0, 6)}-${index}`);
    const put = await putManifest(client, 'parameters', `${reference}?${tagQuery([...tags, ...tags.slice(0, 3)])}`, image);
    t.equal(put.status, 201, `${tags.length} tags, three of them twice`);
    t.strictSame(tagsOf(put), [...tags].sort(), 'each is told once');
    t.equal(put.headers['docker-content-digest'], reference, 'under its digest');
    for (const tag of tags) {
      const head = await client.send('HEAD', `/v2/parameters/manifests/${tag}`);
      t.strictSame([head.status, head.headers['docker-content-digest']], [200, reference], tag);
    }
  }
  const hundred = Array.from({ length: 100 }, (_, index) => `h${index}`);
  t.strictSame(tagsOf(await putManifest(client, 'parameters', `${digest}?${tagQuery(hundred)}`, image)), [...hundred].sort(), 'a hundred');
  const tooMany = await putManifest(client, 'parameters', `${digest}?${tagQuery([...hundred.map((tag) => `x${tag}`), 'x'])}`, image);
  t.strictSame([tooMany.status, errorCode(tooMany)], [414, 'TAG_INVALID'], 'no more');
  const bad = await putManifest(client, 'parameters', `${digest}?${tagQuery(['good', 'b d'])}`, image);
  t.strictSame([bad.status, errorCode(bad)], [400, 'TAG_INVALID'], 'one of them is bad');
  for (const tag of ['good', 'xh0'])
    t.equal((await client.send('HEAD', `/v2/parameters/manifests/${tag}`)).status, 404, `${tag}: none of a refused push`);
}

async function deletion(t: Test, client: HttpClient): Promise<void> {
  const repository = 'deleting';
  const image = await imageWithBlobs(client, repository, ['layer one', 'layer two']);
  const digest = digestOf(image);
  const status = async (method: string, path: string) => (await client.send(method, `/v2/${repository}/${path}`)).status;
  for (let round = 0; round < 3; round++) {
    for (const tag of ['a', 'b', 'c']) t.equal((await putManifest(client, repository, tag, image)).status, 201, `pushed as ${tag}`);
    t.equal(await status('DELETE', 'manifests/a'), 202, 'a tag is deleted');
    t.equal(await status('HEAD', 'manifests/a'), 404, 'and gone at once');
    t.equal(await status('DELETE', 'manifests/a'), 404, 'only once');
    t.equal(await status('HEAD', 'manifests/b'), 200, 'another stays');
    t.equal(await status('HEAD', `manifests/${digest}`), 200, 'and so does the manifest');
    t.equal((await putManifest(client, repository, 'a', image)).status, 201, 'pushed again');
    t.equal(await status('DELETE', `manifests/${digest}`), 202, 'the manifest is deleted');
    for (const reference of [digest, 'a', 'b', 'c'])
      t.equal(await status('GET', `manifests/${reference}`), 404, `${reference} is gone at once`);
    t.strictSame(jsonOf(await client.send('GET', `/v2/${repository}/tags/list`)), { name: repository, tags: [] }, 'no tag is left');
    const again = await client.send('DELETE', `/v2/${repository}/manifests/${digest}`);
    t.strictSame([again.status, errorCode(again)], [404, 'MANIFEST_UNKNOWN'], 'only once');
  }
  t.equal((await putManifest(client, repository, 'a', image)).status, 201, 'pushed again after all');
  t.equal((await client.send('GET', `/v2/${repository}/manifests/a`)).body.toString(), image, 'and read');

  const index = indexOf([describe(types.manifest, image)]);
  await putManifest(client, repository, 'index', index, types.index);
  t.equal(await status('DELETE', `blobs/${digestOf('layer one')}`), 202, 'a blob of an image is deleted');
  t.equal(await status('GET', `blobs/${digestOf('layer one')}`), 404, 'it is gone');
  t.equal(await status('GET', `blobs/${digestOf('layer two')}`), 200, 'the others stay');
  t.equal((await client.send('GET', `/v2/${repository}/manifests/a`)).body.toString(), image, 'the image is still pulled');
  t.equal(await status('DELETE', `manifests/${digest}`), 202, 'the child of an index is deleted');
  t.equal((await client.send('GET', `/v2/${repository}/manifests/index`)).body.toString(), index, 'the index is still pulled');
  const refusedPush = await putManifest(client, repository, 'a', image);
  t.equal(errorCode(refusedPush), 'MANIFEST_BLOB_UNKNOWN', 'the image needs its layer');
  await pushBlob(client, repository, 'layer one');
  t.equal((await putManifest(client, repository, 'a', image)).status, 201, 'and is whole again with it');
  t.notOk('warning' in (await putManifest(client, repository, 'index', index, types.index)).headers, 'as is the index');

  for (const path of ['manifests/nothing', `manifests/${digestOf('nothing')}`]) t.equal(await status('DELETE', path), 404, path);
  const nobody = await client.send('DELETE', '/v2/nobody/at/all/manifests/v1');
  t.equal(nobody.status, 404, 'in a repository that is none');
}

async function sparse(t: Test, engine: 'uws' | 'node'): Promise<void> {
  for (const [setting, index, image] of [
    ['reject', 404, 404],
    ['accept', 201, 201],
  ] as const) {
    const node = await startWireNode(engine, { manifests: { sparse: setting, max_size: '64KiB' } });
    const child = describe(types.manifest, 'nowhere');
    const indexPut = await putManifest(node.client, 'sparse', 'index', indexOf([child]), types.index);
    t.equal(indexPut.status, index, `${setting}: an index`);
    if (index === 404) t.equal(errorCode(indexPut), 'MANIFEST_BLOB_UNKNOWN', 'which is told');
    else t.match(indexPut.headers.warning, /^299 - "/, 'with a warning');
    t.equal((await putManifest(node.client, 'sparse', 'image', imageOf(['nowhere']))).status, image, `${setting}: an image`);
    const large = await putManifest(node.client, 'sparse', 'large', imageOf([], { a: 'x'.repeat(64 * 1024) }));
    t.strictSame([large.status, errorCode(large)], [413, 'SIZE_INVALID'], 'manifests.max_size');
    if (setting === 'accept') {
      t.equal((await node.client.send('GET', '/v2/sparse/manifests/image')).status, 200, 'and can be pulled');
      await pushBlob(node.client, 'sparse', 'nowhere');
      await pushBlob(node.client, 'sparse', '{}');
      t.notOk('warning' in (await putManifest(node.client, 'sparse', 'image', imageOf(['nowhere']))).headers, 'until all has arrived');
    }
    await stopWireNode(node);
  }
}

/** With text in the place of a field's value that JSON.stringify would not write. */
function withRaw(field: string, raw: string): string {
  return imageOf(['layer'], { [field]: 'RAW' }).replace('"RAW"', raw);
}

/** An image of exactly so many bytes. */
function padded(length: number): string {
  const image = imageOf(['layer'], { a: '' });
  return `${image.slice(0, -2)}${'x'.repeat(length - image.length)}"}`;
}

function tagQuery(tags: readonly string[]): string {
  return tags.map((tag) => `tag=${encodeURIComponent(tag)}`).join('&');
}

function tagsOf({ rawHeaders }: Answer): string[] {
  return rawHeaders
    .flatMap((name, at) => (at % 2 === 0 && name.toLowerCase() === 'oci-tag' ? (rawHeaders[at + 1] ?? '').split(',') : []))
    .map((tag) => tag.trim())
    .sort();
}
