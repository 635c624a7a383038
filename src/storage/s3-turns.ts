// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { finished, type Readable } from 'node:stream';
import type { S3Client } from '@aws-sdk/client-s3';

/**
 * At most `most` of the client's requests are under way; each other one waits its turn, for `longestMs`. An agent with that many sockets would let a request's own
 * timeouts run while it waits for one.
 */
export function takingTurns(client: S3Client, most: number, longestMs: number): void {
  const waiting = new Set<() => void>();
  let underWay = 0;
  const turn = (): Promise<void> => {
    if (underWay < most) {
      underWay++;
      return Promise.resolve();
    }
    return new Promise((resolve, reject) => {
      const go = (): void => {
        clearTimeout(timer);
        resolve();
      };
      const timer = setTimeout(() => {
        waiting.delete(go);
        reject(Object.assign(new Error(`${most} other requests were under way for ${longestMs} ms`), { name: 'TimeoutError' }));
      }, longestMs);
      waiting.add(go);
    });
  };
  const end = (): void => {
    const [next] = waiting;
    if (next === undefined) underWay--;
    else {
      waiting.delete(next);
      next();
    }
  };
  client.middlewareStack.add(
    (next) => async (args) => {
      await turn();
      let result;
      try {
        result = await next(args);
      } catch (error) {
        end();
        throw error;
      }
      finished((result.response as { body: Readable }).body, { writable: false }, end);
      return result;
    },
    // Around each attempt, and nothing else.
    { step: 'deserialize', priority: 'low', name: 'takingTurns' },
  );
}
