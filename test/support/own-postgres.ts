// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** A Postgres server of a test's own, which it may stop, bring back, and set back to an earlier state of its data. Its address stays the same. */
import { appendFile, cp, rename, rm, writeFile } from 'node:fs/promises';
import { createServer, connect, type AddressInfo, type Server, type Socket } from 'node:net';
import { once } from 'node:events';
import path from 'node:path';
import { Client, type QueryResultRow } from 'pg';
import { startEmbeddedPostgres, type EmbeddedPostgres } from '../../src/database/embedded-postgres.js';
import { temporaryDirectory } from './registry.js';

export interface OwnPostgres {
  /** For `database.url`: through a proxy, so that it outlives restarts. */
  readonly url: string;
  query<Row extends QueryResultRow>(text: string, values?: readonly unknown[]): Promise<Row[]>;
  /** As a fast shutdown; clients are cut off. */
  stop(): Promise<void>;
  start(): Promise<void>;
  /** Copies the data of the stopped server: a backup. */
  backUp(): Promise<string>;
  /** Puts a backup in the place of the stopped server's data. */
  restore(backup: string): Promise<void>;
  /** For good. */
  close(): Promise<void>;
}

const quickSettings = { fsync: 'off', full_page_writes: 'off', max_connections: '100', log_min_messages: 'panic' };
const replication = { wal_level: 'replica', max_wal_senders: '4' };

export interface OwnPostgresOptions {
  /** Another server's data to begin with. */
  readonly backup?: string;
  /** Others may follow it. */
  readonly replicates?: boolean;
  /** The server whose backup it is: its changes are streamed from there until this one is promoted. */
  readonly follows?: OwnPostgres;
}

export async function startOwnPostgres({ backup, replicates = false, follows }: OwnPostgresOptions = {}): Promise<OwnPostgres> {
  const dataDirectory = await temporaryDirectory('own-postgres-');
  const cluster = path.join(dataDirectory, 'cluster');
  if (backup !== undefined) await cp(backup, cluster, { recursive: true });
  const settings = { ...quickSettings, ...(replicates || follows !== undefined ? replication : {}) };
  if (follows !== undefined) {
    const { hostname, port, username } = new URL(follows.url);
    await writeFile(path.join(cluster, 'standby.signal'), '');
    // In this file, where it can be changed while the server runs.
    await appendFile(path.join(cluster, 'postgresql.auto.conf'), `primary_conninfo = 'host=${hostname} port=${port} user=${username}'\n`);
  }
  let server: EmbeddedPostgres | undefined = await startEmbeddedPostgres({ dataDirectory, settings, environment: process.env });
  const proxy = await startProxy(() => server?.connection);
  const url = `postgres://ha_registry@127.0.0.1:${proxy.port}/ha_registry`;
  let backups = 0;
  return {
    url,
    async query<Row extends QueryResultRow>(text: string, values: readonly unknown[] = []) {
      const client = new Client({ connectionString: url });
      client.on('error', () => undefined);
      await client.connect();
      try {
        return (await client.query<Row>(text, [...values])).rows;
      } finally {
        await client.end();
      }
    },
    async stop() {
      const stopping = server;
      server = undefined;
      proxy.cut();
      await stopping?.stop();
    },
    async start() {
      server = await startEmbeddedPostgres({ dataDirectory, settings, environment: process.env });
    },
    async backUp() {
      const copy = `${cluster}-backup-${++backups}`;
      await cp(cluster, copy, { recursive: true });
      return copy;
    },
    async restore(copy) {
      await rename(cluster, `${cluster}-lost-${++backups}`);
      await cp(copy, cluster, { recursive: true });
      await rm(path.join(cluster, 'postmaster.pid'), { force: true });
    },
    async close() {
      await proxy.close();
      await server?.stop();
      server = undefined;
    },
  };
}

interface Proxy {
  readonly port: number;
  cut(): void;
  close(): Promise<void>;
}

async function startProxy(target: () => { readonly host: string; readonly port: number } | undefined): Promise<Proxy> {
  const open = new Set<Socket>();
  const server: Server = createServer({ noDelay: true }, (incoming) => {
    const to = target();
    if (to === undefined) return void incoming.destroy();
    const outgoing = connect(path.join(to.host, `.s.PGSQL.${to.port}`));
    for (const [one, other] of [
      [incoming, outgoing],
      [outgoing, incoming],
    ] as const) {
      open.add(one);
      one.on('error', () => undefined);
      one.on('close', () => {
        open.delete(one);
        other.destroy();
      });
      one.pipe(other);
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const cut = (): void => open.forEach((socket) => socket.destroy());
  return {
    port: (server.address() as AddressInfo).port,
    cut,
    async close() {
      server.close();
      cut();
      await once(server, 'close');
    },
  };
}
