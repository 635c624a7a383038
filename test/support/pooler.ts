// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** PgBouncer in front of a test's Postgres. */
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Client } from 'pg';
import { spawnTracked } from './command.js';
import { freePort, temporaryDirectory } from './registry.js';
import { until } from './wire-suite.js';

export interface Pooler {
  readonly url: string;
  stop(): Promise<void>;
}

/** `database` is one that listens on TCP: the pooler does not run as root, which alone may enter a test's directories. */
export async function startPooler(program: string, database: URL, mode: 'session' | 'transaction'): Promise<Pooler> {
  const directory = await temporaryDirectory('pooler-');
  const port = await freePort();
  const settings = [
    '[databases]',
    `* = host=${database.hostname} port=${database.port} user=${database.username}`,
    '[pgbouncer]',
    'listen_addr = 127.0.0.1',
    `listen_port = ${port}`,
    `pool_mode = ${mode}`,
    'unix_socket_dir =',
    'auth_type = any',
    // As who uses it with a node has to set it: else it refuses the settings of the session that a node sends.
    'ignore_startup_parameters = options,extra_float_digits',
  ];
  const file = path.join(directory, 'pgbouncer.ini');
  await writeFile(file, `${settings.join('\n')}\n`);
  // It refuses to run as root, and is told whom to become; elsewhere it runs as who it is.
  const asOther = process.getuid?.() === 0 ? ['-u', 'nobody'] : [];
  const child = spawnTracked(program, [...asOther, file], { stdio: ['ignore', 'pipe', 'pipe'] });
  const said: Buffer[] = [];
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (piece: Buffer) => said.push(piece));
  const exited = once(child, 'exit');
  const url = `postgres://${database.username}@127.0.0.1:${port}${database.pathname}`;
  await until('the pooler answers', () => answers(url)).catch((error: unknown) => {
    throw new Error(`pgbouncer\n${Buffer.concat(said).toString()}`, { cause: error });
  });
  return {
    url,
    async stop() {
      child.kill('SIGKILL');
      await exited;
    },
  };
}

async function answers(url: string): Promise<boolean> {
  const client = new Client({ connectionString: url });
  client.on('error', () => undefined);
  try {
    await client.connect();
    await client.query('SELECT 1');
    return true;
  } catch {
    return false;
  } finally {
    await client.end().catch(() => undefined);
  }
}
