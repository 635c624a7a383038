// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Request } from '../http/contract.js';
import type { Action } from './actions.js';
import type { InvalidCredentials } from './authenticate.js';

/** What was decided about a request, and in which words of the configuration. */
export interface Verdict {
  /** The identity's id, or the name that somebody claimed; empty for anonymous. */
  readonly identity: string;
  /** What proved it: the source of a password, `token`; undefined where nothing did. */
  readonly source?: string | undefined;
  readonly action: Action | 'issue-token' | 'log-in';
  readonly outcome: 'allowed' | 'denied';
  readonly rule: string;
  /** Of a login that failed; clients are never told. */
  readonly reason?: string | undefined;
  /** Of a token that was issued. */
  readonly scope?: string;
}

/** Keeps what is decided until the request is answered. */
export interface Recorder {
  decided(request: Request, verdict: Verdict): void;
  /** What was admitted at first was refused after all, or in part. */
  refused(request: Request, rule: string): void;
}

export function failedLogin({ reason, username }: InvalidCredentials, action: Verdict['action']): Verdict {
  return { identity: username, action, outcome: 'denied', rule: 'a login that failed', reason };
}
