// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * StartTLS (RFC 4511, 4.14) on a socket of our own, and not by the library: what came in clear together with the answer would stay in its parser, and be taken for the
 * beginning of what the server says afterwards.
 */
import type { Socket } from 'node:net';

/** ExtendedRequest 1.3.6.1.4.1.1466.20037 with the message id 1. */
const request = Buffer.concat([Buffer.from('301d02010177188016', 'hex'), Buffer.from('1.3.6.1.4.1.1466.20037')]);
/** An answer has a code and two short texts. */
const longestAnswer = 4_096;

/** Resolves when the server waits for the handshake. Rejects where it refuses. */
export function askForTls(socket: Socket): Promise<void> {
  return new Promise((resolve, reject) => {
    let received: Buffer = Buffer.alloc(0);
    const end = (error?: Error): void => {
      socket.off('data', onData).off('error', end).off('close', onClose);
      if (error === undefined) resolve();
      else reject(error);
    };
    const onClose = (): void => end(new Error('the server closed the connection instead of starting TLS'));
    const onData = (bytes: Buffer): void => {
      received = Buffer.concat([received, bytes]);
      const answer = parseAnswer(received);
      if (answer === 'incomplete') return;
      socket.pause();
      end(answer === 'started' ? undefined : new Error(`the server does not start TLS: ${answer}`));
    };
    socket.on('data', onData).on('error', end).on('close', onClose);
    socket.write(request);
  });
}

/** What it is instead of started. */
export function parseAnswer(bytes: Buffer): string {
  const message = element(bytes, 0);
  if (message === undefined) return bytes.length > longestAnswer ? 'the answer is too long' : 'incomplete';
  if (bytes.length > message.end) return 'there is more than an answer';
  const id = element(bytes, message.start);
  const operation = id === undefined ? undefined : element(bytes, id.end);
  const result = operation === undefined ? undefined : element(bytes, operation.start);
  if (
    bytes[0] !== 0x30 ||
    result === undefined ||
    operation === undefined ||
    bytes[id?.end ?? 0] !== 0x78 ||
    bytes[operation.start] !== 0x0a
  )
    return 'the answer is not understood';
  const code = bytes.subarray(result.start, result.end).toString('hex');
  return code === '00' ? 'started' : `result code 0x${code}`;
}

/** A BER element's content, as far as it is there. */
function element(bytes: Buffer, at: number): { readonly start: number; readonly end: number } | undefined {
  const first = bytes[at + 1];
  if (first === undefined) return undefined;
  const more = first < 0x80 ? 0 : first - 0x80;
  const start = at + 2 + more;
  if (more > 4 || bytes.length < start) return undefined;
  const end = start + (more === 0 ? first : bytes.readUIntBE(at + 2, more));
  return bytes.length < end ? undefined : { start, end };
}
