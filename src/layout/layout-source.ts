// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import { extract } from 'tar-stream';
import { LayoutError } from './image-layout.js';

/** A layout that is read: a directory, or a tar archive of one. */
export interface LayoutSource {
  /** For messages. */
  readonly place: string;
  /** The whole of a small file, or undefined. Throws LayoutError past `limitBytes`. */
  read(name: string, limitBytes: number): Promise<Uint8Array | undefined>;
  has(name: string): Promise<boolean>;
  /** Streams these files, in whatever order they lie. */
  each(names: ReadonlySet<string>, take: (name: string, size: number, chunks: AsyncIterable<Uint8Array>) => Promise<void>): Promise<void>;
}

/** Throws LayoutError. */
export async function openSource(place: string): Promise<LayoutSource> {
  const found = await stat(place).catch((error: unknown) => {
    throw new LayoutError(`${place} cannot be read: ${(error as Error).message}`);
  });
  return found.isDirectory() ? directorySource(place) : tarSource(place);
}

/** A file within a file, or a whole one. */
interface Place {
  readonly file: string;
  readonly start: number;
  readonly size: number;
}

function sourceOf(place: string, find: (name: string) => Promise<Place | undefined>): LayoutSource {
  return {
    place,
    has: async (name) => (await find(name)) !== undefined,
    async read(name, limitBytes) {
      const found = await find(name);
      if (found === undefined) return undefined;
      if (found.size > limitBytes) throw new LayoutError(`${place}: ${name} has more than ${limitBytes} bytes (manifests.max_size)`);
      const chunks: Uint8Array[] = [];
      for await (const chunk of stream(found)) chunks.push(chunk);
      return Buffer.concat(chunks);
    },
    async each(names, take) {
      const found = await Promise.all([...names].map(async (name) => ({ name, at: await find(name) })));
      const order = found.flatMap(({ name, at }) => (at === undefined ? [] : [{ name, at }])).sort((a, b) => a.at.start - b.at.start);
      for (const { name, at } of order) await take(name, at.size, stream(at));
    },
  };
}

const chunkBytes = 1024 * 1024;

function stream({ file, start, size }: Place): AsyncIterable<Uint8Array> {
  return size === 0 ? Readable.from([]) : createReadStream(file, { start, end: start + size - 1, highWaterMark: chunkBytes });
}

/** Files of the operator's own directory may be links, as some build tools make them. */
function directorySource(place: string): LayoutSource {
  return sourceOf(place, async (name) => {
    const file = path.join(place, name);
    const found = await stat(file).catch((error: unknown) => {
      if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
      throw error;
    });
    if (found !== undefined && !found.isFile()) throw new LayoutError(`${place}: ${name} is not a file`);
    return found && { file, start: 0, size: found.size };
  });
}

/** The entry's last header block, which its bytes follow. */
const headerBytes = 512;

/** Looks through the archive once; files are then read where they lie in it. */
async function tarSource(place: string): Promise<LayoutSource> {
  const files = new Map<string, Place>();
  const file = createReadStream(place, { highWaterMark: chunkBytes });
  const archive = extract();
  file.on('error', (error) => archive.destroy(error));
  file.pipe(archive);
  try {
    for await (const entry of archive) {
      const { name, type, size } = entry.header;
      const plain = name.replace(/^(\.\/)+/, '').replace(/\/$/, '');
      if (plain.startsWith('/') || plain.split('/').includes('..'))
        throw new LayoutError(`${place}: ${JSON.stringify(name)} leads out of the layout`);
      if (type !== 'file' && type !== 'contiguous-file' && type !== 'directory')
        throw new LayoutError(`${place}: ${JSON.stringify(name)} is a ${type}, and only files and directories may be in it`);
      if (type !== 'directory' && files.has(plain)) throw new LayoutError(`${place}: ${plain} is in it twice`);
      if (type !== 'directory') files.set(plain, { file: place, start: entry.offset + headerBytes, size });
      entry.resume();
    }
  } catch (error) {
    if (error instanceof LayoutError) throw error;
    throw new LayoutError(`${place} is no tar archive, or a broken one: ${(error as Error).message}`, { cause: error });
  } finally {
    file.destroy();
    archive.destroy();
  }
  return sourceOf(place, (name) => Promise.resolve(files.get(name)));
}
