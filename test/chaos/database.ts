// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** A Postgres that is stopped and started again under the nodes, at one and the same address: a TCP port in front of whatever socket it has now. */
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { startEmbeddedPostgres, type EmbeddedPostgres } from '../../src/database/embedded-postgres.js';
import { temporaryDirectory } from '../support/registry.js';

export interface ChaosDatabase {
  readonly url: string;
  stop(): Promise<void>;
  start(): Promise<void>;
}

export async function startDatabase(): Promise<ChaosDatabase> {
  const dataDirectory = await temporaryDirectory('chaos-database-');
  let postgres: EmbeddedPostgres | undefined;
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    if (postgres === undefined) {
      client.destroy();
      return;
    }
    const { host, port } = postgres.connection;
    const upstream = connect(`${host}/.s.PGSQL.${port}`);
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('error', () => undefined).on('close', () => sockets.delete(socket));
    }
    client.on('close', () => upstream.destroy());
    upstream.on('close', () => client.destroy());
    client.pipe(upstream).pipe(client);
  });
  const start = async (): Promise<void> => {
    postgres = await startEmbeddedPostgres({ dataDirectory, settings: { fsync: 'off', max_connections: '100' } });
  };
  await start();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { user = '', database = '' } = postgres?.connection ?? {};
  return {
    url: `postgres://${user}@127.0.0.1:${(server.address() as AddressInfo).port}/${database}?sslmode=disable`,
    start,
    async stop() {
      const stopping = postgres;
      postgres = undefined;
      for (const socket of sockets) socket.destroy();
      await stopping?.stop();
    },
  };
}
