// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * What an HTTP engine and the rest of the program promise each other. Two engines implement it: `uws-server.ts` and `node-server.ts`.
 * An engine turns bytes on a socket into a `Request`, calls the one handler, and writes the `Reply`; it knows no routes.
 */
import type { ByteSource } from '../storage/blob-store.js';
import type { Resource } from './path.js';

export interface Request {
  /** As sent, for example `GET`. */
  readonly method: string;
  /** The raw path, never decoded or normalised; begins with `/`. */
  readonly path: string;
  /** The raw query without `?`; empty when there is none. */
  readonly query: string;
  /** Names this request in the log, in traces and in its reply: the client's X-Request-Id where it is sane, else one of ours. */
  readonly id: string;
  /** `performance.now()` when its headers were there. */
  readonly startedMs: number;
  /** What the path names: noted by the routes for whoever tells of the request later; undefined where it names nothing. */
  resource: Resource | undefined;
  /** The peer's address without port. */
  readonly remoteAddress: string;
  readonly body: RequestBody;
  /** The client's certificate as PEM, verified against `tls.clientCaFile` when the connection was made; undefined where none was shown or none is asked for. */
  readonly clientCertificate: string | undefined;
  /** Aborts when the client has gone away before the reply was complete. Made on first use. */
  readonly signal: AbortSignal;
  /** The value of a header by its lower-case name; repeated ones are joined by `, `. Valid for as long as the request is. */
  header(name: string): string | undefined;
}

export interface RequestBody {
  /** Bytes announced by Content-Length; 0 when there is no body; undefined when it is chunked. */
  readonly length: number | undefined;
  /** The whole body, in memory of its own. Rejects with `BodyTooLarge` past `limitBytes`, with `BodyAborted` when the client went away. */
  bytes(limitBytes: number, leastRate?: LeastRate): Promise<Uint8Array>;
  /** Feeds the body to `sink` in order. Resolves after the last byte was taken; rejects with `BodyAborted`, or with what the sink threw. */
  pipe(sink: BodySink): Promise<void>;
}

/** Takes bytes by copying them. The engine stops reading from the socket while the sink cannot take more. */
export interface BodySink {
  /** Copies from the front of `chunk` what there is room for and returns how many bytes that was. Nothing may be kept of `chunk`. */
  write(chunk: Uint8Array): number;
  /** Called when `write` took less than it was offered; resolves when there is room again. A rejection ends the body. */
  ready(): Promise<void>;
  readonly leastRate?: LeastRate;
}

/** The bytes per second below which a client is too slow for what is held for it at the moment; the engine has a limit of its own for all of them. */
export type LeastRate = () => number;

/** What must come from those who hold memory that others wait for: 8 MiB within two minutes. */
export const rateWhileOthersWait = 64 * 1024;

export type Headers = Record<string, string | readonly string[]>;

export interface Reply {
  readonly status: number;
  /** Header names as they shall stand on the wire. Content-Length is the engine's, from the body; a list is sent as repeated headers. */
  readonly headers?: Headers;
  /** For HEAD the engine sends only its length. Statuses 204 and 304 have none. */
  readonly body?: Uint8Array | string | StreamBody;
}

/** A body whose bytes are fetched while they are sent. */
export interface StreamBody {
  /** Exact number of bytes that the source will give. */
  readonly length: number;
  /** Called once, and not for HEAD or where the length is 0. Nothing is sent before the first bytes are there. */
  open(): Promise<ByteSource>;
  /** The reply where there are no first bytes, by what was thrown; without it 500. */
  readonly failed?: (error: unknown) => Reply;
}

/** Answers a request. A handler that throws is a bug: the engine answers 500 with the specification's error JSON and reports it. */
export type Handler = (request: Request) => Reply | Promise<Reply>;

export interface ServerOptions {
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  /** Share the port with other processes by SO_REUSEPORT. Otherwise a taken port is an error with `code` `EADDRINUSE`. */
  readonly reusePort: boolean;
  /** SO_RCVBUF of the listening socket in bytes. */
  readonly receiveBufferBytes: number;
  /** Connections beyond this number are answered 503 and closed, or closed at once. */
  readonly maxConnections: number;
  /** A connection that moves no byte of a started request or reply for this long is closed. */
  readonly idleTimeoutMs: number;
  /** A request body that arrives slower than this, averaged over `idleTimeoutMs`, is aborted. */
  readonly minimumRateBytesPerSecond: number;
  readonly tls?: TlsFiles | undefined;
  /** Told of handlers that threw and of failures while a reply was being streamed. */
  onError(error: unknown, request: Request): void;
  readonly observer?: RequestObserver | undefined;
}

/** Sees every request twice, also those that the engine refuses by itself. Both must be cheap, and never throw. */
export interface RequestObserver {
  /** Its headers are there. */
  begun(request: Request): void;
  /** The last byte of its reply is with the system, or nobody waits for it any more. The request's own parts can still be read, its body and signal not. */
  done(request: FinishedRequest): void;
}

export interface FinishedRequest extends Request {
  /** 499 where the client went away before there was a reply. */
  readonly status: number;
  /** Of bodies; what the client never took of a reply that was broken off is not counted. */
  readonly receivedBytes: number;
  readonly sentBytes: number;
  /** The whole reply was sent. */
  readonly complete: boolean;
}

/** What proxies call it when a client did not wait for its reply. */
export const clientClosedRequest = 499;

/** PEM files. */
export interface TlsFiles {
  /** The server's certificate, followed by what leads to a root. */
  readonly certificateFile: string;
  readonly keyFile: string;
  /** Clients are asked for a certificate that one of these signed; showing none is allowed, a wrong one is not. */
  readonly clientCaFile?: string | undefined;
}

export interface HttpServer {
  readonly engine: 'uws' | 'node';
  /** The port that is listened on. */
  readonly port: number;
  /** New connections get what these files hold now; those that there are go on. Where it throws, nothing has changed. Only for a server that began with TLS. */
  renewTls(tls: TlsFiles): Promise<void>;
  /** From now on replies say `Connection: close`, so that clients go away by themselves. Everything is still served. */
  retire(): void;
  /** Stops listening, answers what is in flight with `Connection: close`, closes idle connections, and after `timeoutMs` the rest. Resolves when all are closed. */
  drain(timeoutMs: number): Promise<void>;
}

/** Sets SO_RCVBUF on this process's sockets that listen on `port` and returns their number; the native addon's (`worker/addon.ts`). */
export type SetReceiveBuffer = (port: number, bytes: number) => number;

export type Serve = (handler: Handler, options: ServerOptions) => Promise<HttpServer>;

export class BodyAborted extends Error {
  override readonly name = 'BodyAborted';
}

export class BodyTooLarge extends Error {
  override readonly name = 'BodyTooLarge';
}
