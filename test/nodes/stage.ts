// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Nodes on one database and one store, for uploads that go from one to the other. */
import { Client } from 'pg';
import type { Test } from 'tap';
import { HttpClient } from '../support/http-client.js';
import { freshDatabase } from '../support/postgres.js';
import { quickDirectory, startRegistry, type RunningRegistry } from '../support/registry.js';

export interface Stage {
  readonly database: Client;
  readonly databaseUrl: string;
  /** Another node on the same database and store. */
  readonly start: (databaseUrl?: string) => Promise<Member>;
}

export interface Member extends RunningRegistry {
  readonly client: HttpClient;
}

/** Nodes with the same `root` share its store. */
export async function setStage(
  t: Test,
  storage: object,
  { root, settings = {} }: { root?: string; settings?: object } = {},
): Promise<Stage> {
  const { url } = await freshDatabase();
  const database = new Client({ connectionString: url });
  await database.connect();
  t.teardown(() => database.end());
  const engines = ['uws', 'node'];
  let started = 0;
  return {
    database,
    databaseUrl: url,
    async start(databaseUrl = url) {
      const server = { engine: engines[started++ % 2] };
      const config = { workers: { threads: 1 }, log: { level: 'warn' }, database: { url: databaseUrl }, storage, server, ...settings };
      const registry = await startRegistry({ root: root ?? (await quickDirectory('member-')), config });
      return { ...registry, client: new HttpClient(registry.port) };
    },
  };
}

export function idOf(session: string): string {
  return session.split('/').at(-1) ?? '';
}

export async function dataUuid(database: Client, session: string): Promise<string> {
  const { rows } = await database.query<{ data_uuid: string }>('SELECT data_uuid FROM upload_sessions WHERE id = $1', [idOf(session)]);
  return rows[0]?.data_uuid ?? '';
}
