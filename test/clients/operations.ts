// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What every client that has it must be able to do, and how it is checked: by the registry's answers, not by the client's word. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { CommandFailed } from '../support/command.js';
import type { Client } from './client.js';
import { digestOf, layerSizes, makeImage, makeIndex, writeLayout, type Blob, type Layout } from './images.js';
import type { Exchange, Proxy } from './proxy.js';
import type { RegistryApi } from './registry-api.js';

/** One client's run through the operations. They share the repository `one`, where `push` puts the image that the others use. */
export interface Drill {
  readonly client: Client;
  readonly proxy: Proxy;
  readonly registry: RegistryApi;
  /** A repository that nobody else uses, as the registry knows it. */
  readonly repository: (name: string) => string;
  /** The name of an image as the client knows it: through the proxy. */
  readonly name: (repository: string, tag?: string) => string;
  /** Runs a command beside the registry, where it is this build; rejects when it fails. */
  readonly command?: (...args: string[]) => Promise<unknown>;
  readonly scratch: string;
  readonly image: Layout;
  readonly index: Layout;
}

export interface Operation {
  readonly title: string;
  readonly has: (client: Client, drill: Drill) => boolean;
  readonly run: (drill: Drill) => Promise<void>;
}

/** In the order of running. */
export const operations: readonly Operation[] = [
  { title: 'push', has: () => true, run: push },
  { title: 'push a stream', has: ({ pushStream }) => pushStream !== undefined, run: pushStream },
  { title: 'mount to a second repository', has: () => true, run: mount },
  { title: 'pull to a clean store', has: () => true, run: pull },
  { title: 'pull, resumed after a cut', has: ({ resumesPulls }) => resumesPulls, run: resumePull },
  { title: 'list tags', has: ({ listTags }) => listTags !== undefined, run: listTags },
  { title: 'list 1,050 tags', has: ({ listTags }) => listTags !== undefined, run: listManyTags },
  { title: 'list repositories', has: ({ listRepositories }) => listRepositories !== undefined, run: listRepositories },
  { title: 'attach and discover a referrer', has: ({ attach, discover }) => attach !== undefined && discover !== undefined, run: refer },
  { title: 'push and pull an index', has: () => true, run: pushIndex },
  { title: 'copy an index', has: ({ copiesIndexes }) => copiesIndexes, run: copyIndex },
  { title: 'push a layout that was exported', has: (client, { command }) => layouts(client, command), run: pushExported },
  { title: 'pull a layout that is imported', has: (client, { command }) => layouts(client, command), run: importPulled },
  { title: 'push, fetch, delete a blob', has: ({ pushBlob }) => pushBlob !== undefined, run: handleBlob },
  { title: 'mount without a source', has: ({ mountsAnonymously }) => mountsAnonymously === true, run: mountAnonymously },
  { title: 'push in chunks', has: ({ pushBlobInChunks }) => pushBlobInChunks !== undefined, run: pushInChunks },
  { title: 'push in chunks, resumed after a cut', has: ({ pushBlobInChunks }) => pushBlobInChunks !== undefined, run: resumePush },
  { title: 'delete a tag', has: ({ deleteTag }) => deleteTag !== undefined, run: deleteTag },
  { title: 'delete a manifest', has: ({ deleteManifest }) => deleteManifest !== undefined, run: deleteManifest },
];

export async function makeLayouts(scratch: string): Promise<Pick<Drill, 'image' | 'index'>> {
  return {
    image: await writeLayout(path.join(scratch, 'image'), 'v1', makeImage()),
    index: await writeLayout(path.join(scratch, 'index'), 'v1', makeIndex()),
  };
}

async function push({ client, proxy, registry, repository, name, image }: Drill): Promise<void> {
  const digest = await client.push(image, name('one', 'v1'));
  assert.equal(digest, await registry.verified(repository('one'), 'v1'), 'the digest that the client reports');
  assert.ok(uploadedBytes(proxy) > largestLayerBytes, `layers were uploaded (${uploadedBytes(proxy)} bytes)`);
}

