// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Walks a tree of directories in the order in which S3 lists keys: by the bytes of whole keys, so a directory counts with its slash. */

/** The names in the directory `keys[index]`, those of directories with a slash, in any order; the directories behind it will be asked for next. */
export type ListDirectory = (keys: readonly string[], index: number) => Promise<readonly string[]>;

/** Keys of files that begin with `prefix`, after `after`. */
export async function* walkDirectories(list: ListDirectory, prefix: string, after: string): AsyncGenerator<string> {
  const top = prefix.slice(0, prefix.lastIndexOf('/') + 1);
  const levels: { readonly keys: readonly string[]; next: number }[] = [];
  const enter = async (keys: readonly string[], index: number): Promise<void> => {
    const directory = keys[index] ?? '';
    const names = await list(keys, index);
    levels.push({ keys: wanted(directory, names, prefix, after), next: 0 });
  };
  await enter([top], 0);
  for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
    const index = level.next++;
    const key = level.keys[index];
    if (key === undefined) levels.pop();
    else if (key.endsWith('/')) await enter(level.keys, index);
    else yield key;
  }
}

function wanted(directory: string, names: readonly string[], prefix: string, after: string): string[] {
  const keys: string[] = [];
  for (const name of names) {
    const key = directory + name;
    const comesAfter = byBytes(key, after) > 0;
    if (!key.endsWith('/')) {
      if (comesAfter && key.startsWith(prefix)) keys.push(key);
    } else if ((comesAfter || after.startsWith(key)) && (key.startsWith(prefix) || prefix.startsWith(key))) keys.push(key);
  }
  return keys.sort(byBytes);
}

/** Keys are ASCII, where the order of UTF-16 units is the order of bytes. */
export function byBytes(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Directories one by one, some of them ahead: for a walk that may end soon. */
export function listAhead(read: (directory: string) => Promise<readonly string[]>): ListDirectory {
  const ahead = new Map<string, Promise<readonly string[]>>();
  return (keys, index) => {
    for (let next = index; next < keys.length && next < index + directoriesAhead; next++) {
      const directory = keys[next] ?? '';
      if ((next > index && !directory.endsWith('/')) || ahead.has(directory)) continue;
      const reading = read(directory);
      reading.catch(() => undefined);
      ahead.set(directory, reading);
    }
    const directory = keys[index] ?? '';
    const reading = ahead.get(directory) ?? read(directory);
    ahead.delete(directory);
    return reading;
  };
}

/** As many threads as libuv has, and some that wait. */
const directoriesAhead = 8;

/** Whole trees at once: for a walk to the end. `listTrees` is the workers' (worker/file-reader.ts). */
export function listTreesAhead(listTrees: (directories: readonly string[], mostNames: number) => Promise<string>): ListDirectory {
  const ahead = new Map<string, readonly string[]>();
  return async (keys, index) => {
    const directory = keys[index] ?? '';
    if (!ahead.has(directory)) {
      // What the walk did not ask for it has passed.
      ahead.clear();
      const directories = keys.slice(index, index + mostTrees).filter((key, at) => at === 0 || key.endsWith('/'));
      for (const list of (await listTrees(directories, mostNames)).split('\0\0')) {
        const [name = '', ...names] = list.split('\0');
        ahead.set(name, names);
      }
    }
    const names = ahead.get(directory) ?? [];
    ahead.delete(directory);
    return names;
  };
}

const mostTrees = 256;
/** Some 10 ms of a worker, and half a megabyte of names. */
const mostNames = 2_000;
