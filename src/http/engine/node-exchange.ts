// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** One request on node:http, from its headers to the last byte of its reply. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { TLSSocket } from 'node:tls';
import { RegistryError } from '../../oci/errors.js';
import type { ByteSource } from '../../storage/blob-store.js';
import { BodyReader, noBody, type Flow } from './body-reader.js';
import {
  BodyAborted,
  clientClosedRequest,
  type FinishedRequest,
  type Handler,
  type Reply,
  type RequestBody,
  type ServerOptions,
  type StreamBody,
} from '../contract.js';
import { faultReply } from '../fault-reply.js';
import type { Resource } from '../path.js';
import { discardToKeepBytes, errorReply, internalError, isDeparture, lingerBytes, lingerMs } from './refusals.js';
import { plainAddress } from './remote-address.js';
import { bodyLength, hasNoBody, isStream } from './reply-body.js';
import { bodyFraming, CHUNKED, findHeader } from './request-headers.js';
import { requestId } from './request-id.js';
import type { Sweep, Swept } from './sweep.js';

/** What all requests of a server share. */
export interface NodeShared {
  readonly handler: Handler;
  readonly options: ServerOptions;
  readonly sweep: Sweep;
  /** Replies say `Connection: close`. */
  draining: boolean;
  /** The connection can't be trusted any more: what else was sent on it is not served. */
  onDistrusted(exchange: NodeExchange): void;
  onFinished(exchange: NodeExchange): void;
}

/** Node tells of a write only when all of it is done, and on TLS not how far it is: so a slow client gets pieces that it takes within any idle timeout. */
const tlsPieceBytes = 128 * 1024;

/** Of the connections that showed one, so that only their first request writes it as text. */
const certificates = new WeakMap<TLSSocket, string>();

export class NodeExchange implements FinishedRequest, Swept {
  readonly method: string;
  readonly path: string;
  readonly query: string;
  readonly remoteAddress: string;
  readonly startedMs = performance.now();
  resource: Resource | undefined = undefined;
  body: RequestBody = noBody;
  status: number = clientClosedRequest;
  sentBytes = 0;
  readonly socket: IncomingMessage['socket'];
  readonly #shared: NodeShared;
  readonly #incoming: IncomingMessage;
  readonly #response: ServerResponse;
  readonly #expectsContinue: boolean;
  readonly #pairs: string[];
  #id: string | undefined;
  #reader: BodyReader | undefined;
  #continued = false;
  #controller: AbortController | undefined;
  #source: ByteSource | undefined;
  #abortWrite: ((error: Error) => void) | undefined;
  #reported = false;
  #closed = false;
  #gone = false;
  /** All of the reply was given to Node. */
  #answered = false;
  #lingerUntilMs = 0;
  #lingerToBytes = 0;

  constructor(shared: NodeShared, incoming: IncomingMessage, response: ServerResponse, expectsContinue: boolean) {
    this.#shared = shared;
    this.#incoming = incoming;
    this.#response = response;
    this.#expectsContinue = expectsContinue;
    this.socket = incoming.socket;
    this.method = incoming.method ?? '';
    const target = originForm(incoming.url ?? '');
    const mark = target.indexOf('?');
    this.path = mark === -1 ? target : target.slice(0, mark);
    this.query = mark === -1 ? '' : target.slice(mark + 1);
    this.remoteAddress = plainAddress(incoming.socket.remoteAddress ?? '');
    this.#pairs = incoming.rawHeaders.map((text, at) => (at % 2 === 0 ? text.toLowerCase() : text));
  }

