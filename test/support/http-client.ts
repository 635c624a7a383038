// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** A client that sends exactly what it is told: raw paths, any framing, bodies in pieces, or bytes on a socket. */
import { once } from 'node:events';
import { Agent, request as httpRequest, type ClientRequest, type IncomingHttpHeaders, type IncomingMessage } from 'node:http';
import { Agent as TlsAgent, request as httpsRequest } from 'node:https';
import { connect } from 'node:net';

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** Names as they stood on the wire, each followed by its value. */
  readonly rawHeaders: readonly string[];
  readonly body: Buffer;
}

export interface Exchange {
  readonly headers?: Readonly<Record<string, string | string[]>>;
  readonly body?: Uint8Array | string;
  /** With `Transfer-Encoding: chunked`, also when there is nothing to send. */
  readonly chunked?: boolean;
}

/** A request whose body is written by hand. */
export interface OpenRequest {
  readonly request: ClientRequest;
  readonly answer: Promise<Answer>;
}

/** PEM. */
export interface ClientIdentity {
  readonly cert?: string;
  readonly key?: string;
}

/** A node closes what is idle for 10 s, perhaps just when it is used again. */
const idleMs = 5_000;

export class HttpClient {
  readonly port: number;
  private readonly ca: string | undefined;
  private readonly certificate: ClientIdentity;
  private readonly agent: Agent;

  /** Over TLS when given the certificate to trust, and with a certificate of its own where it has one. */
  constructor(port: number, ca?: string, certificate: ClientIdentity = {}) {
    this.port = port;
    this.ca = ca;
    this.certificate = certificate;
    const reuse = { keepAlive: true, timeout: idleMs };
    this.agent = ca === undefined ? new Agent(reuse) : new TlsAgent(reuse);
  }

  async send(method: string, path: string, { headers = {}, body, chunked = false }: Exchange = {}): Promise<Answer> {
    const framing: Record<string, string> =
      body === undefined && !chunked ? {} : chunked ? { 'Transfer-Encoding': 'chunked' } : { 'Content-Length': String(byteLength(body)) };
    const { request, answer } = this.open(method, path, { ...framing, ...headers });
    request.end(body);
    return answer;
  }

  /** Headers leave with the first byte of the body, or with `request.flushHeaders()`. */
  open(method: string, path: string, headers: Readonly<Record<string, string | string[]>> = {}): OpenRequest {
    const options = { host: '127.0.0.1', port: this.port, method, path, headers, agent: this.agent };
    const request =
      this.ca === undefined
        ? httpRequest(options)
        : httpsRequest({ ...options, ...this.certificate, ca: this.ca, servername: 'localhost', host: 'localhost' });
    const answer = new Promise<Answer>((resolve, reject) => {
      request.on('error', reject);
      request.on('response', (response) => void collect(response).then(resolve, reject));
    });
    // Whoever aborts a request does not wait for its answer.
    answer.catch(() => undefined);
    return { request, answer };
  }

  close(): void {
    this.agent.destroy();
  }
}

/** Goes where a registry sends it that has its blobs read from the store, with the same headers, as Go's client does. */
export class FollowingClient extends HttpClient {
  followed = 0;

  override async send(method: string, path: string, exchange: Exchange = {}): Promise<Answer> {
    const answer = await super.send(method, path, exchange);
    const { location } = answer.headers;
    if (answer.status !== 307 || location === undefined) return answer;
    this.followed++;
    const request = (location.startsWith('https:') ? httpsRequest : httpRequest)(location, { method, headers: { ...exchange.headers } });
    request.end();
    const [response] = (await once(request, 'response')) as [IncomingMessage];
    return collect(response);
  }
}

/** Sends bytes as they are and returns all that comes back until the server closes; the request should ask for that. */
export function exchangeRaw(port: number, bytes: string | Uint8Array, timeoutMs = 20_000): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1');
    let received = '';
    socket.setTimeout(timeoutMs, () => {
      socket.destroy();
      reject(new Error(`nothing for ${timeoutMs} ms after ${JSON.stringify(received.slice(0, 200))}`));
    });
    socket.on('data', (piece) => (received += piece.toString('latin1')));
    socket.on('error', (error) => (received === '' ? reject(error) : resolve(received)));
    socket.on('close', () => resolve(received));
    socket.write(bytes);
  });
}

/** The JSON of an answer; without `parse`, what it is supposed to be is the caller's claim. */
export function jsonOf<T>({ body }: Answer, parse: (value: unknown) => T = (value) => value as T): T {
  return parse(JSON.parse(body.toString('utf8')));
}

/** The code of the first error of an answer in the specification's form, or what it is instead. */
export function errorCode({ headers, body }: Answer): string {
  if (headers['content-type'] !== 'application/json') return `not JSON but ${headers['content-type']}`;
  const { errors } = JSON.parse(body.toString('utf8')) as { errors?: { code?: unknown; message?: unknown }[] };
  const [first] = errors ?? [];
  return typeof first?.code === 'string' && /^[A-Z_]+$/.test(first.code) && typeof first.message === 'string' ? first.code : 'no code';
}

async function collect(response: IncomingMessage): Promise<Answer> {
  const pieces: Buffer[] = [];
  for await (const piece of response) pieces.push(piece as Buffer);
  const { statusCode = 0, headers, rawHeaders } = response;
  return { status: statusCode, headers, rawHeaders, body: Buffer.concat(pieces) };
}

function byteLength(body: Uint8Array | string | undefined): number {
  return body === undefined ? 0 : Buffer.byteLength(body);
}
