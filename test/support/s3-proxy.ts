// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** A proxy in front of a real S3 server that can fail on purpose. It passes Host on as it is, since that is signed. */
import { EventEmitter, once } from 'node:events';
import { createServer, request, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface SeenRequest {
  readonly method: string;
  /** With the query. */
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
}

/**
 * What happens to a request: `pass`; `refuse` answers with a status and an S3 error without reading the body or asking the server; `cut` closes the connection
 * before the server is asked; `lose` asks it and then closes the connection in place of the answer; `answer` asks nobody and answers 200 with that body;
 * `breakOffAfter` cuts the server's answer after so many bytes; `hang` answers nothing; `headOnly` gives the server's answer without its body; `after` passes
 * once that has happened.
 */
export type Fault =
  | 'pass'
  | 'cut'
  | 'lose'
  | 'hang'
  | 'headOnly'
  | { readonly refuse: number; readonly code: string }
  | { readonly answer: string }
  | { readonly breakOffAfter: number }
  | { readonly after: Promise<unknown> };

export interface S3Proxy {
  readonly endpoint: string;
  /** Decides for each request from now on. */
  fault: (seen: SeenRequest) => Fault;
  /** All requests so far. */
  readonly seen: SeenRequest[];
  /** Resolves when so many that fit have come. */
  arrived(fits: (seen: SeenRequest) => boolean, count: number): Promise<void>;
  close(): void;
}

export async function startS3Proxy(server: string): Promise<S3Proxy> {
  const target = new URL(server);
  const arrivals = new EventEmitter();
  const listener = createServer((incoming, reply) => {
    const { method = '', url = '', headers } = incoming;
    const one: SeenRequest = { method, url, headers };
    proxy.seen.push(one);
    arrivals.emit('request');
    const fault = proxy.fault(one);
    incoming.on('error', () => undefined);
    reply.on('error', () => undefined);
    if (fault === 'hang') return;
    if (fault === 'cut') {
      incoming.socket.destroy();
      return;
    }
    if (typeof fault === 'object' && 'refuse' in fault) {
      reply.writeHead(fault.refuse, { 'Content-Type': 'application/xml' }).end(errorXml(fault.code));
      return;
    }
    if (typeof fault === 'object' && 'answer' in fault) {
      incoming.resume();
      incoming.on('end', () => reply.writeHead(200, { 'Content-Type': 'application/xml' }).end(fault.answer));
      return;
    }
    const outgoing = request({ host: target.hostname, port: target.port, method, path: url, headers }, (answer) => {
      if (fault === 'lose') {
        answer.resume();
        answer.on('end', () => incoming.socket.destroy());
        return;
      }
      reply.writeHead(answer.statusCode ?? 500, answer.headers);
      if (fault === 'headOnly') {
        reply.flushHeaders();
        reply.on('close', () => answer.destroy());
        return;
      }
      if (fault === 'pass' || 'after' in fault) {
        answer.pipe(reply);
        return;
      }
      let left = fault.breakOffAfter;
      answer.on('data', (piece: Buffer) => {
        if (piece.byteLength < left) reply.write(piece);
        else reply.write(piece.subarray(0, left), () => incoming.socket.destroy());
        left = Math.max(0, left - piece.byteLength);
      });
    });
    outgoing.on('error', () => incoming.socket.destroy());
    if (typeof fault === 'object' && 'after' in fault) void fault.after.then(() => incoming.pipe(outgoing));
    else incoming.pipe(outgoing);
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  listener.unref();
  const { port } = listener.address() as AddressInfo;
  const proxy: S3Proxy = {
    endpoint: `http://127.0.0.1:${port}`,
    fault: () => 'pass',
    seen: [],
    async arrived(fits, count) {
      while (proxy.seen.filter(fits).length < count) await once(arrivals, 'request');
    },
    close() {
      listener.close();
      listener.closeAllConnections();
    },
  };
  return proxy;
}

export function errorXml(code: string): string {
  return `<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${code}</Code><Message>on purpose</Message></Error>`;
}
