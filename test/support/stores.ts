// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Where the nodes of a test keep their blobs: a directory, or a bucket of this process's S3 server. */
import { quickDirectory } from './registry.js';
import { s3Server, s3Settings, type S3Server } from './s3-server.js';

export const stores = ['filesystem', 's3', 's3 with redirects'] as const;
export type StoreKind = (typeof stores)[number];

/** An empty store, for any number of nodes. */
export interface TestStore {
  readonly kind: StoreKind;
  /** The data directory that they are started with. */
  readonly root: string;
  /** Their `storage` settings. */
  readonly storage: object;
  /** On S3. */
  readonly bucket?: { readonly name: string; readonly server: S3Server };
}

let told = false;

/** False, or why there is no such store, which is said loudly, once a file. */
export async function missingStore(kind: StoreKind): Promise<string | false> {
  const server = kind === 'filesystem' ? undefined : await s3Server();
  if (server === undefined || !('missing' in server)) return false;
  const reason = `NOT TESTED ON S3: ${server.missing}`;
  if (!told) console.error(reason);
  told = true;
  return reason;
}

export async function newStore(kind: StoreKind): Promise<TestStore> {
  const root = await quickDirectory('store-');
  if (kind === 'filesystem') return { kind, root, storage: {} };
  const server = await s3Server();
  if ('missing' in server) throw new Error(server.missing);
  const s3 = await s3Settings(server, { redirect: kind === 's3 with redirects' });
  return { kind, root, storage: { s3 }, bucket: { name: s3.bucket, server } };
}
