// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { copyFile, mkdir, open, readdir, readFile, rename, rm, rmdir, stat, truncate, unlink } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { UndeletedObjects, type BlobStore, type DataWriter, type Page, type PartRule } from './blob-store.js';
import { DurableDirectories, makeDirectories, syncDirectory, syncParents } from './durable-directory.js';
import { openFileSource } from './file-source.js';
import { FileWriter, type FileWorkers, type KeepFree } from './file-writer.js';
import { FreeSpace } from './free-space.js';
import { isDeletion } from './keys.js';
import { checkStore } from './store-check.js';
import { storeLost } from './store-lost.js';
import { byBytes, listAhead, listTreesAhead, walkDirectories } from './walk-directories.js';

export interface FilesystemOptions {
  readonly workers: FileWorkers;
  readonly durablePut?: DurablePut | undefined;
  /** Bytes that are left to others on the same disk: objects are refused with ENOSPC before it is full. */
  readonly keepFreeBytes: number;
}

/** Makes the directories (topmost first), writes a file by way of a temporary one, and syncs all of it, the file first: `native/durable_put.c`. */
export type DurablePut = (directories: readonly string[], temporary: string, path: string, bytes: Uint8Array) => Promise<void>;

/**
 * A directory whose files are the objects. Small objects are written beside the tree, synced, renamed into it, and the directory is synced; a crash leaves at most
 * files in `tmp/`, which a later start removes.
 */
export async function openFilesystemStore(rootDirectory: string, options: FilesystemOptions): Promise<BlobStore> {
  const root = resolve(rootDirectory);
  const temporary = join(root, temporaryPrefix);
  await mkdir(temporary, { recursive: true });
  await removeStale(temporary);
  const store = new FilesystemStore(root, temporary, options);
  await checkStore(store);
  return store;
}

const temporaryPrefix = 'tmp/';

/** Any division will do; a part is worth the hop to a worker. */
const filePartRule: PartRule = {
  numbered: false,
  smallestBytes: 1,
  equal: false,
  most: Number.MAX_SAFE_INTEGER,
  wantedBytes: () => 4 * 1024 * 1024,
};

class FilesystemStore implements BlobStore {
  readonly kind = 'filesystem';
  readonly parts = filePartRule;
  readonly location: string;
  private readonly temporary: string;
  private readonly workers: FileWorkers;
  private readonly durablePut: DurablePut | undefined;
  private readonly keepFree: KeepFree | undefined;
  private readonly freeSpace: FreeSpace | undefined;
  private readonly directories: DurableDirectories;

  constructor(root: string, temporary: string, { workers, durablePut, keepFreeBytes }: FilesystemOptions) {
    this.location = root;
    this.temporary = temporary;
    this.workers = workers;
    this.durablePut = durablePut;
    this.keepFree = keepFreeBytes === 0 ? undefined : { path: root, bytes: keepFreeBytes };
    this.freeSpace = this.keepFree && new FreeSpace(this.keepFree);
    this.directories = new DurableDirectories(root);
  }

