// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { createWriteStream } from 'node:fs';
import { mkdir, open, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { pack } from 'tar-stream';
import {
  checkMarker,
  indexBytes,
  indexName,
  LayoutError,
  markerBytes,
  markerName,
  parseIndex,
  refName,
  type LayoutDescriptor,
} from './image-layout.js';

/** A layout that is written: a directory, which may hold a layout already, or a new tar archive of one. Nothing counts before `finish`. */
export interface LayoutTarget {
  /** Whether this file is there already. */
  has(name: string, size: number): Promise<boolean>;
  /** `chunks` has exactly `size` bytes, or throws. */
  write(name: string, size: number, chunks: AsyncIterable<Uint8Array>): Promise<void>;
  /** Adds to what can be asked for; a tag that is named takes the place of one that was. */
  finish(manifests: readonly LayoutDescriptor[]): Promise<void>;
  /** After a failure: what was begun is removed, as far as it is not a blob of a directory. */
  abort(): Promise<void>;
}

/** A name that ends in `.tar` is an archive. */
export function openTarget(place: string): Promise<LayoutTarget> {
  return place.endsWith('.tar') ? tarTarget(place) : directoryTarget(place);
}

async function directoryTarget(place: string): Promise<LayoutTarget> {
  const before = await existingIndex(place);
  // Not its parents: some file systems have none to give, and Node would ask for them for ever.
  await mkdir(place).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return;
    throw new LayoutError(`${place} cannot be written: ${(error as Error).message}`);
  });
  return {
    has: async (name, size) => (await sizeOf(path.join(place, name))) === size,
    async write(name, _size, chunks) {
      const to = path.join(place, name);
      await mkdir(path.dirname(to), { recursive: true });
      await writeWhole(to, chunks);
    },
    async finish(manifests) {
      await writeWhole(path.join(place, markerName), once(markerBytes()));
      await writeWhole(path.join(place, indexName), once(indexBytes(merged(before, manifests))));
    },
    abort: () => Promise.resolve(),
  };
}

/** Throws LayoutError for a directory that holds something else. */
async function existingIndex(place: string): Promise<LayoutDescriptor[]> {
  const names = await readdir(place).catch((error: unknown): string[] => {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw new LayoutError(`${place} cannot be written: ${(error as Error).message}`);
  });
  if (!names.includes(markerName)) {
    // What an export that was broken off has left may be gone on with.
    if (names.every((name) => name === 'blobs')) return [];
    throw new LayoutError(`${place} is neither empty nor an OCI image layout`);
  }
  checkMarker(await readFile(path.join(place, markerName)), place);
  return names.includes(indexName) ? parseIndex(await readFile(path.join(place, indexName)), place) : [];
}

function merged(before: readonly LayoutDescriptor[], added: readonly LayoutDescriptor[]): LayoutDescriptor[] {
  const replaced = new Set(added.map(nameOf));
  return [...before.filter((entry) => !replaced.has(nameOf(entry))), ...added];
}

function nameOf({ digest, annotations }: LayoutDescriptor): string {
  return annotations?.[refName] ?? `@${digest}`;
}

/** Under another name first, so that nobody finds half of it. */
async function writeWhole(to: string, chunks: AsyncIterable<Uint8Array>): Promise<void> {
  const partial = `${to}.${process.pid}.partial`;
  try {
    const file = await open(partial, 'w');
    try {
      for await (const chunk of chunks) await file.writeFile(chunk);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(partial, to);
  } catch (error) {
    await rm(partial, { force: true });
    throw error;
  }
}

async function tarTarget(place: string): Promise<LayoutTarget> {
  if ((await sizeOf(place)) !== undefined) throw new LayoutError(`${place} exists already`);
  const partial = `${place}.${process.pid}.partial`;
  await writeFile(partial, '').catch((error: unknown) => {
    throw new LayoutError(`${place} cannot be written: ${(error as Error).message}`);
  });
  const file = createWriteStream(partial, { flush: true });
  const archive = pack();
  const done = finished(file);
  done.catch(() => undefined);
  file.on('error', (error) => archive.destroy(error));
  // Whoever writes an entry is told.
  archive.on('error', () => undefined);
  archive.pipe(file);
  const written = new Set<string>();
  const directories = new Set<string>();
  const addDirectory = (name: string): void => {
    if (directories.has(name) || name === '.') return;
    addDirectory(path.posix.dirname(name));
    directories.add(name);
    archive.entry({ name: `${name}/`, type: 'directory', mode: 0o755, mtime: noTime });
  };
  const add = async (name: string, size: number, chunks: AsyncIterable<Uint8Array>): Promise<void> => {
    addDirectory(path.posix.dirname(name));
    written.add(name);
    await new Promise<void>((resolve, reject) => {
      const entry = archive.entry({ name, size, mode: 0o644, mtime: noTime }, (error) =>
        error instanceof Error ? reject(error) : resolve(),
      );
      entry.on('error', reject);
      const feed = async (): Promise<void> => {
        for await (const chunk of chunks) {
          // The chunk is read again into the same memory, and the archive may hold it until the disk has taken it.
          if (!entry.write(Buffer.from(chunk))) await drained(entry);
        }
        entry.end(undefined);
      };
      feed().catch((error: unknown) => {
        const failure = error instanceof Error ? error : new Error(String(error));
        archive.destroy(failure);
        reject(failure);
      });
    });
  };
  return {
    has: (name) => Promise.resolve(written.has(name)),
    write: add,
    async finish(manifests) {
      for (const [name, bytes] of [
        [markerName, markerBytes()],
        [indexName, indexBytes(manifests)],
      ] as const)
        await add(name, bytes.byteLength, once(bytes));
      archive.finalize();
      await done;
      await rename(partial, place);
    },
    async abort() {
      archive.destroy();
      file.destroy();
      await done.catch(() => undefined);
      await rm(partial, { force: true });
    },
  };
}

/** Rejects when the archive is given up meanwhile. */
function drained(entry: NodeJS.EventEmitter): Promise<void> {
  return new Promise((resolve, reject) => {
    entry.once('drain', resolve);
    entry.once('close', () => reject(new Error('the archive was closed')));
  });
}

/** Two exports of the same are the same, byte for byte. */
const noTime = new Date(0);

async function sizeOf(file: string): Promise<number | undefined> {
  const found = await stat(file).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  });
  return found?.size;
}

function once(bytes: Uint8Array): AsyncIterable<Uint8Array> {
  return Readable.from([bytes]);
}