  header(name: string): string | undefined {
    return findHeader(this.#pairs, name);
  }

  get id(): string {
    return (this.#id ??= requestId(this.header('x-request-id')));
  }

  get receivedBytes(): number {
    return this.#reader?.receivedBytes ?? 0;
  }

  get complete(): boolean {
    return this.#answered && !this.#gone;
  }

  get clientCertificate(): string | undefined {
    const { socket } = this;
    if (!(socket instanceof TLSSocket) || !socket.authorized) return undefined;
    let pem = certificates.get(socket);
    if (pem === undefined) certificates.set(socket, (pem = socket.getPeerX509Certificate()?.toString() ?? ''));
    return pem === '' ? undefined : pem;
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#gone) this.#controller.abort(clientGone());
    }
    return this.#controller.signal;
  }

  /** The client is the one that is waited for. */
  get waitsForClient(): boolean {
    return this.#abortWrite !== undefined || this.#response.writableLength > 0;
  }

  serve(): void {
    this.#response.on('close', () => this.conclude());
    this.#shared.options.observer?.begun(this);
    const framing = bodyFraming(this.#pairs, this.#incoming.httpVersion !== '1.0');
    const fault = typeof framing === 'string' ? framing : this.path.startsWith('/') ? undefined : 'malformed request target';
    if (typeof framing === 'string' || fault !== undefined) {
      this.#shared.onDistrusted(this);
      this.#send(errorReply(400, 'UNKNOWN', fault ?? ''), true);
      return;
    }
    if (framing !== 0) this.#receive(framing === CHUNKED ? undefined : framing);
    let reply;
    try {
      reply = this.#shared.handler(this);
    } catch (error) {
      reply = this.#fault(error);
    }
    if (reply instanceof Promise) {
      reply.then(
        (later) => this.#answer(later),
        (error: unknown) => this.#answer(this.#fault(error)),
      );
    } else this.#answer(reply);
  }

  tick(nowMs: number): void {
    if (this.#closed) return;
    if (this.#lingerUntilMs > 0) {
      if (nowMs >= this.#lingerUntilMs) this.#response.end();
    } else if (this.#reader?.tick(nowMs, this.#shared.options) === 'stalled') this.cut('the client sent its request too slowly');
  }

  /** Closes the connection. */
  cut(why: string): void {
    this.#reader?.fail(new BodyAborted(why));
    this.socket.destroy();
  }

  #receive(length: number | undefined): void {
    const incoming = this.#incoming;
    const reader = new BodyReader(length, this.#flow(), false, () => this.#continue());
    this.#reader = reader;
    this.body = reader;
    incoming.on('end', () => {
      reader.push(nothing, true);
      if (this.#lingerUntilMs > 0) this.#response.end();
    });
    if (!this.#expectsContinue) this.#read();
    this.#shared.sweep.add(this);
  }

  #read(): void {
    this.#continued = true;
    this.#incoming.on('data', (chunk: Buffer) => {
      const reader = this.#reader;
      if (reader === undefined) return;
      reader.push(chunk, false);
      if (this.#lingerUntilMs > 0 && reader.receivedBytes >= this.#lingerToBytes) this.#response.end();
    });
  }

  /** A client that waits for `100 Continue` gets it when the handler wants the body, so one that is refused never sends it. */
  #continue(): void {
    if (this.#continued || this.#response.headersSent) return;
    this.#response.writeContinue();
    this.#read();
  }

  #flow(): Flow {
    const incoming = this.#incoming;
    const isHeld = (): boolean => !this.#continued;
    return {
      get paused() {
        return isHeld() || incoming.isPaused();
      },
      pause: () => void incoming.pause(),
      resume: () => {
        if (!isHeld() && incoming.isPaused()) incoming.resume();
      },
    };
  }

  /** What a handler threw, told and turned into a reply; a client that went away is no fault. */
  #fault(error: unknown): Reply {
    if (!(this.#gone && isDeparture(error))) this.#shared.options.onError(error, this);
    return error instanceof RegistryError ? faultReply(error, this.id) : internalError;
  }

  #answer(reply: Reply): void {
    if (this.#closed) return;
    const { body } = reply;
    const close = this.#shared.draining || !this.#keepsUnread();
    if (isStream(body) && body.length > 0 && !hasNoBody(this.method, reply)) {
      void this.#stream(reply, body, close);
      return;
    }
    try {
      this.#send(reply, close);
    } catch (error) {
      this.#send(this.#fault(error), close);
    }
  }

  #keepsUnread(): boolean {
    const reader = this.#reader;
    if (reader === undefined || reader.complete) return true;
    return this.#continued && reader.length !== undefined && reader.length - reader.receivedBytes <= discardToKeepBytes;
  }

  #send(reply: Reply, close: boolean): void {
    this.#writeHead(reply, close);
    this.#end(close, hasNoBody(this.method, reply) || isStream(reply.body) ? undefined : reply.body);
  }

  #writeHead(reply: Reply, close: boolean): void {
    const headers: Record<string, string | readonly string[] | number> = { ...reply.headers };
    if (reply.status !== 204 && reply.status !== 304) headers['Content-Length'] = bodyLength(reply);
    headers['X-Request-Id'] = this.id;
    if (close) headers['Connection'] = 'close';
    this.status = reply.status;
    this.#response.writeHead(reply.status, headers as Record<string, string | string[] | number>);
  }

  /** Closing before the request has been read resets the connection, and the client may lose the reply. */
  #end(close: boolean, body?: string | Uint8Array): void {
    const reader = this.#reader;
    this.#answered = true;
    if (body !== undefined) this.sentBytes = Buffer.byteLength(body);
    const lingers = close && reader !== undefined && !reader.complete && this.#continued;
    reader?.discard();
    if (!lingers) {
      this.#response.end(body);
      return;
    }
    if (body === undefined) this.#response.flushHeaders();
    else this.#response.write(body);
    this.#report();
    this.#lingerUntilMs = performance.now() + lingerMs;
    this.#lingerToBytes = reader.receivedBytes + lingerBytes;
  }

  async #stream(reply: Reply, body: StreamBody, close: boolean): Promise<void> {
    let left = body.length;
    try {
      const source = await body.open();
      this.#source = source;
      while (left > 0 && !this.#closed) {
        const chunk = await source.next();
        if (this.#closed) break;
        if (chunk === undefined || chunk.length > left) {
          throw new Error(`a source of ${body.length} bytes gave ${chunk === undefined ? body.length - left : 'more'}`);
        }
        if (!this.#response.headersSent) this.#writeHead(reply, close);
        left -= chunk.length;
        await this.#write(chunk);
      }
      if (left === 0 && !this.#closed) this.#end(close);
    } catch (error) {
      if (this.#gone) return;
      if (this.#response.headersSent) {
        this.#shared.options.onError(error, this);
        this.cut('the reply could not be completed');
      } else this.#answer(body.failed?.(error) ?? this.#fault(error));
    } finally {
      this.#closeSource();
    }
  }

  /** Resolves when the kernel has all of the chunk, as its memory is used again then. */
  async #write(chunk: Uint8Array): Promise<void> {
    const pieceBytes = this.socket instanceof TLSSocket ? tlsPieceBytes : chunk.length;
    for (let at = 0; at < chunk.length; at += pieceBytes) {
      await new Promise<void>((resolve, reject) => {
        this.#abortWrite = reject;
        this.#response.write(chunk.subarray(at, at + pieceBytes), (error) => {
          this.#abortWrite = undefined;
          if (error) reject(error);
          else resolve();
        });
      });
      this.sentBytes += Math.min(pieceBytes, chunk.length - at);
    }
  }

  #closeSource(): void {
    const source = this.#source;
    this.#source = undefined;
    source?.close();
  }

  #report(): void {
    if (this.#reported) return;
    this.#reported = true;
    this.#shared.options.observer?.done(this);
  }

  /** It is over, with its reply or with its connection. */
  conclude(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#gone = !this.#response.writableFinished && this.#lingerUntilMs === 0;
    this.#shared.sweep.delete(this);
    if (this.#gone) {
      const error = clientGone();
      if (!this.#answered) this.#controller?.abort(error);
      this.#reader?.fail(error);
      this.#abortWrite?.(error);
      this.#closeSource();
    }
    this.#report();
    this.#shared.onFinished(this);
  }
}

const nothing = new Uint8Array(0);

function clientGone(): BodyAborted {
  return new BodyAborted('the client went away');
}

/** A proxy may ask for an absolute URI, and every server must take it (RFC 9112, 3.2.2). */
function originForm(target: string): string {
  if (target.startsWith('/')) return target;
  const [, rest] = /^https?:\/\/[^/?]*(.*)$/i.exec(target) ?? [];
  if (rest === undefined) return target;
  return rest.startsWith('/') ? rest : `/${rest}`;
}
