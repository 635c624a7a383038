// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { unavailable } from '../database/failures.js';

/**
 * Look-ups in the store, some at a time. One that is asked for again before it has begun is done once for all who asked; so an answer is never older than its
 * question, and a burst of equal ones costs one.
 */
export class SharedLookups {
  private readonly mostAtOnce: number;
  private readonly waiting = new Map<string | symbol, Waiting>();
  private running = 0;
  private scheduled = false;

  constructor(mostAtOnce: number) {
    this.mostAtOnce = mostAtOnce;
  }

  find<T>(name: string | symbol, look: () => Promise<T>): Promise<T> {
    const same = this.waiting.get(name);
    if (same !== undefined) return same.answer as Promise<T>;
    if (this.waiting.size >= mostWaiting) return Promise.reject(unavailable('too many look-ups wait for the store'));
    const { promise: turn, resolve: begin } = deferred();
    const answer = turn.then(look);
    this.waiting.set(name, { begin, answer });
    const ended = (): void => {
      this.running--;
      this.beginSome();
    };
    answer.then(ended, ended);
    if (!this.scheduled) {
      this.scheduled = true;
      // What else this turn of the event loop asks for may be the same.
      setImmediate(() => {
        this.scheduled = false;
        this.beginSome();
      });
    }
    return answer;
  }

  private beginSome(): void {
    for (const [name, { begin }] of this.waiting) {
      if (this.running >= this.mostAtOnce) return;
      this.waiting.delete(name);
      this.running++;
      begin();
    }
  }
}

function deferred(): { readonly promise: Promise<void>; readonly resolve: () => void } {
  let resolve: (() => void) | undefined;
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve: () => resolve?.() };
}

interface Waiting {
  readonly begin: () => void;
  readonly answer: Promise<unknown>;
}

/** As many as connections are served by default. */
const mostWaiting = 10_000;
