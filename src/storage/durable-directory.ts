// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { mkdir, open, stat } from 'node:fs/promises';
import { dirname } from 'node:path';

/**
 * Makes directories so that they survive a power cut: after a directory is made, the one that holds it is synced. What was seen to is remembered, so that
 * a write into a known directory costs no more than a look at it.
 */
export class DurableDirectories {
  /** Which directory it was that was seen to: another node may remove an empty one, and make it anew. */
  private readonly known = new Map<string, string>();
  private readonly root: string;

  constructor(root: string) {
    this.root = root;
  }

  /** For directories that nobody removes. */
  async ensure(directory: string): Promise<void> {
    const unknown = this.unknown(directory);
    await makeDirectories(unknown);
    await syncParents(unknown);
    await this.remember(unknown);
  }

  /** The directory and those above it that have not been seen to, topmost first. */
  unknown(directory: string): string[] {
    return this.chain(directory, (path) => !this.known.has(path));
  }

  /**
   * After a file was written into `directory` and what was unknown above it was made and synced. While the file is there its directories stay what they are, so one look
   * at the lowest that was known tells of all above it: if it was made anew since, by a node that may not have come to sync it, all of them are synced.
   */
  async settle(directory: string, unknown: readonly string[]): Promise<void> {
    const lowest = unknown[0] === undefined ? directory : dirname(unknown[0]);
    const isRoot = lowest.length <= this.root.length;
    const anew = !isRoot && (await identityOf(lowest)) !== this.known.get(lowest) ? this.chain(lowest, () => true) : [];
    await syncParents(anew);
    await this.remember([...anew, ...unknown]);
  }

  /** For a directory that turned out to be gone. */
  forget(directory: string): void {
    for (const path of this.chain(directory, () => true)) this.known.delete(path);
  }

  private chain(directory: string, belongs: (path: string) => boolean): string[] {
    const paths: string[] = [];
    for (let path = directory; path.length > this.root.length && belongs(path); path = dirname(path)) paths.push(path);
    return paths.toReversed();
  }

  private async remember(directories: readonly string[]): Promise<void> {
    if (this.known.size + directories.length > mostKnown) this.known.clear();
    for (const directory of directories) {
      const identity = await identityOf(directory);
      if (identity !== undefined) this.known.set(directory, identity);
    }
  }
}

/** About 30 MB of paths; beyond it everything is looked at once more. */
const mostKnown = 100_000;

/** Undefined where a filesystem does not tell when a directory was made: the number alone is soon given to another. */
async function identityOf(directory: string): Promise<string | undefined> {
  const { ino, birthtimeNs } = await stat(directory, { bigint: true });
  return birthtimeNs === 0n ? undefined : `${ino} ${birthtimeNs}`;
}

/** Topmost first. */
export async function makeDirectories(directories: readonly string[]): Promise<void> {
  for (const directory of directories) {
    try {
      await mkdir(directory);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
  }
}

/** Each directory's entry in the one above it. */
export async function syncParents(directories: readonly string[]): Promise<void> {
  for (const directory of directories) await syncDirectory(dirname(directory));
}

export async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
