// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { RequestObserver } from '../http/contract.js';

/** Those that are there, as one. */
export function together(first: RequestObserver, ...others: readonly (RequestObserver | undefined)[]): RequestObserver {
  return others.reduce<RequestObserver>((before, next) => (next === undefined ? before : both(before, next)), first);
}

function both(first: RequestObserver, second: RequestObserver): RequestObserver {
  return {
    begun(request) {
      first.begun(request);
      second.begun(request);
    },
    done(request) {
      first.done(request);
      second.done(request);
    },
  };
}
