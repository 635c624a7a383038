// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * A Postgres of one's own that can be stopped, frozen and started again at one and the same address: a TCP port in front of whatever socket it has now. The port can
 * also hold back everything that passes through it, as a network does that drops packets.
 */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import path from 'node:path';
import { startEmbeddedPostgres, type EmbeddedPostgres } from '../../src/database/embedded-postgres.js';
import { descendants } from './orphans.js';
import { temporaryDirectory } from './registry.js';

export interface StoppablePostgres {
  readonly url: string;
  /** Connections are cut and new ones refused. */
  stop(): Promise<void>;
  start(): Promise<void>;
  /** SIGSTOP to all its processes: connections are taken, and nothing is answered. */
  freeze(): void;
  thaw(): void;
  /** Nothing passes in either direction any more, on connections that there are and on new ones. */
  stall(): void;
  /** What was held back passes. */
  flow(): void;
  /** Connections that there are stay silent for ever; new ones work. */
  forget(): void;
  close(): Promise<void>;
}

export async function startStoppablePostgres(settings: Readonly<Record<string, string>> = {}): Promise<StoppablePostgres> {
  const dataDirectory = await temporaryDirectory('stoppable-');
  const launch = (): Promise<EmbeddedPostgres> =>
    startEmbeddedPostgres({ dataDirectory, settings: { fsync: 'off', log_min_messages: 'panic', ...settings } });
  const first = await launch();
  let postgres: EmbeddedPostgres | undefined = first;
  let stalled = false;
  const sockets = new Set<Socket>();
  const server = createServer({ noDelay: true }, (client) => {
    if (postgres === undefined) {
      client.destroy();
      return;
    }
    const { host, port } = postgres.connection;
    const upstream = connect(`${host}/.s.PGSQL.${port}`);
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(socket);
      socket.on('error', () => undefined).on('close', () => sockets.delete(socket));
      socket.on('data', (bytes) => void other.write(bytes));
      socket.on('close', () => other.destroy());
      if (stalled) socket.pause();
    }
  });
  const start = async (): Promise<void> => {
    postgres = await launch();
  };
  const stop = async (): Promise<void> => {
    const stopping = postgres;
    postgres = undefined;
    for (const socket of sockets) socket.destroy();
    await stopping?.stop();
  };
  const signal = (name: 'SIGSTOP' | 'SIGCONT'): void => {
    const [pid = ''] = readFileSync(path.join(dataDirectory, 'cluster', 'postmaster.pid'), 'utf8').split('\n');
    for (const each of [Number(pid), ...descendants(Number(pid)).map((mark) => mark.pid)]) process.kill(each, name);
  };
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { user, database } = first.connection;
  const set = (value: boolean): void => {
    stalled = value;
    for (const socket of sockets) {
      if (value) socket.pause();
      else socket.resume();
    }
  };
  return {
    url: `postgres://${user}@127.0.0.1:${(server.address() as AddressInfo).port}/${database}?sslmode=disable`,
    start,
    stop,
    freeze: () => signal('SIGSTOP'),
    thaw: () => signal('SIGCONT'),
    stall: () => set(true),
    flow: () => set(false),
    forget() {
      for (const socket of sockets) socket.pause();
      sockets.clear();
      stalled = false;
    },
    async close() {
      set(false);
      server.close();
      await stop();
    },
  };
}
