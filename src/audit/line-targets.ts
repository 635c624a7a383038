// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Where lines of the audit log go. */
import { constants, write } from 'node:fs';
import { open, stat, type FileHandle } from 'node:fs/promises';
import { promisify } from 'node:util';
import type { LineTarget } from './line-writer.js';

/** For the group that reads logs, and nobody else. */
const mode = 0o640;
/** A pipe that nobody reads is an error, and not to be waited for. */
const flags = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NONBLOCK;

/** Appends to a file; when another has its name (logrotate), or none, a new one is opened. Rejects where it cannot be opened. */
export async function openAuditFile(path: string): Promise<LineTarget> {
  const openNew = async () => {
    const handle = await open(path, flags, mode);
    const { ino, dev } = await handle.stat();
    return { handle, ino, dev };
  };
  let current: { readonly handle: FileHandle; readonly ino: number; readonly dev: number } = await openNew();
  return {
    async prepare() {
      const there = await stat(path).catch((error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT') return undefined;
        throw error;
      });
      if (there?.ino === current.ino && there.dev === current.dev) return;
      const { handle } = current;
      current = await openNew();
      await handle.close();
    },
    write: async (bytes) => (await current.handle.write(bytes)).bytesWritten,
    close: () => current.handle.close(),
  };
}

const writeTo = promisify(write);

export const standardOutput: LineTarget = {
  prepare: () => Promise.resolve(),
  write: async (bytes) => (await writeTo(1, bytes)).bytesWritten,
  close: () => Promise.resolve(),
};
