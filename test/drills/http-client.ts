// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** HTTP as a drill needs it: an answer counts only when it arrived whole, and a request that was never sent is told apart from one in doubt. */
import { request, type Agent, type IncomingHttpHeaders } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

export interface Unanswered {
  readonly sent: boolean;
  /** On a connection that had been idle: it may have been closed as the request was sent. */
  readonly reused: boolean;
  readonly reason: string;
}

export interface Message {
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Buffer | undefined;
  /** Sends the body in pieces of this many bytes, without saying how long it is. */
  readonly pieceBytes?: number;
  /** Rests between two pieces. */
  readonly pauseMs?: number;
}

export interface Target {
  readonly port: number;
  readonly agent: Agent;
}

export function exchange(target: Target, method: string, path: string, message: Message = {}): Promise<Answer | Unanswered> {
  const { body, pieceBytes } = message;
  const length = pieceBytes === undefined ? { 'Content-Length': String(body?.byteLength ?? 0) } : { 'Transfer-Encoding': 'chunked' };
  const type = body === undefined ? {} : { 'Content-Type': 'application/octet-stream' };
  return new Promise((resolve) => {
    const outgoing = request({
      host: '127.0.0.1',
      port: target.port,
      agent: target.agent,
      method,
      path,
      headers: { ...type, ...(method === 'GET' || method === 'HEAD' ? {} : length), ...message.headers },
      timeout: answerWithinMs,
    });
    const lost = (error: Error) => {
      resolve({ sent: (error as NodeJS.ErrnoException).code !== 'ECONNREFUSED', reused: outgoing.reusedSocket, reason: error.message });
      outgoing.destroy();
    };
    outgoing.on('timeout', () => lost(new Error(`nothing for ${answerWithinMs} ms`)));
    outgoing.on('error', lost);
    outgoing.on('response', (incoming) => {
      const pieces: Buffer[] = [];
      incoming.on('data', (piece: Buffer) => pieces.push(piece));
      incoming.on('error', lost);
      incoming.on('end', () => {
        if (!incoming.complete) return lost(new Error('the answer broke off'));
        resolve({ status: incoming.statusCode ?? 0, headers: incoming.headers, body: Buffer.concat(pieces) });
      });
      incoming.on('close', () => lost(new Error('the answer broke off')));
    });
    if (body === undefined || pieceBytes === undefined) outgoing.end(body);
    else void sendPieces(outgoing, body, pieceBytes, message.pauseMs ?? 0);
  });
}

const answerWithinMs = 40_000;

async function sendPieces(outgoing: ReturnType<typeof request>, body: Buffer, pieceBytes: number, pauseMs: number): Promise<void> {
  const closed = new Promise((resolve) => outgoing.once('close', resolve));
  for (let offset = 0; offset < body.byteLength && !outgoing.destroyed; offset += pieceBytes) {
    const drained = outgoing.write(body.subarray(offset, offset + pieceBytes));
    if (!drained) await Promise.race([new Promise((resolve) => outgoing.once('drain', resolve)), closed]);
    if (pauseMs > 0) await sleep(pauseMs);
  }
  outgoing.end();
}
