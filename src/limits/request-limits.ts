// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** How often an address, or an identity, may ask. */
import type { Request } from '../http/contract.js';
import { RateLimiter, type Rate } from './rate-limiter.js';
import { addressKey, tooMany } from './too-many.js';

export interface RequestRates {
  readonly per_address: Rate | undefined;
  readonly per_identity: Rate | undefined;
  readonly anonymous: Rate | undefined;
}

/** Both throw TOOMANYREQUESTS. */
export interface RequestLimits {
  /** Before it is even known who asks. */
  admitAddress(request: Request): void;
  /** An empty id is anonymous, which counts by address. */
  admitIdentity(request: Request, id: string): void;
}

export interface RequestLimitParts {
  /** Undefined for those that are not counted. */
  readonly addressOf: (request: Request) => string | undefined;
  readonly onLimited: (limit: string) => void;
  readonly now: () => number;
}

/** Undefined where there is none. */
export function openRequestLimits(rates: RequestRates, { addressOf, onLimited, now }: RequestLimitParts): RequestLimits | undefined {
  const limiterOf = (rate: Rate | undefined): RateLimiter | undefined => (rate === undefined ? undefined : new RateLimiter(rate, now));
  const byAddress = limiterOf(rates.per_address);
  const byIdentity = limiterOf(rates.per_identity);
  const anonymous = limiterOf(rates.anonymous);
  if (byAddress === undefined && byIdentity === undefined && anonymous === undefined) return undefined;
  const take = (limiter: RateLimiter, key: string, name: keyof RequestRates, who: string): void => {
    const waitMs = limiter.take(key);
    if (waitMs === 0) return;
    onLimited(name);
    throw tooMany(`too many requests ${who}`, waitMs, `limits.requests.${name}`);
  };
  return {
    admitAddress(request) {
      if (byAddress === undefined) return;
      const address = addressOf(request);
      if (address !== undefined) take(byAddress, addressKey(address), 'per_address', 'from this address');
    },
    admitIdentity(request, id) {
      const limiter = id === '' ? anonymous : byIdentity;
      if (limiter === undefined) return;
      const address = addressOf(request);
      if (address === undefined) return;
      if (id === '') take(limiter, addressKey(address), 'anonymous', 'from this address without a login');
      else take(limiter, id, 'per_identity', 'of this identity');
    },
  };
}