  async put(key: string, bytes: Uint8Array): Promise<void> {
    if (!isDeletion(key)) {
      if (bytes.byteLength > 0) await this.freeSpace?.claim(bytes.byteLength);
      return this.putSmall(key, bytes);
    }
    // Deletions go through when the disk is full: without bytes they count as much.
    try {
      await this.putSmall(key, bytes);
    } catch (error) {
      if (bytes.byteLength === 0 || (error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
      await this.putSmall(key, new Uint8Array());
    }
  }

  private async putSmall(key: string, bytes: Uint8Array): Promise<void> {
    const path = this.path(key);
    const written = join(this.temporary, randomUUID());
    const { durablePut } = this;
    await this.retryingDirectory(dirname(path), async (directory) => {
      const unknown = await this.unknownIn(directory);
      await (durablePut ?? putDurably)(unknown, written, path, bytes);
      await this.directories.settle(directory, unknown);
    });
  }

  async get(key: string): Promise<Uint8Array | undefined> {
    return absentAsUndefined(readFile(this.path(key)));
  }

  async list(prefix: string, { after = '', limit = Infinity }: Page = {}): Promise<string[]> {
    const keys: string[] = [];
    if (limit <= 0) return keys;
    for await (const key of walkDirectories(
      listAhead((directory) => this.namesIn(directory)),
      prefix,
      after,
    )) {
      keys.push(key);
      if (keys.length >= limit) break;
    }
    return keys;
  }

  async listDirectories(prefix: string, { after = '', limit = Infinity }: Page = {}): Promise<string[]> {
    const entries = (await absentAsUndefined(readdir(this.path(prefix), { withFileTypes: true }))) ?? [];
    const directories = entries.filter((entry) => entry.isDirectory()).map((entry) => `${prefix}${entry.name}/`);
    return directories
      .filter((name) => byBytes(name, after) > 0 && name !== temporaryPrefix)
      .sort(byBytes)
      .slice(0, limit);
  }

  walk(prefix: string, after: string): AsyncIterable<string> {
    const root = this.location;
    const trees = listTreesAhead((directories, mostNames) => this.workers.listTrees({ root, directories, mostNames }));
    const list = prefix.includes('/') ? trees : listAhead((directory) => this.namesIn(directory));
    return walkDirectories(list, prefix, after);
  }

  async getMany(keys: readonly string[]): Promise<(Uint8Array | undefined)[]> {
    const { bytes, lengths } = await this.workers.readFiles({ root: this.location, keys });
    let end = 0;
    return Array.from(lengths, (length) => (length < 0 ? undefined : bytes.subarray(end, (end += length))));
  }

  async sizes(keys: readonly string[]): Promise<(number | undefined)[]> {
    const sizes = await this.workers.fileSizes({ root: this.location, keys });
    return Array.from(sizes, (size) => (size < 0 ? undefined : size));
  }

  async delete(keys: readonly string[]): Promise<void> {
    const left: string[] = [];
    let cause: unknown;
    for (const key of keys) {
      try {
        await absentAsUndefined(unlink(this.path(key)));
        await this.removeEmptyParents(key);
      } catch (error) {
        left.push(key);
        cause ??= error;
      }
    }
    if (left.length > 0) throw new UndeletedObjects(left, cause);
  }

  async size(key: string): Promise<number | undefined> {
    return (await absentAsUndefined(stat(this.path(key))))?.size;
  }

  open(key: string, start: number, end: number): ReturnType<BlobStore['open']> {
    return openFileSource(this.path(key), start, end);
  }

  presign(): Promise<undefined> {
    return Promise.resolve(undefined);
  }

  begin(): Promise<string> {
    return Promise.resolve('');
  }

  async abort(key: string): Promise<void> {
    await absentAsUndefined(unlink(this.path(key)));
  }

  async write(key: string, _begun: string, stored: number): Promise<DataWriter> {
    const path = this.path(key);
    const file = await this.inDirectory(dirname(path), () => open(path, constants.O_RDWR | (stored === 0 ? constants.O_CREAT : 0), 0o644));
    return new FileWriter(file, path, this.workers, this.keepFree);
  }

  async adopt(key: string, bytes: number, ownKey: string): Promise<void> {
    const own = this.path(ownKey);
    await this.inDirectory(dirname(own), () => copyFile(this.path(key), own, constants.COPYFILE_FICLONE));
    await truncate(own, bytes);
  }

  hash(key: string, algorithm: 'sha256' | 'sha512', state: Uint8Array, end: number, start = 0): Promise<Uint8Array> {
    return this.workers.hashFile(this.path(key), algorithm, state, end, start);
  }

  private path(key: string): string {
    return join(this.location, key);
  }

  private inDirectory<T>(directory: string, write: () => Promise<T>): Promise<T> {
    return this.retryingDirectory(directory, async () => {
      await this.unknownIn(directory);
      await this.directories.ensure(directory);
      return write();
    });
  }

  /** What is at the top is made beside `tmp/` alone, which has been there since the start: a mount that has gone leaves a place that is not to be filled. */
  private async unknownIn(directory: string): Promise<string[]> {
    const unknown = this.directories.unknown(directory);
    if (unknown.some((path) => dirname(path) === this.location)) await stat(this.temporary);
    return unknown;
  }

  /** Another request may remove a directory as empty between our making it and our writing into it. */
  private async retryingDirectory<T>(directory: string, write: (directory: string) => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await write(directory);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
        if ((await absentAsUndefined(stat(this.temporary))) === undefined) throw storeLost(this.location);
        if (attempt >= 5) throw error;
        this.directories.forget(directory);
      }
    }
  }

  private async removeEmptyParents(key: string): Promise<void> {
    const [top = ''] = key.split('/', 1);
    if (top !== 'repositories' && top !== 'cluster') return;
    for (let parent = dirname(key); parent !== top; parent = dirname(parent)) {
      this.directories.forget(this.path(parent));
      try {
        await rmdir(this.path(parent));
      } catch {
        return;
      }
    }
  }

  private async namesIn(directory: string): Promise<string[]> {
    const entries = (await absentAsUndefined(readdir(this.path(directory), { withFileTypes: true }))) ?? [];
    const names = entries.map((entry) => (entry.isDirectory() ? `${entry.name}/` : entry.name));
    return directory === '' ? names.filter((name) => name !== temporaryPrefix) : names;
  }
}

/** Other nodes may share the directory and be writing, so only what no write can still be busy with goes. */
async function removeStale(temporary: string): Promise<void> {
  for (const name of await readdir(temporary)) {
    const path = join(temporary, name);
    const { mtimeMs } = (await absentAsUndefined(stat(path))) ?? { mtimeMs: Infinity };
    if (mtimeMs < Date.now() - staleAfterMs) await rm(path, { force: true });
  }
}

const staleAfterMs = 24 * 60 * 60 * 1000;

/** What `durablePut` does, in JavaScript. An empty file is whole from its first moment. */
async function putDurably(directories: readonly string[], temporary: string, path: string, bytes: Uint8Array): Promise<void> {
  await makeDirectories(directories);
  if (bytes.byteLength === 0) await (await open(path, 'w')).close();
  else {
    try {
      await writeSynced(temporary, bytes);
      await rename(temporary, path);
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
  }
  await syncDirectory(dirname(path));
  await syncParents(directories);
}

async function writeSynced(path: string, bytes: Uint8Array): Promise<void> {
  const file = await open(path, 'wx', 0o644);
  try {
    await file.writeFile(bytes);
    await file.datasync();
  } finally {
    await file.close();
  }
}

async function absentAsUndefined<T>(result: Promise<T>): Promise<T | undefined> {
  try {
    return await result;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw error;
  }
}
