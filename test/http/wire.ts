// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** A client that sees every byte: it sends what it is told and parses what comes back, one response after the other. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { connect as connectTls, type ConnectionOptions } from 'node:tls';

export interface WireResponse {
  readonly status: number;
  /** In lower case; each with all its values. */
  readonly headers: ReadonlyMap<string, readonly string[]>;
  readonly body: Buffer;
  /** Whether all of the announced body came. */
  readonly whole: boolean;
}

export class Wire {
  readonly socket: Socket;
  readonly closed: Promise<void>;
  isClosed = false;
  #pieces: Buffer[] = [];
  #changed: (() => void) | undefined;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (piece: Buffer) => {
      this.#pieces.push(piece);
      this.#changed?.();
    });
    socket.on('error', () => undefined);
    this.closed = new Promise((resolve) => {
      socket.on('close', () => {
        this.isClosed = true;
        this.#changed?.();
        resolve();
      });
    });
  }

  static async open(port: number, tls?: ConnectionOptions): Promise<Wire> {
    const socket =
      tls === undefined ? connect(port, '127.0.0.1') : connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false, ...tls });
    await once(socket, tls === undefined ? 'connect' : 'secureConnect');
    socket.setNoDelay(true);
    return new Wire(socket);
  }

  /** Resolves when the kernel has taken it. Says nothing of a connection that is closed: the response tells. */
  async send(bytes: string | Uint8Array): Promise<void> {
    await new Promise<void>((resolve) => this.socket.write(bytes, () => resolve()));
  }

  /** A request line with the headers that every request needs, and more. */
  async request(line: string, headers: readonly string[] = [], body: string | Uint8Array = ''): Promise<void> {
    await this.send(`${line} HTTP/1.1\r\nHost: localhost\r\n${headers.map((header) => `${header}\r\n`).join('')}\r\n`);
    if (body.length > 0) await this.send(body);
  }

  /** The next response, or as much of it as came before the connection was closed; undefined when nothing came. `toHead`: it has no body. */
  async response(toHead = false): Promise<WireResponse | undefined> {
    const end = await this.#until((bytes) => bytes.indexOf('\r\n\r\n'));
    if (end === -1) return undefined;
    const [statusLine = '', ...lines] = this.#take(end).toString('latin1').split('\r\n');
    this.#take(4);
    const status = Number(statusLine.split(' ')[1]);
    const headers = new Map<string, string[]>();
    for (const line of lines) {
      const colon = line.indexOf(':');
      const name = line.slice(0, colon).toLowerCase();
      headers.set(name, [...(headers.get(name) ?? []), line.slice(colon + 1).trim()]);
    }
    const none = toHead || status === 204 || status === 304 || status < 200;
    const length = none ? 0 : Number(headers.get('content-length')?.[0] ?? 0);
    const whole = (await this.#until((_bytes, size) => (size >= length ? length : -1))) !== -1;
    return { status, headers, body: this.#take(whole ? length : Infinity), whole };
  }

  /** Whatever came and was not part of a response. */
  get rest(): string {
    return this.#joined().toString('latin1');
  }

  /** Waits until `find` gives more than -1, or the connection is closed. */
  async #until(find: (bytes: Buffer, size: number) => number): Promise<number> {
    for (;;) {
      const size = this.#pieces.reduce((sum, piece) => sum + piece.length, 0);
      const found = find(this.#pieces[0] ?? Buffer.alloc(0), size);
      if (found !== -1) return found;
      const all = this.#pieces.length > 1 && size < 1_000_000 ? find(this.#joined(), size) : -1;
      if (all !== -1 || this.isClosed) return all;
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
    }
  }

  #joined(): Buffer {
    const [first, ...others] = this.#pieces;
    if (first !== undefined && others.length === 0) return first;
    this.#pieces = [Buffer.concat(this.#pieces)];
    return this.#pieces[0] ?? Buffer.alloc(0);
  }

  #take(bytes: number): Buffer {
    const all = this.#joined();
    this.#pieces = [all.subarray(Math.min(bytes, all.length))];
    return all.subarray(0, Math.min(bytes, all.length));
  }
}
