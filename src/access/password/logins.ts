// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Logins by name and password: whoever fails too often waits. */
import type { Request } from '../../http/contract.js';
import { RegistryError } from '../../oci/errors.js';
import { InvalidCredentials } from '../authenticate.js';
import type { Recorder } from '../verdict.js';
import type { Attempt, Passwords, SourcedLogin } from './passwords.js';

export interface Logins {
  /** Rejects with InvalidCredentials, or with TOOMANYREQUESTS before the password is looked at. */
  logIn(request: Request, username: string, password: string): Promise<SourcedLogin>;
}

/** What may refuse attempts, and is told how they end. */
export type AttemptOf = (request: Request, username: string) => Attempt;

export function openLogins(passwords: Passwords, attemptOf?: AttemptOf, recorder?: Recorder): Logins {
  return {
    async logIn(request, username, password) {
      const record = (error: unknown): never => {
        if (error instanceof RegistryError && error.rule !== undefined)
          recorder?.decided(request, { identity: username, action: 'log-in', outcome: 'denied', rule: error.rule });
        throw error;
      };
      const login = await passwords.logIn(username, password, attemptOf?.(request, username)).catch(record);
      if (typeof login === 'string') throw new InvalidCredentials('basic', login, username);
      return login;
    },
  };
}
