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

/** Directories take names in any case, and with any number of spaces. */
function foldedName(username: string): string {
  return username.slice(0, longestName).normalize('NFKC').trim().replace(/\s+/g, ' ').toLowerCase();
}

const mostKnown = 50_000;
const longestName = 255;

/**
 * Failures alone count, and attempts while they are under way, by address and by name; a name's do not count where its owner has logged in from that address before, so
 * that nobody who guesses a password can keep its owner out of where they usually are.
 */
export function openFailedLogins(rates: FailedLoginRates, { addressOf, onLimited, onFailed, now }: FailedLoginParts): AttemptOf {
  const byAddress = rates.per_address === undefined ? undefined : new RateLimiter(rates.per_address, now);
  const byUsername = rates.per_username === undefined ? undefined : new RateLimiter(rates.per_username, now);
  const known = new Set<string>();
  const take = (limiter: RateLimiter | undefined, key: string, name: keyof FailedLoginRates): void => {
    const waitMs = limiter?.take(key) ?? 0;
    if (waitMs === 0) return;
    onLimited(`failed_logins.${name}`);
    throw tooMany('too many failed logins', waitMs, `limits.failed_logins.${name}`);
  };
  return (request, username) => {
    const address = addressOf(request);
    const from = address === undefined ? undefined : addressKey(address);
    const name = foldedName(username);
    const home = `${from} ${name}`;
    const isKnown = known.has(home);
    return {
      begin() {
        if (from === undefined) return;
        take(byAddress, from, 'per_address');
        try {
          if (!isKnown) take(byUsername, name, 'per_username');
        } catch (error) {
          byAddress?.giveBack(from);
          throw error;
        }
      },
      end(result) {
        if (result === 'wrong') onFailed();
        if (from === undefined || result === 'wrong') return;
        byAddress?.giveBack(from);
        if (!isKnown) byUsername?.giveBack(name);
        if (result === 'undecided') return;
        known.delete(home);
        known.add(home);
        if (known.size > mostKnown) known.delete(known.keys().next().value ?? '');
      },
    };
  };
}
