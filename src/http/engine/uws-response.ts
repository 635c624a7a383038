// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What we use of uWebSockets.js' request and response, with what its typings leave out. `uws-server.ts` checks that the package agrees. */
export interface UwsResponse {
  pause(): unknown;
  resume(): unknown;
  writeStatus(status: string): unknown;
  writeHeader(name: string, value: string): unknown;
  /** Not for large bodies: what the kernel does not take is copied, and then lost if the client takes more than 10 s for the next piece. */
  end(body: string | Uint8Array, closeConnection: boolean): unknown;
  /** Only without arguments: an explicit undefined is written as Content-Length 2^63, and a number loses the connection's next request. */
  endWithoutBody(): unknown;
  /** [all of the chunk was taken, the reply is complete]. */
  tryEnd(chunk: string | Uint8Array, totalBytes: number): [boolean, boolean];
  getWriteOffset(): number;
  onWritable(handler: (offset: number) => boolean): unknown;
  onAborted(handler: () => void): unknown;
  onData(handler: (chunk: ArrayBuffer, last: boolean) => void): unknown;
  cork(writes: () => void): unknown;
  close(): unknown;
  getRemoteAddressAsText(): ArrayBuffer;
  /** The client's verified certificate as PEM, or ''. Only on TLS. */
  getX509Certificate?(): string;
}

export interface UwsRequest {
  getCaseSensitiveMethod(): string;
  getUrl(): string;
  /** Undefined where there is none, whatever the typings say. */
  getQuery(): string | undefined;
  forEach(each: (name: string, value: string) => void): void;
}

/**
 * The only place that pauses and resumes a response, because uWS forgives no mistake there: `resume` without `pause` hangs the connection, and
 * either of them after the reply throws.
 */
export class UwsFlow {
  readonly #response: UwsResponse;
  #finished = false;
  paused = false;

  constructor(response: UwsResponse) {
    this.#response = response;
  }

  pause(): void {
    if (this.#finished || this.paused) return;
    this.paused = true;
    this.#response.pause();
  }

  resume(): void {
    if (this.#finished || !this.paused) return;
    this.paused = false;
    this.#response.resume();
  }

  /** Both together wind up uWS's own timer, which closes a connection that gets less than 16 KiB/s for about 10 s. */
  rewindTimer(): void {
    if (this.#finished || this.paused) return;
    this.#response.pause();
    this.#response.resume();
  }

  /** Before the reply's last byte: reading goes on with the connection's next request, and nothing touches the response any more. */
  finish(): void {
    this.resume();
    this.#finished = true;
  }

  /** The response is gone already. */
  abandon(): void {
    this.#finished = true;
  }
}
