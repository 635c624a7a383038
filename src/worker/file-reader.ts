// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Small files by the hundreds, for walks over all there is: read in a worker one after another they cost a third of what they do by way of libuv's threads. */
import { closeSync, openSync, readdirSync, readSync, statSync } from 'node:fs';

/** Keys are paths below `root`; those of directories end in a slash. */
export interface ListTreesTask {
  readonly root: string;
  readonly directories: readonly string[];
  /** No further directory is listed when there are so many names already. */
  readonly mostNames: number;
}

export interface FilesTask {
  readonly root: string;
  readonly keys: readonly string[];
}

export interface FilesRead {
  /** One file after another. */
  readonly bytes: Uint8Array;
  /** How many of them each file has; -1 for one that is absent. */
  readonly lengths: Float64Array;
}

/**
 * Lists directories with what is below them, depth first, names in the order of their bytes: each directory's key and the names in it, with `\0` between them, and
 * `\0\0` between directories. One that is absent is empty.
 */
export function listTrees({ root, directories, mostNames }: ListTreesTask): string {
  const lists: string[] = [];
  let room = mostNames;
  const list = (directory: string): void => {
    if (room <= 0) return;
    const names = namesIn(`${root}/${directory}`);
    room -= names.length + 1;
    lists.push([directory, ...names].join('\0'));
    for (const name of names) if (name.endsWith('/')) list(directory + name);
  };
  for (const directory of directories) list(directory);
  return lists.join('\0\0');
}

function namesIn(path: string): string[] {
  const entries = absentAsUndefined(() => readdirSync(path, { withFileTypes: true })) ?? [];
  return entries.map((entry) => (entry.isDirectory() ? `${entry.name}/` : entry.name)).sort();
}

export function readFiles({ root, keys }: FilesTask): FilesRead {
  const lengths = new Float64Array(keys.length);
  let filled = 0;
  for (const [index, key] of keys.entries()) {
    const file = absentAsUndefined(() => openSync(`${root}/${key}`, 'r'));
    const begin = filled;
    if (file !== undefined) {
      try {
        for (let count = 1; count > 0; filled += count) {
          if (filled === scratch.byteLength) scratch = Buffer.concat([scratch], 2 * scratch.byteLength);
          count = readSync(file, scratch, filled, scratch.byteLength - filled, null);
        }
      } finally {
        closeSync(file);
      }
    }
    lengths[index] = file === undefined ? -1 : filled - begin;
  }
  const bytes = new Uint8Array(scratch.subarray(0, filled));
  if (scratch.byteLength > scratchBytes) scratch = Buffer.allocUnsafeSlow(scratchBytes);
  return { bytes, lengths };
}

const scratchBytes = 1024 * 1024;
let scratch = Buffer.allocUnsafeSlow(scratchBytes);

/** -1 for one that is absent. */
export function fileSizes({ root, keys }: FilesTask): Float64Array {
  return Float64Array.from(keys, (key) => absentAsUndefined(() => statSync(`${root}/${key}`, { throwIfNoEntry: false }))?.size ?? -1);
}

function absentAsUndefined<T>(act: () => T): T | undefined {
  try {
    return act();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw error;
  }
}
