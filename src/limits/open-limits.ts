// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Opens the limits as they are configured. They are this node's own, in its memory. */
import type { AttemptOf } from '../access/password/logins.js';
import { addressesIn, type ClientAddress } from '../http/client-address.js';
import type { Request } from '../http/contract.js';
import type { Metrics } from '../observe/metrics.js';
import { openFailedLogins, type FailedLoginRates } from './failed-logins.js';
import { openRequestLimits, type RequestLimits, type RequestRates } from './request-limits.js';

export interface LimitSettings {
  readonly requests: RequestRates;
  readonly failed_logins: FailedLoginRates;
  readonly exempt: readonly string[];
}

export interface LimitCounters {
  onLimited(this: void, limit: string): void;
  onFailed(this: void): void;
}

export interface Limits {
  readonly requests: RequestLimits | undefined;
  readonly attemptOf: AttemptOf;
}

/** Once in a process, whatever the limits become. */
export function countLimits(metrics: Metrics): LimitCounters {
  const limited = metrics.counter('registry_limited_requests_total', 'Requests that were answered 429.', ['limit']);
  const failures = metrics.counter('registry_failed_logins_total', 'Passwords that were wrong.', []).with();
  return { onLimited: (limit) => limited.with(limit).add(), onFailed: () => failures.add() };
}

export function openLimits(
  { requests, failed_logins: failed, exempt }: LimitSettings,
  clientOf: ClientAddress,
  { onLimited, onFailed }: LimitCounters,
): Limits {
  const isExempt = addressesIn(exempt);
  const addressOf = (request: Request): string | undefined => {
    const address = clientOf(request);
    return exempt.length > 0 && isExempt(address) ? undefined : address;
  };
  const parts = { addressOf, onLimited, now: () => performance.now() };
  return {
    requests: openRequestLimits(requests, parts),
    attemptOf: openFailedLogins(failed, { ...parts, onFailed }),
  };
}
