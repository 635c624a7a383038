// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What the wire tests share: a node of each engine, and the few operations that every table of exchanges begins with. */
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ListMultipartUploadsCommand, paginateListObjectsV2 } from '@aws-sdk/client-s3';
import t, { type Test } from 'tap';
import { digestOf } from './bytes.js';
import { HttpClient, type Answer, type Exchange } from './http-client.js';
import { freshDatabase } from './postgres.js';
import { startRegistry, type RegistryOptions, type RunningRegistry } from './registry.js';
import { stopS3Servers } from './s3-server.js';
import { missingStore, newStore, type StoreKind, type TestStore } from './stores.js';

export { bytesOf, digestOf } from './bytes.js';

export const engines = ['uws', 'node'] as const;
export type Engine = (typeof engines)[number];

export interface WireNode extends RunningRegistry {
  readonly engine: Engine;
  readonly client: HttpClient;
  /** Undefined when it was started with one of the test's own. */
  readonly store: TestStore | undefined;
}

export type Settings = Record<string, unknown> & { readonly server?: object };

type Suite = (t: Test, node: WireNode) => Promise<void> | void;

/** Runs a suite against a new node of each engine, each with a database of its own. */
export function onBothEngines(settings: Settings, suite: Suite): void {
  // Much of a suite is waiting.
  t.jobs = 2;
  for (const engine of engines) void onNode(engine, engine, 'filesystem', settings, suite);
}

/** The same, and against a node whose blobs are in S3: for what the store has a part in. */
export function onBothStores(settings: Settings, suite: Suite): void {
  onBothEngines(settings, suite);
  void onNode('uws on S3', 'uws', 's3', settings, suite);
  t.teardown(stopS3Servers);
}

async function onNode(title: string, engine: Engine, store: StoreKind, settings: Settings, suite: Suite): Promise<void> {
  await t.test(title, { buffered: true }, async (t) => {
    const missing = await missingStore(store);
    if (missing !== false) return t.plan(0, missing);
    const node = await startWireNode(engine, settings, { store });
    t.teardown(() => stopWireNode(node));
    await suite(t, node);
  });
}

export interface WireOptions extends RegistryOptions {
  /** A new one; without it a directory, unless `root` is given. */
  readonly store?: StoreKind;
}

export async function startWireNode(engine: Engine, settings: Settings = {}, options: WireOptions = {}): Promise<WireNode> {
  const { store: kind = 'filesystem', ...more } = options;
  const { url } = await freshDatabase();
  const store = more.root === undefined ? await newStore(kind) : undefined;
  const config = {
    workers: { threads: 2 },
    log: { level: 'warn' },
    database: { url },
    storage: store?.storage ?? {},
    ...settings,
    server: { ...settings.server, engine },
  };
  const registry = await startRegistry({ root: store?.root ?? '', ...more, config });
  return { ...registry, engine, store, client: new HttpClient(registry.port) };
}

/** A bug inside the node is a failure, also where a client saw nothing of it. */
export async function stopWireNode(node: WireNode): Promise<void> {
  node.client.close();
  const code = await node.stop();
  if (code !== 0) throw new Error(`the node exited with ${code}\n${node.log()}`);
}

/** Pushes a blob with one request and returns its digest. */
export async function pushBlob(client: HttpClient, repository: string, bytes: Uint8Array | string): Promise<string> {
  const digest = digestOf(bytes);
  const answer = await client.send('POST', `/v2/${repository}/blobs/uploads/?digest=${digest}`, { body: bytes });
  if (answer.status !== 201) throw new Error(`pushing a blob: ${answer.status} ${answer.body.toString()}`);
  return digest;
}

/** Opens a session and returns its path. */
export async function openSession(client: HttpClient, repository: string, query = ''): Promise<string> {
  const answer = await client.send('POST', `/v2/${repository}/blobs/uploads/${query}`, { body: '' });
  if (answer.status !== 202) throw new Error(`opening an upload: ${answer.status} ${answer.body.toString()}`);
  return locationOf(answer);
}

