// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * An HTTPS proxy that leads to the registry, whatever address is asked for. Clients believe anything on 127.0.0.1, docker without looking at the certificate; an address
 * that is nobody's they believe only when they know the authority.
 */
import { once } from 'node:events';
import { createServer } from 'node:http';
import { connect, type AddressInfo, type Socket } from 'node:net';

/** TEST-NET-1 (RFC 5737): not an address of any machine, and no name to be looked up. */
export const foreignAddress = '192.0.2.1';

export interface Tunnel {
  readonly url: string;
  readonly close: () => Promise<void>;
}

export async function openTunnel(port: number): Promise<Tunnel> {
  const sockets = new Set<Socket>();
  const server = createServer((_request, reply) => void reply.writeHead(405).end());
  server.on('connect', (_request, client: Socket, head: Buffer) => {
    const registry = connect(port, '127.0.0.1', () => {
      client.write('HTTP/1.1 200 Connection established\r\n\r\n');
      registry.write(head);
      registry.pipe(client).pipe(registry);
    });
    for (const [socket, other] of [
      [client, registry],
      [registry, client],
    ] as const) {
      sockets.add(socket);
      socket.on('error', () => other.destroy()).on('close', () => sockets.delete(socket));
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      server.close();
      for (const socket of sockets) socket.destroy();
      await once(server, 'close');
    },
  };
}
