// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { access, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Connection } from './servers.js';

/**
 * The socket of the embedded Postgres that a running node has in this data directory; undefined when none runs there. What postmaster.pid says is believed only as far
 * as that a connection may be tried: the file may be that of a server which was killed.
 */
export async function findEmbeddedPostgres(dataDirectory: string): Promise<Exclude<Connection, string> | undefined> {
  const text = await readFile(join(dataDirectory, 'cluster', 'postmaster.pid'), 'utf8').catch(() => '');
  // The lines of miscadmin.h: process, directory, start, port, socket's directory, address, shared memory, state.
  const [pid, , , port, host, , , state] = text.split('\n');
  if (host === undefined || host === '' || state?.trim() !== 'ready' || !isRunning(Number(pid))) return undefined;
  return { host, port: Number(port), user: 'ha_registry', database: 'ha_registry' };
}

/** Whether a node, or a command that begins a registry, has ever made one in this data directory. */
export function hasEmbeddedPostgres(dataDirectory: string): Promise<boolean> {
  return access(join(dataDirectory, 'cluster')).then(
    () => true,
    () => false,
  );
}

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
