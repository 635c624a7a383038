// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { S3ClientConfig } from '@aws-sdk/client-s3';
import { isFull, isPassing } from './s3-failures.js';

type RetryStrategy = Extract<S3ClientConfig['retryStrategy'], { acquireInitialRetryToken: unknown }>;
type Token = Awaited<ReturnType<RetryStrategy['acquireInitialRetryToken']>>;

const firstPauseMs = 100;
const longestPauseMs = 4_000;

/** 0.1, 0.2, 0.4 … 4 s, half of it at random, so that those who were refused together do not come back together. */
export function pauseBefore(retry: number): number {
  const pause = Math.min(longestPauseMs, firstPauseMs * 2 ** (retry - 1));
  return pause * (0.5 + Math.random() / 2);
}

/**
 * Tries again what a new attempt may cure (throttling, 5xx, lost connections), beginning attempts for `withinMs`. Unlike the SDK's own strategy it has no budget that
 * all requests share: in an outage each of them waits for itself, and none fails because others did before it.
 */
export function retrying(withinMs: number): RetryStrategy {
  const begun = new WeakMap<Token, number>();
  const token = (retries: number, delayMs: number, since: number): Token => {
    const made = { getRetryCount: () => retries, getRetryDelay: () => delayMs } as Token;
    begun.set(made, since);
    return made;
  };
  return {
    acquireInitialRetryToken: () => Promise.resolve(token(0, 0, performance.now())),
    refreshRetryTokenForRetry(spent, { error, errorType, retryAfterHint }) {
      const since = begun.get(spent) ?? 0;
      const retry = spent.getRetryCount() + 1;
      const asked = retryAfterHint === undefined ? 0 : Math.min(longestPauseMs, retryAfterHint.getTime() - Date.now());
      const pause = Math.max(asked, pauseBefore(retry));
      const curable = !isFull(error) && (errorType === 'TRANSIENT' || errorType === 'THROTTLING' || isPassing(error));
      if (!curable || performance.now() + pause > since + withinMs) return Promise.reject(new Error('another attempt would not help'));
      return Promise.resolve(token(retry, pause, since));
    },
    recordSuccess: () => undefined,
  };
}