async function pushStream({ client, proxy, registry, repository, name }: Drill): Promise<void> {
  await client.pushStream?.(makeImage(), name('stream', 'v1'));
  await registry.verified(repository('stream'), 'v1');
  const streamed = uploads(proxy).filter(
    ({ method, requestHeaders }) => method === 'PATCH' && requestHeaders['transfer-encoding'] === 'chunked',
  );
  assert.ok(streamed.length > 0, 'a layer came by PATCH with chunked transfer encoding');
}

async function mount({ client, proxy, registry, repository, name }: Drill): Promise<void> {
  await client.copy(name('one', 'v1'), name('two', 'v1'));
  assert.equal(await registry.verified(repository('two'), 'v1'), await registry.verified(repository('one'), 'v1'));
  const mounted = uploads(proxy).filter(({ path: asked, status }) => asked.includes('mount=') && status === 201);
  assert.ok(mounted.length >= layerSizes.length, `${mounted.length} mounts were answered 201, for ${layerSizes.length} layers`);
  assert.ok(uploadedBytes(proxy) < smallestLayerBytes, `${uploadedBytes(proxy)} bytes were uploaded, so no layer`);
}

async function pull({ client, registry, repository, name }: Drill): Promise<void> {
  assert.equal(await client.pull(name('one', 'v1')), await registry.verified(repository('one'), 'v1'));
}

async function resumePull({ client, proxy, registry, repository, name }: Drill): Promise<void> {
  proxy.cutOnce({ method: 'GET', path: /\/blobs\/sha256:/, side: 'response', afterBytes: largestLayerBytes / 2 });
  assert.equal(await client.pull(name('one', 'v1')), await registry.verified(repository('one'), 'v1'));
  assert.ok(
    proxy.exchanges.some(({ cut }) => cut),
    'a download was cut',
  );
  assert.ok(
    proxy.exchanges.some(({ requestHeaders, status }) => requestHeaders.range !== undefined && status === 206),
    'a Range request was answered 206',
  );
}

async function listTags({ client, name, registry, repository }: Drill): Promise<void> {
  for (const tag of ['v2', 'v10', 'Latest_1.0-x']) await client.copy(name('one', 'v1'), name('one', tag));
  assert.deepEqual((await client.listTags?.(name('one')))?.sort(), ['Latest_1.0-x', 'v1', 'v10', 'v2']);
  assert.deepEqual((await registry.tags(repository('one'))).sort(), ['Latest_1.0-x', 'v1', 'v10', 'v2']);
}

/** More than clients ask for at once (crane: 1,000), so that Link is followed. */
async function listManyTags({ client, name, registry, repository }: Drill): Promise<void> {
  const manifest = await registry.manifest(repository('one'), 'v1');
  assert.ok(manifest !== undefined);
  const tags = Array.from({ length: 1050 }, (_, number) => `t${String(number).padStart(4, '0')}`);
  for (let start = 0; start < tags.length; start += 16) {
    const some = tags.slice(start, start + 16);
    await Promise.all(some.map((tag) => registry.putManifest(repository('one'), tag, manifest.mediaType, manifest.body)));
  }
  const listed = new Set(await client.listTags?.(name('one')));
  assert.deepEqual(
    tags.filter((tag) => !listed.has(tag)),
    [],
    'tags that are missing',
  );
}

async function listRepositories({ client, proxy, repository }: Drill): Promise<void> {
  const listed = (await client.listRepositories?.(proxy.host)) ?? [];
  for (const expected of [repository('one'), repository('two')])
    assert.ok(listed.includes(expected), `${expected} is listed in ${listed.join(' ')}`);
}

