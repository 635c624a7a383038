// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client, Submittable } from 'pg';

/** What `pg` hands to who speaks COPY himself. */
interface CopyConnection {
  query(text: string): void;
  sendCopyFromChunk(chunk: Buffer): void;
  endCopyFrom(): void;
  readonly stream: Writable;
}

const linesAtOnce = 2_000;
const mostWaitingBytes = 4 << 20;

/** `COPY target FROM STDIN`, in its text format; `line` gives row number i without the line's end. */
export function copyRows(client: Client, target: string, count: number, line: (index: number) => string): Promise<void> {
  return new Promise((resolve, reject) => {
    let failure: Error | undefined;
    const copy = {
      submit: (connection: unknown) => (connection as CopyConnection).query(`COPY ${target} FROM STDIN`),
      handleCopyInResponse: (connection: CopyConnection) => void send(connection, count, line).catch(reject),
      handleCommandComplete: () => undefined,
      handleError: (error: Error) => (failure = error),
      handleReadyForQuery: () => (failure === undefined ? resolve() : reject(failure)),
    };
    client.query(copy as unknown as Submittable);
  });
}

async function send(connection: CopyConnection, count: number, line: (index: number) => string): Promise<void> {
  for (let from = 0; from < count; from += linesAtOnce) {
    const lines = Array.from({ length: Math.min(linesAtOnce, count - from) }, (_, index) => `${line(from + index)}\n`);
    connection.sendCopyFromChunk(Buffer.from(lines.join('')));
    while (connection.stream.writableLength > mostWaitingBytes) await sleep(1);
  }
  connection.endCopyFrom();
}
