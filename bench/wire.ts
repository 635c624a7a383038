// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** HTTP/1.1 on a raw socket: a client that costs little beside the server that it measures. */
import { connect, type Socket } from 'node:net';

export interface Address {
  readonly host: string;
  readonly port: number;
}

export interface Answer {
  readonly status: number;
  /** Lower-case names; the last of repeated headers. */
  readonly headers: ReadonlyMap<string, string>;
  readonly bodyBytes: number;
  /** The first 64 KiB of the body. */
  readonly body: Buffer;
}

/** Pieces in order; asynchronous ones let a test hold a body half sent. */
export type Parts = Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

export interface Exchange {
  readonly method: string;
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent as they are; the caller says Content-Length, or frames the chunks. */
  readonly body?: Parts;
}

interface Pending {
  readonly method: string;
  resolve(answer: Answer): void;
  reject(error: Error): void;
}

const keptBodyBytes = 65536;
const idleTimeoutMs = 180_000;

/** One keep-alive connection; one exchange at a time. Where the server says `Connection: close`, the next exchange opens another. */
export class Connection {
  readonly #address: Address;
  readonly #readBuffer: Uint8Array;
  #socket: Socket | undefined;
  #pending: Pending | undefined;
  #head: Buffer = Buffer.alloc(0);
  #reply: { status: number; headers: Map<string, string>; left: number; bodyBytes: number; kept: Buffer[]; chunked: boolean } | undefined;

  constructor(address: Address, readBufferBytes = 65536) {
    this.#address = address;
    this.#readBuffer = Buffer.allocUnsafe(readBufferBytes);
  }

  close(): void {
    this.#socket?.destroy();
    this.#socket = undefined;
  }

  /** Sends a request and resolves with the whole answer; rejects when the connection breaks. */
  async request({ method, path, headers = {}, body = [] }: Exchange): Promise<Answer> {
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
    const answer = new Promise<Answer>((resolve, reject) => {
      this.#pending = { method, resolve, reject };
    });
    answer.catch(() => undefined); // The writes below fail first when the connection breaks.
    const socket = (this.#socket ??= this.#connect());
    socket.cork();
    socket.write(`${method} ${path} HTTP/1.1\r\nHost: ${this.#address.host}:${this.#address.port}\r\n${lines.join('')}\r\n`);
    let corked = true;
    for await (const part of body) {
      const written = new Promise<void>((resolve, reject) => {
        socket.write(part, (error) => (error ? reject(error) : resolve()));
      });
      if (corked) socket.uncork();
      corked = false;
      await written;
    }
    if (corked) socket.uncork();
    return await answer;
  }

  #connect(): Socket {
    const onread = { buffer: this.#readBuffer, callback: (length: number, buffer: Uint8Array) => this.#read(length, buffer) };
    const socket = connect({ ...this.#address, noDelay: true, onread });
    socket.setTimeout(idleTimeoutMs, () => socket.destroy(new Error('the server was silent for too long')));
    socket.on('error', (error) => this.#fail(socket, error));
    socket.on('close', () => this.#fail(socket, new Error('the server closed the connection')));
    return socket;
  }

  #fail(socket: Socket, error: Error): void {
    if (socket !== this.#socket) return;
    this.#pending?.reject(error);
    this.#pending = undefined;
  }

  #read(length: number, buffer: Uint8Array): boolean {
    const piece = Buffer.from(buffer.buffer, buffer.byteOffset, length);
    if (this.#reply === undefined || this.#reply.chunked) this.#readHead(piece);
    else this.#readBody(piece);
    return true;
  }

  /** Gathers until the header block (and of a chunked answer, which only errors and small documents are, the end) has arrived. */
  #readHead(piece: Buffer): void {
    this.#head = Buffer.concat([this.#head, piece]);
    const end = this.#head.indexOf('\r\n\r\n');
    if (end < 0) return;
    const [statusLine = '', ...lines] = this.#head.toString('latin1', 0, end).split('\r\n');
    const status = Number(statusLine.split(' ')[1]);
    const headers = new Map(
      lines.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 1).trim()]),
    );
    const rest = this.#head.subarray(end + 4);
    if (status === 100) {
      this.#head = Buffer.alloc(0);
      if (rest.length > 0) this.#readHead(rest);
      return;
    }
    const bodiless = this.#pending?.method === 'HEAD' || status === 204 || status === 304;
    const chunked = !bodiless && headers.get('transfer-encoding') === 'chunked';
    const left = bodiless || chunked ? 0 : Number(headers.get('content-length') ?? 0);
    this.#reply = { status, headers, left, bodyBytes: 0, kept: [], chunked };
    if (chunked && rest.indexOf('0\r\n\r\n') < 0) return;
    this.#head = Buffer.alloc(0);
    this.#readBody(rest);
  }

  #readBody(piece: Buffer): void {
    const reply = this.#reply;
    if (reply === undefined) return;
    if (reply.bodyBytes < keptBodyBytes && piece.length > 0) reply.kept.push(Buffer.from(piece.subarray(0, keptBodyBytes)));
    reply.bodyBytes += piece.length;
    reply.left -= piece.length;
    if (reply.left > 0) return;
    this.#reply = undefined;
    const pending = this.#pending;
    this.#pending = undefined;
    if (reply.headers.get('connection')?.toLowerCase() === 'close') this.close();
    pending?.resolve({ status: reply.status, headers: reply.headers, bodyBytes: reply.bodyBytes, body: Buffer.concat(reply.kept) });
  }
}