async function refer({ client, proxy, name, registry, repository, scratch }: Drill): Promise<void> {
  const file = path.join(scratch, 'sbom.txt');
  await writeFile(file, randomBytes(100).toString('hex'));
  const types = ['application/vnd.example.sbom', 'application/vnd.example.signature'];
  for (const type of types) await client.attach?.(file, name('two', 'v1'), type);
  const subject = await registry.verified(repository('two'), 'v1');
  const acknowledged = proxy.exchanges.filter(
    ({ method, responseHeaders }) => method === 'PUT' && responseHeaders['oci-subject'] === subject,
  );
  assert.ok(acknowledged.length >= types.length, 'OCI-Subject named the subject');
  proxy.forget();
  for (const type of types) {
    const found = (await client.discover?.(name('two', 'v1'), type)) ?? [];
    assert.equal(found.length, 1, `one referrer of type ${type} in ${JSON.stringify(found)}`);
    await registry.verified(repository('two'), found[0] ?? '');
  }
  const asked = proxy.exchanges.filter(({ path: place, status }) => place.includes(`/referrers/${subject}`) && status === 200);
  assert.ok(asked.length >= types.length, 'the referrers API was used');
  const fallback = (await registry.tags(repository('two'))).filter((tag) => tag.startsWith('sha256-'));
  assert.deepEqual(fallback, [], 'tags that stand in for the referrers API');
}

async function pushIndex({ client, name, index, registry, repository }: Drill): Promise<void> {
  const digest = await client.push(index, name('index', 'v1'));
  assert.equal(digest, await registry.verified(repository('index'), 'v1'), 'the digest that the client reports');
  assert.equal(await client.pull(name('index', 'v1')), digest, 'the digest that was pulled');
}

async function copyIndex({ client, proxy, name, registry, repository }: Drill): Promise<void> {
  await client.copy(name('index', 'v1'), name('index-copy', 'v1'));
  assert.equal(await registry.verified(repository('index-copy'), 'v1'), await registry.verified(repository('index'), 'v1'));
  assert.ok(uploadedBytes(proxy) < smallestLayerBytes, `${uploadedBytes(proxy)} bytes were uploaded, so no layer`);
}

function layouts({ pullLayout }: Client, command: Drill['command']): boolean {
  return pullLayout !== undefined && command !== undefined;
}

async function pushExported({ client, command, name, registry, repository, scratch }: Drill): Promise<void> {
  const directory = path.join(scratch, 'exported');
  await command?.('export', `${repository('index')}:v1`, directory);
  const digest = await registry.verified(repository('index'), 'v1');
  await client.push({ directory, tag: 'v1', digest, images: [] }, name('exported', 'v1'));
  assert.equal(await registry.verified(repository('exported'), 'v1'), digest);
}

async function importPulled({ client, command, name, registry, repository, scratch }: Drill): Promise<void> {
  const directory = path.join(scratch, 'pulled');
  await mkdir(directory);
  await client.pullLayout?.(name('index', 'v1'), directory);
  await command?.('import', directory, `${repository('imported')}:v1`);
  assert.equal(await registry.verified(repository('imported'), 'v1'), await registry.verified(repository('index'), 'v1'));
}

async function handleBlob({ client, name, proxy, scratch }: Drill): Promise<void> {
  const blob = await textBlob(scratch, 200_000);
  await client.pushBlob?.(blob.file, name('blobs'), blob.digest);
  assert.equal(digestOf((await client.fetchBlob?.(name('blobs'), blob.digest)) ?? ''), blob.digest);
  await client.deleteBlob?.(name('blobs'), blob.digest);
  await mustBeMissing(proxy, async () => client.fetchBlob?.(name('blobs'), blob.digest));
}

async function mountAnonymously({ client, name, proxy, image, registry, repository }: Drill): Promise<void> {
  await client.push(image, name('anonymous', 'v1'));
  await registry.verified(repository('anonymous'), 'v1');
  const mounts = uploads(proxy).filter(({ path: asked, status }) => /[?&]mount=/.test(asked) && !/[?&]from=/.test(asked) && status === 201);
  assert.ok(mounts.length >= layerSizes.length, `${mounts.length} POST ?mount= without from were answered 201`);
  assert.ok(uploadedBytes(proxy) < smallestLayerBytes, `${uploadedBytes(proxy)} bytes were uploaded, so no layer`);
}

