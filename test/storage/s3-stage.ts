// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What an S3 store is opened with, and data objects for it. */
import type { BlobStore, DataWriter, Part } from '../../src/storage/blob-store.js';
import type { S3Settings } from '../../src/storage/s3-client.js';
import { loadHasher } from '../../src/worker/hash.js';
import type { S3Server } from '../support/s3-server.js';
import { arrayBufferOf } from './objects.js';

const MiB = 1024 * 1024;
const hasher = await loadHasher('auto');

export async function settingsFor(server: S3Server, more: Partial<S3Settings> = {}): Promise<S3Settings> {
  return {
    bucket: await server.bucket(),
    region: undefined,
    endpoint: server.endpoint,
    publicEndpoint: undefined,
    prefix: 'some/where/',
    forcePathStyle: true,
    credentials: { accessKeyId: server.accessKeyId, secretAccessKey: server.secretAccessKey, sessionToken: undefined },
    ca: undefined,
    sse: undefined,
    redirect: false,
    partSizeBytes: 8 * MiB,
    equalParts: false,
    deleteObjectsChecksum: 'crc32',
    ...more,
  };
}

export function newPart(number: number, bytes: Buffer) {
  const buffer = arrayBufferOf(bytes, bytes.length);
  return { number, offset: 0, algorithm: 'sha256', state: hasher.initial('sha256'), buffer, length: bytes.length } as const;
}

export async function append(writer: DataWriter, bytes: Buffer): Promise<Part> {
  const stored = await writer.append(newPart(1, bytes)).stored;
  if (stored.failure !== undefined) throw stored.failure;
  return stored.part;
}

export async function writeWhole(store: BlobStore, key: string, bytes: Buffer): Promise<void> {
  const begun = await store.begin(key);
  const writer = await store.write(key, begun, 0);
  await writer.finish(bytes.length, [await append(writer, bytes)]);
  await writer.close();
}