export function locationOf({ headers }: Answer): string {
  const { location } = headers;
  if (location === undefined) throw new Error('no Location');
  return location;
}

/** Adds `digest` to a path that may have a query already. */
export function withDigest(location: string, digest: string): string {
  return `${location}${location.includes('?') ? '&' : '?'}digest=${encodeURIComponent(digest)}`;
}

export const types = {
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  index: 'application/vnd.oci.image.index.v1+json',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerList: 'application/vnd.docker.distribution.manifest.list.v2+json',
  config: 'application/vnd.oci.image.config.v1+json',
  layer: 'application/vnd.oci.image.layer.v1.tar+gzip',
  foreignLayer: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
  empty: 'application/vnd.oci.empty.v1+json',
} as const;

export interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

export function describe(mediaType: string, bytes: Uint8Array | string): Descriptor {
  return { mediaType, digest: digestOf(bytes), size: Buffer.byteLength(bytes) };
}

/** An image of a config and layers, whose blobs are pushed; returned as text, since it is the text that has a digest. */
export async function imageWithBlobs(
  client: HttpClient,
  repository: string,
  layers: readonly (Uint8Array | string)[],
  more: object = {},
): Promise<string> {
  const config = '{}';
  for (const blob of [config, ...layers]) await pushBlob(client, repository, blob);
  return imageOf(layers, more);
}

export function imageOf(layers: readonly (Uint8Array | string)[], more: object = {}): string {
  return JSON.stringify({
    schemaVersion: 2,
    mediaType: types.manifest,
    config: describe(types.empty, '{}'),
    layers: layers.map((layer) => describe(types.layer, layer)),
    ...more,
  });
}

export function indexOf(manifests: readonly Descriptor[], more: object = {}): string {
  return JSON.stringify({ schemaVersion: 2, mediaType: types.index, manifests, ...more });
}

export function putManifest(
  client: HttpClient,
  repository: string,
  reference: string,
  body: string | Uint8Array,
  contentType: string = types.manifest,
  more: Exchange = {},
): Promise<Answer> {
  return client.send('PUT', `/v2/${repository}/manifests/${reference}`, {
    ...more,
    headers: { 'Content-Type': contentType, ...more.headers },
    body,
  });
}

/** Waits for a state; `limitMs` is generous, since passing is what usually happens. */
export async function until<T>(
  what: string,
  look: () => Promise<T | undefined | false> | T | undefined | false,
  limitMs = 30_000,
): Promise<T> {
  const deadline = Date.now() + limitMs;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    if (Date.now() > deadline) throw new Error(`not within ${limitMs} ms: ${what}`);
    await sleep(20);
  }
}

/** Sizes of the data objects in a node's store, by key; in a bucket also tails, and what was begun and not completed. */
export async function dataObjects({
  root,
  store,
}: {
  readonly root: string;
  readonly store?: TestStore | undefined;
}): Promise<Map<string, number>> {
  if (store?.bucket !== undefined) return objectsIn(store.bucket);
  const data = path.join(root, 'store/data');
  const found = new Map<string, number>();
  const entries = await readdir(data, { recursive: true, withFileTypes: true }).catch(() => []);
  for (const entry of entries) {
    if (!entry.isFile()) continue;
    const file = path.join(entry.parentPath, entry.name);
    const size = await stat(file).then(
      (stats) => stats.size,
      () => undefined,
    );
    if (size !== undefined) found.set(path.relative(data, file), size);
  }
  return found;
}

async function objectsIn({ name: Bucket, server: { client } }: NonNullable<TestStore['bucket']>): Promise<Map<string, number>> {
  const found = new Map<string, number>();
  for (const Prefix of ['data/', 'uploads/']) {
    for await (const { Contents = [] } of paginateListObjectsV2({ client }, { Bucket, Prefix })) {
      for (const { Key = '', Size = 0 } of Contents) found.set(Key, Size);
    }
  }
  const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand({ Bucket }));
  for (const { Key = '', UploadId = '' } of Uploads) found.set(`${Key} ${UploadId}`, 0);
  return found;
}
