// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** One request on uWebSockets.js, from its headers to the last byte of its reply. Nothing touches the response after that or after an abort. */
import { RegistryError } from '../../oci/errors.js';
import type { ByteSource } from '../../storage/blob-store.js';
import { BodyReader, noBody } from './body-reader.js';
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
import { bodyLength, hasNoBody, inlineBytes, isStream } from './reply-body.js';
import { bodyFraming, CHUNKED, findHeader } from './request-headers.js';
import { requestId } from './request-id.js';
import type { Sweep, Swept } from './sweep.js';
import { UwsFlow, type UwsRequest, type UwsResponse } from './uws-response.js';
import { invalidHeader, writeHead } from './uws-head.js';
import { UwsSender } from './uws-sender.js';

/** What all requests of a server share. */
export interface UwsShared {
  readonly handler: Handler;
  readonly options: ServerOptions;
  readonly sweep: Sweep;
  /** Replies say `Connection: close`. */
  draining: boolean;
  /** Requests that were begun and not finished. */
  live: number;
  /** Called when a request has finished while the server drains. */
  onFinished(): void;
}

/** uWS reads on for a while after it was told to pause. Without a small SO_RCVBUF that has reached 12 MB; past this the connection is closed. */
const overshootLimitBytes = 64 * 1024 * 1024;
const rewindMs = 3_000;

export class UwsExchange implements FinishedRequest, Swept {
  readonly method: string;
  readonly path: string;
  readonly query: string;
  readonly startedMs = performance.now();
  resource: Resource | undefined = undefined;
  body: RequestBody = noBody;
  status: number = clientClosedRequest;
  sentBytes = 0;
  complete = false;
  readonly #shared: UwsShared;
  readonly #response: UwsResponse;
  readonly #pairs: string[] = [];
  #reader: BodyReader | undefined;
  #flow: UwsFlow | undefined;
  #id: string | undefined;
  #remoteAddress: string | undefined;
  #certificate: string | undefined;
  #controller: AbortController | undefined;
  #sender: UwsSender | undefined;
  #source: ByteSource | undefined;
  #watched = false;
  #reported = false;
  #done = false;
  #gone = false;
  #lingerUntilMs = 0;
  #lingerToBytes = 0;
  #rewoundMs = 0;

