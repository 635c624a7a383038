// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** A proxy in front of a real Postgres that loses statements, or holds them back, on purpose. */
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

export interface PostgresProxy {
  /** The same database by way of the proxy. */
  readonly url: string;
  /**
   * The next time that the client names this prepared statement its connection is cut. Resolves then, with what sends the statement to the server after all, on the
   * other half of that connection.
   */
  cutAt(statement: string): Promise<() => void>;
  close(): void;
}

export async function startPostgresProxy(databaseUrl: string): Promise<PostgresProxy> {
  const target = new URL(databaseUrl);
  const socketDirectory = target.searchParams.get('host');
  const port = Number(target.searchParams.get('port') ?? (target.port || '5432'));
  const open = (): Socket => (socketDirectory === null ? connect(port, target.hostname) : connect(`${socketDirectory}/.s.PGSQL.${port}`));
  let trap: { readonly name: Buffer; readonly sprung: (release: () => void) => void } | undefined;
  const sockets = new Set<Socket>();
  const listener = createServer((client) => {
    const server = open();
    for (const socket of [client, server]) {
      sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => sockets.delete(socket));
    }
    let held = false;
    client.on('data', (piece) => {
      if (trap === undefined || !piece.includes(trap.name)) {
        server.write(piece);
        return;
      }
      const { sprung } = trap;
      trap = undefined;
      held = true;
      client.destroy();
      sprung(() => server.end(piece));
    });
    server.on('data', (piece) => client.write(piece));
    server.on('close', () => client.destroy());
    client.on('close', () => {
      if (!held) server.destroy();
    });
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const url = new URL(databaseUrl);
  url.search = '';
  url.hostname = '127.0.0.1';
  url.port = String((listener.address() as AddressInfo).port);
  return {
    url: url.href,
    cutAt: (statement) =>
      new Promise((resolve) => {
        trap = { name: Buffer.from(`${statement}\0`), sprung: resolve };
      }),
    close() {
      listener.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
