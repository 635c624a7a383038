// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The objects of a store as they lie there, for tests that look behind it or damage them. */
import type { Dirent } from 'node:fs';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { DeleteObjectCommand, GetObjectCommand, ListObjectsV2Command, PutObjectCommand } from '@aws-sdk/client-s3';
import type { S3Server } from './s3-server.js';

export interface BareStore {
  /** Keys that match, in order. */
  list(pattern: RegExp): Promise<string[]>;
  read(key: string): Promise<Buffer>;
  write(key: string, bytes: Uint8Array | string): Promise<void>;
  remove(key: string): Promise<void>;
}

export function bareDirectory(root: string): BareStore {
  return {
    async list(pattern) {
      const entries = await readTree(root);
      const files = entries.filter((entry) => entry.isFile());
      return files
        .map((entry) => path.relative(root, path.join(entry.parentPath, entry.name)))
        .filter((key) => pattern.test(key))
        .sort();
    },
    read: (key) => readFile(path.join(root, key)),
    async write(key, bytes) {
      await mkdir(path.dirname(path.join(root, key)), { recursive: true });
      await writeFile(path.join(root, key), bytes);
    },
    remove: (key) => rm(path.join(root, key)),
  };
}

/** A node may remove an empty directory in the middle of a listing. */
async function readTree(root: string): Promise<Dirent[]> {
  for (;;) {
    try {
      return await readdir(root, { recursive: true, withFileTypes: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
}

export function bareBucket({ client }: S3Server, Bucket: string): BareStore {
  return {
    async list(pattern) {
      const keys: string[] = [];
      for (let ContinuationToken: string | undefined; ;) {
        const page = await client.send(
          new ListObjectsV2Command({ Bucket, ...(ContinuationToken === undefined ? {} : { ContinuationToken }) }),
        );
        for (const { Key } of page.Contents ?? []) if (Key !== undefined && pattern.test(Key)) keys.push(Key);
        ContinuationToken = page.NextContinuationToken;
        if (ContinuationToken === undefined) return keys;
      }
    },
    async read(Key) {
      const { Body } = await client.send(new GetObjectCommand({ Bucket, Key }));
      return Buffer.from((await Body?.transformToByteArray()) ?? []);
    },
    async write(Key, bytes) {
      await client.send(new PutObjectCommand({ Bucket, Key, Body: bytes }));
    },
    async remove(Key) {
      await client.send(new DeleteObjectCommand({ Bucket, Key }));
    },
  };
}

/** The same bytes but for one bit in the middle, as a disk returns them one day. */
export async function flipBit(store: BareStore, key: string): Promise<void> {
  const bytes = await store.read(key);
  const at = bytes.length >> 1;
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  await store.write(key, bytes);
}
