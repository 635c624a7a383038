// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** How often somebody may be wrong about a password before they wait. */
import type { AttemptOf } from '../access/password/logins.js';
import type { Request } from '../http/contract.js';
import { RateLimiter, type Rate } from './rate-limiter.js';
import { addressKey, tooMany } from './too-many.js';

export interface FailedLoginRates {
  readonly per_address: Rate | undefined;
  readonly per_username: Rate | undefined;
}

export interface FailedLoginParts {
  /** Undefined for those that are not counted. */
  readonly addressOf: (request: Request) => string | undefined;
  readonly onLimited: (limit: string) => void;
  readonly onFailed: () => void;
  readonly now: () => number;
}

const mostKnown = 50_000;
const longestName = 255;

/**
 * Failures alone count, by address and by name; a name's do not count where its owner has logged in from that address before, so that nobody who guesses a password
 * can keep its owner out of where they usually are.
 */
export function openFailedLogins(rates: FailedLoginRates, { addressOf, onLimited, onFailed, now }: FailedLoginParts): AttemptOf {
  const byAddress = rates.per_address === undefined ? undefined : new RateLimiter(rates.per_address, now);
  const byUsername = rates.per_username === undefined ? undefined : new RateLimiter(rates.per_username, now);
  const known = new Set<string>();
  const refuseAfter = (limiter: RateLimiter | undefined, key: string, name: keyof FailedLoginRates): void => {
    const waitMs = limiter?.wait(key) ?? 0;
    if (waitMs === 0) return;
    onLimited(`failed_logins.${name}`);
    throw tooMany('too many failed logins', waitMs, `limits.failed_logins.${name}`);
  };
  return (request, username) => {
    const address = addressOf(request);
    const from = address === undefined ? undefined : addressKey(address);
    const name = username.slice(0, longestName);
    const home = `${from} ${name}`;
    return {
      begin() {
        if (from === undefined) return;
        refuseAfter(byAddress, from, 'per_address');
        if (!known.has(home)) refuseAfter(byUsername, name, 'per_username');
      },
      end(succeeded) {
        if (!succeeded) onFailed();
        if (from === undefined) return;
        if (succeeded) {
          known.delete(home);
          known.add(home);
          if (known.size > mostKnown) known.delete(known.keys().next().value ?? '');
          return;
        }
        byAddress?.spend(from);
        if (!known.has(home)) byUsername?.spend(name);
      },
    };
  };
}
