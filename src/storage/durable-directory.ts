// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { mkdir, open } from 'node:fs/promises';
import { dirname } from 'node:path';

/**
 * Makes directories so that they survive a power cut: after a directory is made, the one that holds it is synced. What was seen to is remembered, so that
 * a write into a known directory costs nothing here.
 */
export class DurableDirectories {
  private readonly known = new Set<string>();
  private readonly root: string;

  constructor(root: string) {
    this.root = root;
  }

  async ensure(directory: string): Promise<void> {
    const unknown = this.unknown(directory);
    for (const path of unknown) await makeDirectory(path);
    this.remember(unknown);
  }

  /** The directory and those above it that have not been seen to, topmost first. */
  unknown(directory: string): string[] {
    const unknown: string[] = [];
    for (let path = directory; path.length > this.root.length && !this.known.has(path); path = dirname(path)) unknown.push(path);
    return unknown.toReversed();
  }

  remember(directories: readonly string[]): void {
    if (this.known.size + directories.length > mostKnown) this.known.clear();
    for (const directory of directories) this.known.add(directory);
  }

  /** For a directory that turned out to be gone. */
  forget(directory: string): void {
    for (let path = directory; path.length > this.root.length; path = dirname(path)) this.known.delete(path);
  }
}

/** About 30 MB of paths; beyond it everything is looked at once more. */
const mostKnown = 100_000;

async function makeDirectory(directory: string): Promise<void> {
  try {
    await mkdir(directory);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  await syncDirectory(dirname(directory));
}

export async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
