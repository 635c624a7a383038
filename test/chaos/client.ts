// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** A client behind the balancer, as patient as real ones are: it repeats a request once when its connection died, or when nothing came for five seconds. */
import { Agent, request, type IncomingHttpHeaders } from 'node:http';

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/** The connection died, or was given up. */
export interface Broken {
  readonly reason: string;
}

export interface Message {
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Buffer;
}

const patienceMs = 5_000;

export class ChaosClient {
  private readonly port: number;
  private readonly agent = new Agent({ keepAlive: true, maxSockets: 1 });
  retries = 0;

  constructor(port: number) {
    this.port = port;
  }

  /** One attempt. With `elsewhere` on a connection of its own, which the balancer may take to another node. */
  send(method: string, path: string, message: Message = {}, elsewhere = false): Promise<Answer | Broken> {
    const { body, headers } = message;
    return new Promise((resolve) => {
      const outgoing = request({
        host: '127.0.0.1',
        port: this.port,
        agent: elsewhere ? false : this.agent,
        method,
        path,
        headers: { ...(method === 'GET' || method === 'HEAD' ? {} : { 'Content-Length': String(body?.byteLength ?? 0) }), ...headers },
        timeout: patienceMs,
      });
      const broken = (error: Error): void => {
        resolve({ reason: error.message });
        outgoing.destroy();
      };
      outgoing.on('timeout', () => broken(new Error(`nothing for ${patienceMs} ms`)));
      outgoing.on('error', broken);
      outgoing.on('response', (incoming) => {
        const pieces: Buffer[] = [];
        incoming.on('data', (piece: Buffer) => pieces.push(piece));
        incoming.on('error', broken);
        incoming.on('close', () => broken(new Error('the answer broke off')));
        incoming.on('end', () => {
          if (incoming.complete) resolve({ status: incoming.statusCode ?? 0, headers: incoming.headers, body: Buffer.concat(pieces) });
          else broken(new Error('the answer broke off'));
        });
      });
      outgoing.end(body);
    });
  }

  /** With the one retry. Reading and HEAD may always be repeated. */
  async read(method: 'GET' | 'HEAD', path: string, message: Message = {}): Promise<Answer | Broken> {
    const first = await this.send(method, path, message);
    if ('status' in first) return first;
    this.retries++;
    const second = await this.send(method, path, message, true);
    return 'status' in second ? second : { reason: `${first.reason}, and again: ${second.reason}` };
  }

  close(): void {
    this.agent.destroy();
  }
}

export function describe(answer: Answer | Broken): string {
  return 'status' in answer ? `${answer.status} ${answer.body.toString().slice(0, 200)}` : answer.reason;
}
