// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The engine that runs everywhere: node:http. */
import { createServer, STATUS_CODES, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https';
import type { AddressInfo, ListenOptions, Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { HttpServer, Serve, ServerOptions, SetReceiveBuffer, TlsFiles } from '../contract.js';
import { NodeExchange, type NodeShared } from './node-exchange.js';
import { errorReply, type ErrorReply } from './refusals.js';
import { Sweep } from './sweep.js';
import { readTlsFiles } from './tls-files.js';

/** Long bearer tokens and multi-range headers pass Node's 16 KiB. */
const maxHeaderBytes = 65_536;
/** Time for a request's headers, against clients that send them byte by byte. */
const headersTimeoutMs = 30_000;
/** Longer than a proxy keeps its idle connections (nginx 60 s, HAProxy and AWS 60 s): who closes first should be the proxy, or it sends into a closing connection. */
const keepAliveTimeoutMs = 75_000;
/** So many connections past the limit are told so; more are closed unheard. */
const refusedConnections = 64;
/** For the client of a broken request to read what was wrong with it. */
const refusalLingerMs = 2_000;

export function nodeServe(setReceiveBuffer?: SetReceiveBuffer): Serve {
  return async (handler, options) => {
    const server = await createHttpServer(options);
    const connections = new Connections();
    const sweep = new Sweep(options.idleTimeoutMs);
    const shared: NodeShared = {
      handler,
      options,
      sweep,
      draining: false,
      onDistrusted: ({ socket }) => connections.distrusted.add(socket),
      onFinished: (exchange) => connections.finished(exchange, shared),
    };
    attach(server, connections, shared);
    try {
      await listen(server, options);
    } catch (error) {
      sweep.stop();
      throw error;
    }
    const { port } = server.address() as AddressInfo;
    setReceiveBuffer?.(port, options.receiveBufferBytes);
    let drained: Promise<void> | undefined;
    return {
      engine: 'node',
      port,
      renewTls: (tls) => renewTls(server as TlsServer, tls),
      retire() {
        shared.draining = true;
      },
      drain(timeoutMs) {
        drained ??= drain(server, connections, shared, timeoutMs);
        return drained;
      },
    } satisfies HttpServer;
  };
}

async function createHttpServer({ tls, maxConnections, idleTimeoutMs }: ServerOptions): Promise<Server> {
  const limits = {
    maxHeaderSize: maxHeaderBytes,
    headersTimeout: headersTimeoutMs,
    keepAliveTimeout: keepAliveTimeoutMs,
    requestTimeout: 0,
    connectionsCheckingInterval: 5_000,
    requireHostHeader: false,
    noDelay: true,
  };
  let server: Server;
  if (tls === undefined) server = createServer(limits);
  else {
    const pems = await readTlsFiles(tls);
    server = createTlsServer({
      ...limits,
      ...pems,
      handshakeTimeout: headersTimeoutMs,
      requestCert: pems.ca !== undefined,
      rejectUnauthorized: false,
    });
  }
  server.maxConnections = maxConnections + refusedConnections;
  server.timeout = idleTimeoutMs;
  return server;
}

async function renewTls(server: TlsServer, tls: TlsFiles): Promise<void> {
  const pems = await readTlsFiles(tls);
  server.setSecureContext(pems);
  // Looked at for each connection, whatever the typings know.
  (server as TlsServer & { requestCert: boolean }).requestCert = pems.ca !== undefined;
}

/** The open connections, each with its requests: more than one when a client pipelines. */
class Connections {
  readonly open = new Map<Socket, Set<NodeExchange>>();
  /** Requests on these are not served: the connection is one too many, or what was sent on it is in doubt. */
  readonly distrusted = new WeakSet<Socket>();
  readonly #refused = new Set<Socket>();

  add(socket: Socket): void {
    this.open.set(socket, new Set());
    socket.once('close', () => {
      // Node tells it to the response that is being written, not to those behind it.
      for (const exchange of this.open.get(socket) ?? []) exchange.conclude();
      this.open.delete(socket);
    });
  }

  destroy(): void {
    for (const socket of [...this.open.keys(), ...this.#refused]) socket.destroy();
  }

  started(exchange: NodeExchange): void {
    this.open.get(exchange.socket)?.add(exchange);
  }

  finished(exchange: NodeExchange, { draining }: NodeShared): void {
    const exchanges = this.open.get(exchange.socket);
    exchanges?.delete(exchange);
    if (draining && exchanges?.size === 0) exchange.socket.destroySoon();
  }

  /** Answers by hand, as there is no request that Node could answer, and closes when the client has read it or does not. */
  refuse(socket: Socket, { status, body }: ErrorReply): void {
    this.distrusted.add(socket);
    this.#refused.add(socket);
    socket.once('close', () => this.#refused.delete(socket));
    const headers = `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n`;
    socket.on('error', () => socket.destroy());
    socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${headers}\r\n${body}`);
    socket.once('end', () => socket.destroy());
    setTimeout(() => socket.destroy(), refusalLingerMs).unref();
  }
}

function attach(server: Server, connections: Connections, shared: NodeShared): void {
  const { tls, maxConnections } = shared.options;
  server.on(tls === undefined ? 'connection' : 'secureConnection', (socket: Socket) => {
    if (hasWrongCertificate(socket)) socket.destroy();
    else if (connections.open.size >= maxConnections) connections.refuse(socket, errorReply(503, 'UNAVAILABLE', 'too many connections'));
    else connections.add(socket);
  });
  const onRequest = (expectsContinue: boolean) => (incoming: IncomingMessage, response: ServerResponse) => {
    if (connections.distrusted.has(incoming.socket)) return;
    const exchange = new NodeExchange(shared, incoming, response, expectsContinue);
    connections.started(exchange);
    exchange.serve();
  };
  server.on('request', onRequest(false));
  server.on('checkContinue', onRequest(true));
  // Other expectations are ignored, as uWS does.
  server.on('checkExpectation', onRequest(false));
  server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => {
    if (connections.distrusted.has(socket)) return;
    if (error.code === 'ECONNRESET' || !socket.writable || connections.open.get(socket)?.size !== 0) socket.destroy();
    else connections.refuse(socket, parseFault(error));
  });
  // Node counts every byte in either direction, also while a large write is only partly done.
  server.on('timeout', (socket: Socket) => {
    const exchanges = connections.open.get(socket);
    if (exchanges === undefined || exchanges.size === 0) socket.destroy();
    for (const exchange of exchanges ?? []) if (exchange.waitsForClient) exchange.cut('the client took nothing of the reply');
  });
}

/** Verification can't be left to Node, which then also refuses a client that shows no certificate. */
function hasWrongCertificate(socket: Socket): boolean {
  return socket instanceof TLSSocket && !socket.authorized && socket.getPeerX509Certificate() !== undefined;
}

function parseFault({ code, message }: NodeJS.ErrnoException): ErrorReply {
  if (code === 'HPE_HEADER_OVERFLOW') return errorReply(431, 'UNKNOWN', `the headers are larger than ${maxHeaderBytes} bytes`);
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return errorReply(408, 'REQUEST_TIMEOUT', 'the headers came too slowly');
  return errorReply(400, 'UNKNOWN', message);
}

async function listen(server: Server, { host, port, reusePort }: ServerOptions): Promise<void> {
  if (reusePort && !canReusePort(process.versions.node)) {
    throw new Error(`server.reuse_port needs Node 22.12 or newer on the node engine; this is ${process.versions.node}`);
  }
  // In Node's typings from 22.12 on.
  const options: ListenOptions & { reusePort: boolean } = { host, port, exclusive: true, reusePort };
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

function canReusePort(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major > 23 || (major === 23 && minor >= 1) || (major === 22 && minor >= 12);
}

async function drain(server: Server, connections: Connections, shared: NodeShared, timeoutMs: number): Promise<void> {
  shared.draining = true;
  const closed = new Promise((resolve) => server.close(resolve));
  for (const [socket, exchanges] of connections.open) if (exchanges.size === 0) socket.destroySoon();
  const deadline = setTimeout(() => {
    connections.destroy();
    server.closeAllConnections();
  }, timeoutMs);
  await closed;
  clearTimeout(deadline);
  shared.sweep.stop();
}
