// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { statfs } from 'node:fs/promises';
import type { KeepFree } from './file-writer.js';

/** Refuses what would fill a disk that others need too. While there is plenty of room, the disk is not asked for each small object. */
export class FreeSpace {
  private readonly keepFree: KeepFree;
  /** Bytes that need no look, until `trustedUntil`. */
  private trusted = 0;
  private trustedUntil = 0;

  constructor(keepFree: KeepFree) {
    this.keepFree = keepFree;
  }

  /** Throws with code ENOSPC. */
  async claim(bytes: number): Promise<void> {
    if (bytes > this.trusted || performance.now() > this.trustedUntil) await this.look(bytes);
    this.trusted -= bytes;
  }

  private async look(bytes: number): Promise<void> {
    const { path, bytes: kept } = this.keepFree;
    const { bavail, bsize } = await statfs(path);
    const free = bavail * bsize - kept;
    if (free < bytes) throw diskFull(this.keepFree);
    this.trusted = free > 4 * mostTrusted ? mostTrusted + bytes : bytes;
    this.trustedUntil = performance.now() + trustedMs;
  }
}

/** What others may write meanwhile is far below the rest of it. */
const mostTrusted = 64 * 1024 * 1024;
const trustedMs = 100;

function diskFull({ path, bytes }: KeepFree): Error {
  return Object.assign(new Error(`ENOSPC: the last ${bytes} bytes of the disk of ${path} are kept free`), { code: 'ENOSPC' });
}
