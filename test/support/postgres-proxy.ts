// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** A proxy in front of a real Postgres that loses statements, holds them back, or counts them. */
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { roundTripsOf } from './postgres-messages.js';

export interface PostgresProxy {
  /** The same database by way of the proxy. */
  readonly url: string;
  /**
   * The next time that the client names this prepared statement its connection is cut. Resolves then, with what sends the statement to the server after all, on the
   * other half of that connection.
   */
  cutAt(statement: string): Promise<() => void>;
  /** The next time that the client names this prepared statement it gets no further. Resolves then, with what lets it pass. */
  holdAt(statement: string): Promise<() => void>;
  /** All round trips so far: what a client sent before it waited for the answer, by the names of its statements (the text of those without one). */
  readonly roundTrips: readonly string[];
  close(): void;
}

interface Trap {
  readonly name: Buffer;
  readonly cuts: boolean;
  readonly sprung: (release: () => void) => void;
}

export interface PostgresProxyOptions {
  /** Without it any free one. */
  readonly port?: number;
  /** Changes what the server says, piece by piece, without changing how long it is. */
  readonly rewrite?: (piece: Buffer) => Buffer;
}

export async function startPostgresProxy(
  databaseUrl: string,
  { port: ownPort = 0, rewrite = (piece) => piece }: PostgresProxyOptions = {},
): Promise<PostgresProxy> {
  const target = new URL(databaseUrl);
  const socketDirectory = target.searchParams.get('host');
  const port = Number(target.searchParams.get('port') ?? (target.port || '5432'));
  const open = (): Socket => (socketDirectory === null ? connect(port, target.hostname) : connect(`${socketDirectory}/.s.PGSQL.${port}`));
  const roundTrips: string[] = [];
  let trap: Trap | undefined;
  const sockets = new Set<Socket>();
  const listener = createServer({ noDelay: true }, (client) => {
    const server = open();
    for (const socket of [client, server]) {
      sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => sockets.delete(socket));
    }
    const count = roundTripsOf((statements) => roundTrips.push(statements));
    let held: Buffer[] | undefined;
    client.on('data', (piece) => {
      count(piece);
      if (held !== undefined) {
        held.push(piece);
        return;
      }
      if (trap === undefined || !piece.includes(trap.name)) {
        server.write(piece);
        return;
      }
      const { sprung, cuts } = trap;
      trap = undefined;
      const pieces = [piece];
      held = pieces;
      if (cuts) {
        client.destroy();
        sprung(() => server.end(Buffer.concat(pieces)));
        return;
      }
      sprung(() => {
        held = undefined;
        server.write(Buffer.concat(pieces));
      });
    });
    server.on('data', (piece) => client.write(rewrite(piece)));
    server.on('close', () => client.destroy());
    client.on('close', () => {
      if (held === undefined) server.destroy();
    });
  });
  listener.listen(ownPort, '127.0.0.1');
  await once(listener, 'listening');
  const url = new URL(databaseUrl);
  url.search = '';
  url.hostname = '127.0.0.1';
  url.port = String((listener.address() as AddressInfo).port);
  const setTrap = (statement: string, cuts: boolean): Promise<() => void> =>
    new Promise((resolve) => {
      trap = { name: Buffer.from(`${statement}\0`), cuts, sprung: resolve };
    });
  return {
    url: url.href,
    cutAt: (statement) => setTrap(statement, true),
    holdAt: (statement) => setTrap(statement, false),
    roundTrips,
    close() {
      listener.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
