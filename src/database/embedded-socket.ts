// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { chown, mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Identity } from './embedded-identity.js';

/** Only names the socket: each server has its own directory. */
export const socketPort = 5432;

/** `sun_path` holds 108 bytes on Linux and 104 on macOS, with a zero at the end. */
const maxPathBytes = process.platform === 'darwin' ? 103 : 107;

/** A new directory of mode 0700 with a name short enough for a socket. It stands in for the password: who can enter may connect. */
export async function makeSocketDirectory(runtimeDirectory: string | undefined, { user }: Identity): Promise<string> {
  const reasons: string[] = [];
  for (const parent of [runtimeDirectory, tmpdir(), '/tmp']) {
    if (parent === undefined || parent === '') continue;
    const prefix = join(parent, 'ha-registry-');
    const bytes = Buffer.byteLength(`${prefix}XXXXXX/.s.PGSQL.${socketPort}`);
    if (bytes > maxPathBytes || /[,"]/.test(prefix)) {
      reasons.push(`${parent}: path of a socket too long or with a comma or quote`);
      continue;
    }
    try {
      const directory = await mkdtemp(prefix);
      if (user.uid !== undefined && user.gid !== undefined) await chown(directory, user.uid, user.gid);
      return directory;
    } catch (error) {
      reasons.push((error as Error).message);
    }
  }
  throw new Error(
    `embedded Postgres: no place for its socket (${reasons.join('; ')}); set TMPDIR to a short path, or database.url to a Postgres server`,
  );
}