  constructor(shared: UwsShared, response: UwsResponse, request: UwsRequest) {
    this.#shared = shared;
    this.#response = response;
    this.method = request.getCaseSensitiveMethod();
    this.path = request.getUrl();
    this.query = request.getQuery() ?? '';
    const pairs = this.#pairs;
    request.forEach((name, value) => {
      pairs.push(name, value);
    });
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

  get remoteAddress(): string {
    if (this.#done) return this.#remoteAddress ?? '';
    return (this.#remoteAddress ??= plainAddress(Buffer.from(this.#response.getRemoteAddressAsText()).toString('latin1')));
  }

  get clientCertificate(): string | undefined {
    if (this.#shared.options.tls === undefined) return undefined;
    if (!this.#done) this.#certificate ??= this.#response.getX509Certificate?.() ?? '';
    return this.#certificate === '' ? undefined : this.#certificate;
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#gone) this.#controller.abort(clientGone());
    }
    return this.#controller.signal;
  }

  /** hot: a handler that answers at once costs no promise, no timer and no callback. */
  serve(): void {
    this.#shared.live++;
    this.#shared.options.observer?.begun(this);
    const framing = bodyFraming(this.#pairs, true);
    if (typeof framing === 'string') {
      this.#refuse(framing);
      return;
    }
    if (framing !== 0) this.#receive(framing === CHUNKED ? undefined : framing);
    let reply;
    try {
      reply = this.#shared.handler(this);
    } catch (error) {
      reply = this.#fault(error);
    }
    if (reply instanceof Promise) this.#answerLater(reply);
    else this.#answer(reply, true);
  }

  tick(nowMs: number): void {
    if (this.#done) return;
    const { idleTimeoutMs } = this.#shared.options;
    if (this.#lingerUntilMs > 0) {
      if (nowMs >= this.#lingerUntilMs) this.#response.close();
      return;
    }
    if (this.#reader?.tick(nowMs, this.#shared.options) === 'stalled') {
      this.#cut('the client sent its request too slowly');
    } else if (this.#sender?.tick(nowMs, idleTimeoutMs) === 'stalled') {
      this.#cut('the client took nothing of the reply');
    } else if (this.#sender?.waiting !== true && nowMs - this.#rewoundMs >= rewindMs) {
      this.#rewoundMs = nowMs;
      this.#flow?.rewindTimer();
    }
  }

  /** Not before the next turn: a request that was smuggled in behind this one then finds a reply pending, and uWS closes instead of serving it. */
  #refuse(fault: string): void {
    this.#watch();
    setImmediate(() => {
      if (!this.#done) this.#response.cork(() => this.#send(errorReply(400, 'UNKNOWN', fault), true));
    });
  }

  #receive(length: number | undefined): void {
    const flow = new UwsFlow(this.#response);
    const reader = new BodyReader(length, flow, true);
    this.#flow = flow;
    this.#reader = reader;
    this.body = reader;
    this.#watch();
    this.#response.onData((chunk, last) => {
      reader.push(new Uint8Array(chunk), last);
      if (this.#done) return;
      if (this.#lingerUntilMs > 0) {
        // Not in this turn, which may be the one that wrote the reply: closing would drop what is still corked.
        if (last || reader.receivedBytes >= this.#lingerToBytes) setImmediate(() => this.tick(Infinity));
      } else if (reader.queuedBytes > overshootLimitBytes) this.#cut('too much was sent while the request was paused');
    });
    this.#sweep();
  }

  #sweep(): void {
    this.#rewoundMs = performance.now();
    this.#shared.sweep.add(this);
  }

  #watch(): void {
    if (this.#watched) return;
    this.#watched = true;
    this.#response.onAborted(() => this.#abort());
  }

  #answerLater(pending: Promise<Reply>): void {
    this.#watch();
    // What can only be asked of a client that is there.
    void this.remoteAddress;
    void this.clientCertificate;
    pending.then(
      (reply) => this.#answer(reply, false),
      (error: unknown) => this.#answer(this.#fault(error), false),
    );
  }

  /** What a handler threw, told and turned into a reply; a client that went away is no fault. */
  #fault(error: unknown): Reply {
    if (!(this.#gone && isDeparture(error))) this.#shared.options.onError(error, this);
    return error instanceof RegistryError ? faultReply(error, this.id) : internalError;
  }

  #answer(reply: Reply, corked: boolean): void {
    if (this.#done) return;
    const { body } = reply;
    const name = invalidHeader(reply);
    if (name !== undefined) {
      this.#answer(this.#fault(new TypeError(`the reply's header ${name} has a character that no header may have`)), corked);
    } else if (isStream(body)) {
      if (hasNoBody(this.method, reply) || body.length === 0) this.#answerInline(reply, corked);
      else void this.#stream(reply, body);
    } else if (body !== undefined && body.length > inlineBytes && !hasNoBody(this.method, reply)) {
      const bytes = typeof body === 'string' ? Buffer.from(body) : body;
      void this.#stream(reply, { length: bytes.length, open: () => Promise.resolve(single(bytes)) });
    } else this.#answerInline(reply, corked);
  }

  #answerInline(reply: Reply, corked: boolean): void {
    const reader = this.#reader;
    const unread = reader !== undefined && !reader.complete;
    if (unread && !this.#keepsUnread(reader)) this.#answerAndLinger(reply, reader);
    else if (corked) this.#send(reply, this.#shared.draining);
    else this.#response.cork(() => this.#send(reply, this.#shared.draining));
    reader?.discard();
  }

  #keepsUnread(reader: BodyReader): boolean {
    return !this.#shared.draining && reader.length !== undefined && reader.length - reader.receivedBytes <= discardToKeepBytes;
  }

  #send(reply: Reply, close: boolean): void {
    const response = this.#response;
    const isBodiless = hasNoBody(this.method, reply);
    this.#flow?.finish();
    this.status = reply.status;
    this.sentBytes = isBodiless ? 0 : bodyLength(reply);
    this.complete = true;
    // Before the last byte: the address cannot be asked for after it.
    this.#report();
    if (isBodiless) {
      writeHead(response, reply, this.id, close);
      if (this.method === 'HEAD' && reply.status !== 204 && reply.status !== 304)
        response.writeHeader('Content-Length', `${bodyLength(reply)}`);
      response.endWithoutBody();
    } else {
      writeHead(response, reply, this.id, false);
      response.end(isStream(reply.body) ? '' : (reply.body ?? ''), close);
    }
    this.#finish();
  }

  /**
   * The client gets its reply at once and whole, while for uWS one byte is missing (the total of a later `tryEnd` is only compared, not written),
   * so that the rest of the request can be read and bounded here.
   */
  #answerAndLinger(reply: Reply, reader: BodyReader): void {
    const length = hasNoBody(this.method, reply) ? 0 : bodyLength(reply);
    const { body } = reply;
    if (length === 0 || body === undefined || isStream(body)) {
      this.#response.cork(() => this.#send(reply, true));
      return;
    }
    this.status = reply.status;
    this.sentBytes = length;
    this.complete = true;
    this.#report();
    this.#response.cork(() => {
      writeHead(this.#response, reply, this.id, true);
      this.#response.tryEnd('', length);
      this.#response.tryEnd(body, length + 1);
    });
    this.#lingerUntilMs = performance.now() + lingerMs;
    this.#lingerToBytes = reader.receivedBytes + lingerBytes;
  }

  async #stream(reply: Reply, body: StreamBody): Promise<void> {
    const { length } = body;
    const sender = new UwsSender(this.#response, length);
    const close = this.#shared.draining || (this.#reader !== undefined && !this.#reader.complete);
    this.#watch();
    this.#flow ??= new UwsFlow(this.#response);
    this.#sweep();
    let headSent = false;
    const head = (): void => {
      headSent = true;
      this.status = reply.status;
      this.#reader?.discard();
      this.#flow?.resume();
      writeHead(this.#response, reply, this.id, close);
    };
    let left = length;
    try {
      const source = await body.open();
      this.#source = source;
      while (left > 0 && !this.#done) {
        const chunk = await source.next();
        if (this.#done) break;
        if (chunk === undefined || chunk.length > left)
          throw new Error(`a source of ${length} bytes gave ${chunk === undefined ? length - left : 'more'}`);
        if (chunk.length === 0) continue;
        left -= chunk.length;
        this.#sender = sender;
        const full = sender.send(chunk, headSent ? undefined : head);
        if (full !== undefined) await full;
        if (sender.complete) {
          this.complete = true;
          this.#finish();
        }
      }
    } catch (error) {
      if (this.#gone) return;
      if (headSent) {
        this.#shared.options.onError(error, this);
        this.#cut('the reply could not be completed');
      } else this.#answer(body.failed?.(error) ?? this.#fault(error), false);
    } finally {
      this.#closeSource();
    }
  }

  #closeSource(): void {
    const source = this.#source;
    this.#source = undefined;
    source?.close();
  }

  /** Closes the connection; uWS calls back `#abort` before this returns. */
  #cut(why: string): void {
    this.#reader?.fail(new BodyAborted(why));
    this.#response.close();
  }

  #abort(): void {
    const answered = this.#lingerUntilMs > 0;
    this.#gone = !answered;
    this.#finish();
    if (answered) return;
    const error = clientGone();
    this.#controller?.abort(error);
    this.#reader?.fail(error);
    this.#sender?.abort(error);
    this.#closeSource();
  }

  #report(): void {
    if (this.#reported) return;
    this.#reported = true;
    if (this.#sender !== undefined) this.sentBytes = this.#sender.takenBytes;
    this.#shared.options.observer?.done(this);
  }

  #finish(): void {
    if (this.#done) return;
    this.#report();
    this.#done = true;
    this.#flow?.abandon();
    this.#shared.sweep.delete(this);
    this.#shared.live--;
    if (this.#shared.draining) this.#shared.onFinished();
  }
}

function clientGone(): BodyAborted {
  return new BodyAborted('the client went away');
}

function single(bytes: Uint8Array): ByteSource {
  return { next: () => Promise.resolve(bytes), close: () => undefined };
}
