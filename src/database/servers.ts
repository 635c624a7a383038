// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The servers that may hold the database, and which of them takes writes now. */
import { readFileSync } from 'node:fs';
import type { Client, ClientConfig } from 'pg';
import { connectTo, disconnect } from './single-client.js';

/** An address as libpq writes it, or that of the embedded server. */
export type Connection = string | { readonly host: string; readonly port: number; readonly user: string; readonly database: string };

export interface Servers {
  /** For `pg`: the one that was last found to take writes, at first the first. */
  current(): ClientConfig;
  /** Looks for the one that takes writes. False when there is none, or no other than before. Whoever asks meanwhile shares the answer. */
  find(): Promise<boolean>;
  /** For people, without credentials. */
  describe(): string;
}

/** How long a server may take to tell whether it takes writes: one that has gone silent must not hold up a failover. */
const probeTimeoutMs = 3_000;
/** When one is found, another that answers within this time and has the newer generation is taken instead: an old primary may not know yet that it is one no more. */
const secondOpinionMs = 250;

/** `passwordFile` is read for each connection, so that a password may be changed. */
export function openServers(connections: readonly Connection[], passwordFile?: string): Servers {
  let index = 0;
  let finding: Promise<boolean> | undefined;
  const readPassword = passwordFile === undefined ? undefined : passwordIn(passwordFile);
  const configOf = (connection: Connection): ClientConfig => clientOptions(connection, readPassword);
  const find = async (): Promise<boolean> => {
    const found = await firstWritable(connections.map(configOf));
    const changed = found !== undefined && found !== index;
    if (changed) index = found;
    return changed;
  };
  return {
    current: () => configOf(connections[index] as Connection),
    find() {
      if (connections.length < 2) return Promise.resolve(false);
      finding ??= find().finally(() => (finding = undefined));
      return finding;
    },
    describe: () => connections.map(placeOf).join(', '),
  };
}

/** For `pg`. On a socket of our own there is no TLS, whatever the environment says. */
export function clientOptions(connection: Connection, readPassword?: () => string): ClientConfig {
  if (typeof connection !== 'string') return { ...connection, ssl: false };
  if (readPassword === undefined) return { connectionString: connection };
  const url = new URL(connection);
  if (url.password === '' && !url.searchParams.has('password')) url.password = encodeURIComponent(readPassword());
  return { connectionString: url.href };
}

/** The file may be gone for the moment in which it is replaced. */
function passwordIn(file: string): () => string {
  let last: string | undefined;
  return () => {
    try {
      last = readFileSync(file, 'utf8').trimEnd();
    } catch (error) {
      if (last === undefined) throw error;
    }
    return last;
  };
}

function placeOf(connection: Connection): string {
  if (typeof connection !== 'string') return `${connection.host}/${connection.database}`;
  const { host, pathname } = new URL(connection);
  return `${host}${pathname}`;
}

/** The index of the server that takes writes; of several, that of the newest generation. */
function firstWritable(servers: readonly ClientConfig[]): Promise<number | undefined> {
  return new Promise((resolve) => {
    let best: { index: number; generation: bigint } | undefined;
    let asked = servers.length;
    const answer = (): void => resolve(best?.index);
    for (const [index, server] of servers.entries()) {
      const ask = async (): Promise<void> => {
        const generation = await probe(server);
        if (generation !== undefined) {
          if (best === undefined) setTimeout(answer, secondOpinionMs);
          if (best === undefined || generation > best.generation) best = { index, generation };
        }
        if (--asked === 0) answer();
      };
      void ask();
    }
  });
}

/** The generation of a server that takes writes, 0 where there is no schema yet; undefined for one that takes none or cannot be reached. */
async function probe(server: ClientConfig): Promise<bigint | undefined> {
  let client: Client | undefined;
  try {
    client = await connectTo(server, { name: 'probe', connectMs: probeTimeoutMs, queryMs: probeTimeoutMs });
    const { rows } = await client.query<{ writable: boolean; known: boolean }>(
      `SELECT NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off' AS writable, to_regclass('cluster') IS NOT NULL AS known`,
    );
    if (rows[0]?.writable !== true) return undefined;
    if (!rows[0].known) return 0n;
    const { rows: generations } = await client.query<{ generation: string }>('SELECT generation FROM cluster');
    return BigInt(generations[0]?.generation ?? 0);
  } catch {
    return undefined;
  } finally {
    if (client !== undefined) void disconnect(client);
  }
}
