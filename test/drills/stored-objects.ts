// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The objects of a store, read behind the registry's back. What is gone rejects with ENOENT. */
import { createReadStream } from 'node:fs';
import { readdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import type { Readable } from 'node:stream';
import { GetObjectCommand, HeadObjectCommand, paginateListObjectsV2, S3ServiceException, type S3Client } from '@aws-sdk/client-s3';

export interface StoredObjects {
  /** Keys below a folder. */
  list(folder: string): Promise<string[]>;
  size(key: string): Promise<number>;
  read(key: string): Promise<Buffer>;
  stream(key: string): AsyncIterable<Buffer>;
}

export function filesOf(directory: string): StoredObjects {
  const file = (key: string): string => path.join(directory, key);
  return {
    async list(folder) {
      const entries = await readdir(file(folder), { recursive: true, withFileTypes: true }).catch((error: unknown) => {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT' && (error as NodeJS.ErrnoException).path === file(folder)) return [];
        throw error;
      });
      return entries.filter((entry) => entry.isFile()).map((entry) => path.relative(directory, path.join(entry.parentPath, entry.name)));
    },
    size: async (key) => (await stat(file(key))).size,
    read: (key) => readFile(file(key)),
    stream: (key) => createReadStream(file(key)),
  };
}

export function objectsOf(client: S3Client, Bucket: string): StoredObjects {
  const sizes = new Map<string, number>();
  const get = async (Key: string): Promise<Readable> =>
    (await client.send(new GetObjectCommand({ Bucket, Key })).catch(asMissingFile)).Body as Readable;
  return {
    async list(folder) {
      const keys: string[] = [];
      for await (const { Contents = [] } of paginateListObjectsV2({ client }, { Bucket, Prefix: `${folder}/` }))
        for (const { Key = '', Size = 0 } of Contents) {
          keys.push(Key);
          sizes.set(Key, Size);
        }
      return keys;
    },
    size: async (Key) =>
      sizes.get(Key) ?? (await client.send(new HeadObjectCommand({ Bucket, Key })).catch(asMissingFile)).ContentLength ?? 0,
    async read(key) {
      const pieces: Buffer[] = [];
      for await (const piece of await get(key)) pieces.push(piece as Buffer);
      return Buffer.concat(pieces);
    },
    async *stream(key) {
      yield* (await get(key)) as AsyncIterable<Buffer>;
    },
  };
}

function asMissingFile(error: unknown): never {
  if (error instanceof S3ServiceException && error.$metadata.httpStatusCode === 404)
    throw Object.assign(new Error(error.message), { code: 'ENOENT' });
  throw error;
}
