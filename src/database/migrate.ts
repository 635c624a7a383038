// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { readdir, readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client, ClientConfig } from 'pg';
import { isConnectionLoss, isPassing, isTransient } from './failures.js';
import type { Queryer } from './pool.js';
import { clientOptions, type Connection } from './servers.js';
import { migrationSettings } from './session-settings.js';
import { connectTo, disconnect } from './single-client.js';

const directory = new URL('./migrations/', import.meta.url);
/** A connection of its own, without the limits of the pools. A server that takes it and then says nothing is as good as none. */
const migration = { name: 'migrate', connectMs: 5_000, queryMs: 10_000, settings: migrationSettings } as const;
/** What a migration itself may take, and what makes it last: timers know no longer time. */
const untilDone = { query_timeout: 2 ** 31 - 1 } as const;
/** Any number, the same for all nodes: one of them migrates while the others wait. */
const migrationLock = 4_872_100_915;
/** A migration that the version before cannot live with says so in a line of its own; such a version then refuses to start. */
const breaking = /^-- breaking$/m;

/** Brings the schema up to what this version needs; each file of `migrations/` in a transaction of its own, in the order of their numbers. */
export function migrate(connection: Connection): Promise<void> {
  return migrateOn(clientOptions(connection));
}

export async function migrateOn(server: ClientConfig): Promise<void> {
  const client = await connectTo(server, migration);
  try {
    await lock(client);
    await refuseNewer(client);
    await client.query(
      'CREATE TABLE IF NOT EXISTS schema_migrations (number integer PRIMARY KEY, name text NOT NULL, breaking boolean NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())',
    );
    const { rows } = await client.query<{ number: number }>('SELECT number FROM schema_migrations');
    const applied = new Set(rows.map(({ number }) => number));
    for (const name of await listFiles()) if (!applied.has(numberOf(name))) await apply(client, name);
  } finally {
    // Ending the connection gives the lock back, whatever state it is in.
    await disconnect(client);
  }
}

/** Asked for again and again: who waits in the server does not notice that it has vanished, and meanwhile holds back what may be vacuumed. */
async function lock(client: Client): Promise<void> {
  for (;;) {
    const { rows } = await client.query<{ locked: boolean }>('SELECT pg_try_advisory_lock($1) AS locked', [migrationLock]);
    if (rows[0]?.locked === true) return;
    await sleep(pauseMs);
  }
}

/** Throws where the schema is one that this version cannot live with; changes nothing. */
export async function refuseNewer(queryer: Queryer): Promise<void> {
  const { rows: tables } = await queryer.query<{ known: boolean }>(`SELECT to_regclass('schema_migrations') IS NOT NULL AS known`);
  if (tables[0]?.known !== true) return;
  const { rows } = await queryer.query<{ number: number }>('SELECT number FROM schema_migrations WHERE breaking');
  const known = new Set((await listFiles()).map(numberOf));
  const newer = rows.find(({ number }) => !known.has(number));
  if (newer !== undefined)
    throw new Error(`the database belongs to a newer version of ha-registry (its migration ${newer.number} is not known to this one)`);
}

async function listFiles(): Promise<string[]> {
  return (await readdir(directory)).filter((name) => /^\d{4}_.+\.sql$/.test(name)).sort();
}

/** Whoever waits for a table keeps others waiting, who push: so it waits a moment, and tries again. */
const lockTimeout = '1s';
const mostAttempts = 120;
const pauseMs = 500;

async function apply(client: Client, name: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await applyOnce(client, name);
    } catch (error) {
      if (isPassing(error)) throw error;
      if (attempt >= mostAttempts || !isTransient(error)) {
        throw new Error(`migration ${name} failed: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
      }
    }
    await sleep(pauseMs);
  }
}

async function applyOnce(client: Client, name: string): Promise<void> {
  const sql = await readFile(new URL(name, directory), 'utf8');
  try {
    await client.query('BEGIN');
    await client.query(`SET LOCAL lock_timeout = '${lockTimeout}'`);
    await client.query({ text: sql, ...untilDone });
    await client.query('INSERT INTO schema_migrations (number, name, breaking) VALUES ($1, $2, $3)', [
      numberOf(name),
      name,
      breaking.test(sql),
    ]);
    await client.query({ text: 'COMMIT', ...untilDone });
  } catch (error) {
    if (!isConnectionLoss(error)) await client.query('ROLLBACK').catch(() => undefined);
    throw error;
  }
}

function numberOf(name: string): number {
  return Number(name.slice(0, 4));
}
