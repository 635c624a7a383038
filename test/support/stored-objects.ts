// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Objects of a registry's store, behind its back: as an operator may lose or damage them. */
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { DeleteObjectCommand, GetObjectCommand, paginateListObjectsV2, PutObjectCommand } from '@aws-sdk/client-s3';
import type { S3Server } from './s3-server.js';

export interface StoredObjects {
  /** Keys that match, sorted. */
  keys(pattern: RegExp): Promise<string[]>;
  read(key: string): Promise<Buffer>;
  write(key: string, bytes: string | Uint8Array): Promise<void>;
  remove(key: string): Promise<void>;
}

export function filesOf(directory: string): StoredObjects {
  const at = (key: string): string => path.join(directory, key);
  return {
    async keys(pattern) {
      const entries = await readdir(directory, { recursive: true, withFileTypes: true });
      return entries
        .filter((entry) => entry.isFile())
        .map((entry) => path.relative(directory, path.join(entry.parentPath, entry.name)))
        .filter((key) => pattern.test(key))
        .sort();
    },
    read: (key) => readFile(at(key)),
    async write(key, bytes) {
      await mkdir(path.dirname(at(key)), { recursive: true });
      await writeFile(at(key), bytes);
    },
    remove: (key) => rm(at(key)),
  };
}

/** `prefix` with its slash, or empty. */
export function objectsOf({ client }: S3Server, Bucket: string, prefix: string): StoredObjects {
  const at = (key: string): { Bucket: string; Key: string } => ({ Bucket, Key: prefix + key });
  return {
    async keys(pattern) {
      const keys: string[] = [];
      for await (const { Contents = [] } of paginateListObjectsV2({ client }, { Bucket, Prefix: prefix }))
        for (const { Key = '' } of Contents) keys.push(Key.slice(prefix.length));
      return keys.filter((key) => pattern.test(key)).sort();
    },
    async read(key) {
      const { Body } = await client.send(new GetObjectCommand(at(key)));
      return Buffer.from((await Body?.transformToByteArray()) ?? []);
    },
    async write(key, bytes) {
      await client.send(new PutObjectCommand({ ...at(key), Body: bytes }));
    },
    async remove(key) {
      await client.send(new DeleteObjectCommand(at(key)));
    },
  };
}

/** When tags were pushed, moved and deleted, as the bodies of their entries tell it; by repository, tag and sequence (`tagTimes` of database-state.ts). */
export async function storedTagTimes(objects: StoredObjects): Promise<Record<string, string>> {
  const times: Record<string, string> = {};
  for (const key of await objects.keys(/\/_tags\//)) {
    const { at } = JSON.parse((await objects.read(key)).toString()) as { at: string };
    const [, repository, tag, sequence = ''] = /^repositories\/(.+)\/_tags\/(.+)\/(\d+)/.exec(key) ?? [];
    times[`${repository}:${tag} ${9223372036854775807n - BigInt(sequence)}`] = at;
  }
  return times;
}
