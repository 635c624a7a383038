// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { Agent as HttpAgent, request as httpRequest, type ClientRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';

export interface SendSettings {
  /** Certificates to trust, as PEM; Node's when undefined. */
  readonly ca?: readonly string[] | undefined;
  /** Sockets of one worker; further requests wait for one. */
  readonly mostSockets: number;
  readonly connectMs: number;
  /** Without a byte in either direction for this long, the request has failed. */
  readonly idleMs: number;
}

/** A signed request whose body is `length` bytes of `buffer`, which is transferred with it. */
export interface SendTask {
  readonly url: string;
  readonly method: string;
  readonly headers: Record<string, string>;
  readonly buffer: ArrayBuffer;
  readonly length: number;
}

/** The answer, or why there is none; the buffer is back in any case, and nothing reads it any more. */
export type Sent = { readonly buffer: ArrayBuffer } & (
  | { readonly status: number; readonly headers: Record<string, string>; readonly body: Uint8Array; readonly failure?: never }
  | { readonly failure: { readonly code: string; readonly message: string } }
);

/** Answers to parts are a few headers, or an error of some hundred bytes. */
const mostAnswerBytes = 1024 * 1024;

/**
 * Sends signed requests whose body is a buffer. The request that is answered before all of it was sent is cut, so that nothing reads the buffer any more when it is
 * given back.
 */
export function openSender({ ca, mostSockets, connectMs, idleMs }: SendSettings): (task: SendTask) => Promise<Sent> {
  const options = { keepAlive: true, maxSockets: mostSockets };
  const http = new HttpAgent(options);
  const https = new HttpsAgent(ca === undefined ? options : { ...options, ca: [...ca] });
  const open = (url: string, { method, headers }: SendTask): ClientRequest =>
    url.startsWith('https:') ? httpsRequest(url, { agent: https, method, headers }) : httpRequest(url, { agent: http, method, headers });
  return async (task) => {
    const { url, buffer, length } = task;
    let request: ClientRequest | undefined;
    try {
      request = open(url, task);
      const response = await exchange(request, Buffer.from(buffer, 0, length), connectMs, idleMs);
      const body = await read(response);
      return { buffer, status: response.statusCode ?? 0, headers: singleHeaders(response), body };
    } catch (error) {
      const { code = 'UNKNOWN', message } = error as NodeJS.ErrnoException;
      return { buffer, failure: { code, message } };
    } finally {
      if (request?.writableFinished !== true) request?.destroy();
    }
  };
}

function exchange(request: ClientRequest, body: Buffer, connectMs: number, idleMs: number): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    request.once('response', resolve);
    request.on('error', reject);
    const late = (text: string): void => {
      request.destroy(Object.assign(new Error(text), { code: 'ETIMEDOUT' }));
    };
    // It begins when there is a connection, for which the kernel alone would wait two minutes.
    request.setTimeout(idleMs, () => late(`the object store moved no byte for ${idleMs} ms`));
    request.once('socket', (socket) => {
      if (!socket.connecting) return;
      const timer = setTimeout(() => late(`the object store did not take a connection within ${connectMs} ms`), connectMs);
      for (const event of ['connect', 'close']) socket.once(event, () => clearTimeout(timer));
    });
    request.end(body);
  });
}

async function read(response: IncomingMessage): Promise<Uint8Array> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of response as AsyncIterable<Buffer>) {
    bytes += piece.byteLength;
    if (bytes > mostAnswerBytes) throw new Error('the object store answers a part with too much');
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}

function singleHeaders({ headers }: IncomingMessage): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [name, Array.isArray(value) ? value.join(', ') : (value ?? '')]),
  );
}
