// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** A proxy that sends each request to the next node, whatever connection it came on: the hardest that a balancer can do to a registry. */
import { once } from 'node:events';
import { Agent, createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface RoundRobin {
  readonly port: number;
  /** Requests that each node was given. */
  readonly counts: readonly number[];
  stop(): Promise<void>;
}

export async function startRoundRobin(ports: readonly number[]): Promise<RoundRobin> {
  const agent = new Agent({ keepAlive: true });
  const counts = ports.map(() => 0);
  let turn = 0;
  const server = createServer({ maxHeaderSize: 128 * 1024 }, (incoming, answer) => {
    const index = turn++ % ports.length;
    counts[index] = (counts[index] ?? 0) + 1;
    const outgoing = request({
      host: '127.0.0.1',
      port: ports[index],
      agent,
      method: incoming.method,
      path: incoming.url,
      headers: incoming.rawHeaders,
    });
    outgoing.on('error', () => answer.destroy());
    outgoing.on('response', (reply) => {
      answer.writeHead(reply.statusCode ?? 502, reply.rawHeaders);
      reply.pipe(answer);
      reply.on('error', () => answer.destroy());
    });
    incoming.pipe(outgoing);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    counts,
    async stop() {
      agent.destroy();
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}
