// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Stands between a client and the registry, writes down what they say to each other, and can cut a connection in the middle of a body. */
import { once } from 'node:events';
import { Agent, createServer, request, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';

export interface Exchange {
  readonly method: string;
  /** Path and query. */
  readonly path: string;
  readonly requestHeaders: IncomingHttpHeaders;
  requestBytes: number;
  /** 0 until there is an answer. */
  status: number;
  responseHeaders: IncomingHttpHeaders;
  responseBytes: number;
  /** The beginning of the body of an answer of 400 and above. */
  errorBody: string;
  cut: boolean;
}

export interface Cut {
  readonly method: string;
  readonly path: RegExp;
  /** Whose body is cut. */
  readonly side: 'request' | 'response';
  readonly afterBytes: number;
}

export interface Proxy {
  /** `127.0.0.1:<port>`, as image names have it. */
  readonly host: string;
  /** Oldest first. */
  readonly exchanges: readonly Exchange[];
  /** Begins a new, empty list of exchanges, and takes back a cut that has not happened. */
  readonly forget: () => void;
  /** Cuts both connections, once, in the first exchange that fits and has as many bytes. */
  readonly cutOnce: (cut: Cut) => void;
  readonly close: () => Promise<void>;
}

export async function startProxy(registryUrl: string): Promise<Proxy> {
  const upstream = new URL(registryUrl);
  const agents = new WeakMap<Socket, Agent>();
  let exchanges: Exchange[] = [];
  let cut: Cut | undefined;
  const server = createServer((incoming, reply) => {
    const exchange = begin(incoming);
    exchanges.push(exchange);
    const cutNow = (side: Cut['side'], bytes: number): boolean => {
      if (cut?.side !== side || bytes < cut.afterBytes || cut.method !== exchange.method || !cut.path.test(exchange.path)) return false;
      cut = undefined;
      return true;
    };
    forward(incoming, reply, upstream, agents.get(incoming.socket), exchange, cutNow);
  });
  // One connection upstream for each of the client's: keep-alive and closing are then seen by the registry as the client does them.
  server.on('connection', (socket: Socket) => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    agents.set(socket, agent);
    socket.once('close', () => agent.destroy());
  });
  server.requestTimeout = 0;
  server.keepAliveTimeout = 60_000;
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    get exchanges() {
      return exchanges;
    },
    forget() {
      exchanges = [];
      cut = undefined;
    },
    cutOnce: (next) => (cut = next),
    async close() {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}

/** One line of an exchange, and what the registry said to a fault. */
export function describeExchange(exchange: Exchange): string {
  const { method, path, requestHeaders, requestBytes, status, responseHeaders, responseBytes, errorBody, cut } = exchange;
  const asked = ['content-type', 'content-range', 'content-length', 'transfer-encoding', 'range', 'accept'].flatMap((name) => {
    const value = requestHeaders[name];
    return value === undefined ? [] : [`${name}: ${String(value).slice(0, 80)}`];
  });
  const told = ['content-type', 'location', 'range', 'content-range', 'docker-content-digest', 'oci-subject', 'link', 'warning'].flatMap(
    (name) => {
      const value = responseHeaders[name];
      return value === undefined ? [] : [`${name}: ${shortened(String(value))}`];
    },
  );
  const lines = [`${method} ${shortened(path)} (${[...asked, `${requestBytes} bytes`].join('; ')})`];
  lines.push(`  → ${cut ? 'cut by the drill, ' : ''}${status || 'no answer'} (${[...told, `${responseBytes} bytes`].join('; ')})`);
  if (errorBody !== '') lines.push(`    ${errorBody}`);
  return lines.join('\n');
}

function shortened(text: string): string {
  return text.length > 240 ? `${text.slice(0, 180)}…${text.slice(-60)}` : text;
}

function begin({ method = '', url = '', headers }: IncomingMessage): Exchange {
  return {
    method,
    path: url,
    requestHeaders: headers,
    requestBytes: 0,
    status: 0,
    responseHeaders: {},
    responseBytes: 0,
    errorBody: '',
    cut: false,
  };
}

function forward(
  incoming: IncomingMessage,
  reply: ServerResponse,
  { hostname, port }: URL,
  agent: Agent | undefined,
  exchange: Exchange,
  cutNow: (side: Cut['side'], bytes: number) => boolean,
): void {
  const outgoing = request({
    hostname,
    port,
    agent,
    method: incoming.method,
    path: incoming.url,
    headers: incoming.rawHeaders,
    setHost: false,
  });
  const breakOff = () => {
    outgoing.destroy();
    incoming.socket.destroy();
  };
  const cutAfter = (side: Cut['side'], bytes: number) => {
    if (!cutNow(side, bytes)) return;
    exchange.cut = true;
    setTimeout(breakOff, 100); // Lets the bytes so far arrive.
  };
  incoming.on('data', (piece: Buffer) => {
    if (exchange.cut) return;
    exchange.requestBytes += piece.length;
    if (!outgoing.write(piece)) pauseUntilDrained(incoming, outgoing);
    cutAfter('request', exchange.requestBytes);
  });
  incoming.once('end', () => {
    if (!exchange.cut) outgoing.end();
  });
  incoming.once('error', () => outgoing.destroy());
  outgoing.once('error', breakOff);
  outgoing.once('response', (answer) => {
    exchange.status = answer.statusCode ?? 0;
    exchange.responseHeaders = answer.headers;
    reply.writeHead(exchange.status, answer.rawHeaders);
    answer.on('data', (piece: Buffer) => {
      if (exchange.cut) return;
      exchange.responseBytes += piece.length;
      if (exchange.status >= 400 && exchange.errorBody.length < 1000) exchange.errorBody += piece.toString().trimEnd();
      if (!reply.write(piece)) pauseUntilDrained(answer, reply);
      cutAfter('response', exchange.responseBytes);
    });
    answer.once('end', () => {
      if (!exchange.cut) reply.end();
    });
    answer.once('error', breakOff);
  });
}

function pauseUntilDrained(source: IncomingMessage, target: NodeJS.EventEmitter): void {
  source.pause();
  target.once('drain', () => source.resume());
}