async function pushInChunks({ client, name, proxy, scratch }: Drill): Promise<void> {
  const blob = await textBlob(scratch, chunkedBlobBytes);
  await client.pushBlobInChunks?.(blob.file, name('blobs'), blob.digest);
  assert.ok(chunks(proxy).length >= 3, `${chunks(proxy).length} chunks came with Content-Range`);
  assert.equal(digestOf((await client.fetchBlob?.(name('blobs'), blob.digest)) ?? ''), blob.digest);
}

async function resumePush({ client, name, proxy, scratch }: Drill): Promise<void> {
  const blob = await textBlob(scratch, chunkedBlobBytes);
  proxy.cutOnce({ method: 'PATCH', path: /./, side: 'request', afterBytes: cutAfterBytes });
  await client.pushBlobInChunks?.(blob.file, name('blobs'), blob.digest);
  assert.ok(
    proxy.exchanges.some(({ cut }) => cut),
    'an upload was cut',
  );
  const begins = chunks(proxy).map(({ requestHeaders }) => Number(requestHeaders['content-range']?.split('-')[0]));
  assert.ok(
    begins.some((offset) => offset >= cutAfterBytes && offset < 1024 * 1024),
    `a chunk went on where the cut one had ended; they began at ${begins.join(', ')}`,
  );
  assert.equal(digestOf((await client.fetchBlob?.(name('blobs'), blob.digest)) ?? ''), blob.digest);
}

async function deleteTag({ client, name, proxy, registry, repository }: Drill): Promise<void> {
  for (const tag of ['goes', 'stays']) await client.copy(name('one', 'v1'), name('tags', tag));
  await client.deleteTag?.(name('tags', 'goes'));
  await mustBeMissing(proxy, async () => client.pull(name('tags', 'goes')));
  assert.deepEqual(await registry.tags(repository('tags')), ['stays']);
  assert.equal(await client.pull(name('tags', 'stays')), await registry.verified(repository('tags'), 'stays'));
}

async function deleteManifest({ client, name, proxy, registry, repository }: Drill): Promise<void> {
  for (const tag of ['a', 'b']) await client.copy(name('one', 'v1'), name('gone', tag));
  const digest = await registry.verified(repository('gone'), 'a');
  await client.deleteManifest?.(name('gone', 'a'), digest);
  for (const tag of ['a', 'b']) await mustBeMissing(proxy, async () => client.pull(name('gone', tag)));
  assert.equal(await registry.manifest(repository('gone'), digest), undefined);
}

const largestLayerBytes = Math.max(...layerSizes);
const smallestLayerBytes = Math.min(...layerSizes);
const chunkedBlobBytes = 3_500_000;
const cutAfterBytes = 300_000;

async function mustBeMissing(proxy: Proxy, act: () => Promise<unknown>): Promise<void> {
  proxy.forget();
  await assert.rejects(act, CommandFailed, 'the client fails');
  assert.ok(
    proxy.exchanges.some(({ status }) => status === 404),
    'the registry answered 404',
  );
}

function uploads({ exchanges }: Proxy): Exchange[] {
  return exchanges.filter(({ method, path: asked }) => ['POST', 'PATCH', 'PUT'].includes(method) && !asked.includes('/manifests/'));
}

function uploadedBytes(proxy: Proxy): number {
  return uploads(proxy).reduce((sum, { requestBytes }) => sum + requestBytes, 0);
}

function chunks(proxy: Proxy): Exchange[] {
  return uploads(proxy).filter(({ requestHeaders, status }) => requestHeaders['content-range'] !== undefined && status < 300);
}

async function textBlob(scratch: string, bytes: number): Promise<Pick<Blob, 'digest'> & { file: string }> {
  const content = randomBytes(bytes).toString('base64').slice(0, bytes);
  await mkdir(scratch, { recursive: true });
  const file = path.join(scratch, 'blob.txt');
  await writeFile(file, content);
  return { file, digest: digestOf(content) };
}
