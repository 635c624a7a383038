// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Tells the operator of policies that fail: each at most once a minute, since whoever asks chooses the names that it is asked about. */
import type { OnPolicyError } from './authorize.js';

const againMs = 60_000;

export function tellPolicyFailures(warn: (message: string, error: unknown) => void, now: () => number = Date.now): OnPolicyError {
  const told = new Map<string, { atMs: number; untold: number }>();
  return (error, rule, { id }, { action, namespace }) => {
    const last = told.get(rule);
    if (last !== undefined && now() - last.atMs < againMs) {
      last.untold++;
      return;
    }
    told.set(rule, { atMs: now(), untold: 0 });
    const who = id === '' ? 'anonymous' : id;
    const more = last === undefined || last.untold === 0 ? '' : ` (${last.untold} more times since the last line)`;
    warn(`a policy failed, so it denied ${action} in ${namespace ?? ''} to ${who}: ${rule}${more}`, error);
  };
}
