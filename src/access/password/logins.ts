// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Logins by name and password: whoever fails too often waits. */
import type { Request } from '../../http/contract.js';
import { InvalidCredentials } from '../authenticate.js';
import type { Attempt, Passwords, SourcedLogin } from './passwords.js';

export interface Logins {
  /** Rejects with InvalidCredentials, or with TOOMANYREQUESTS before the password is looked at. */
  logIn(request: Request, username: string, password: string): Promise<SourcedLogin>;
}

/** What may refuse attempts, and is told how they end. */
export type AttemptOf = (request: Request, username: string) => Attempt;

export function openLogins(passwords: Passwords, attemptOf: AttemptOf | undefined): Logins {
  return {
    async logIn(request, username, password) {
      const login = await passwords.logIn(username, password, attemptOf?.(request, username));
      if (typeof login === 'string') throw new InvalidCredentials('basic', login, username);
      return login;
    },
  };
}
