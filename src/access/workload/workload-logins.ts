// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** `docker login` of a workload: its token in the place of a password, under any name. */
import { InvalidCredentials, type TokenVerifier } from '../authenticate.js';
import type { Logins } from '../password/logins.js';
import { claimedIssuer } from '../token/foreign-token.js';
import type { Workloads } from './workloads.js';

/** What has the form of a token goes to the keys of its issuer and nowhere else: no directory and no hash is shown one. */
export function withWorkloads(logins: Logins, workloads: Pick<Workloads, 'trusts'>, tokens: TokenVerifier): Logins {
  return {
    async logIn(request, username, password) {
      const issuer = claimedIssuer(password);
      if (issuer === undefined) return logins.logIn(request, username, password);
      if (!workloads.trusts(issuer)) throw new InvalidCredentials('basic', 'a token of an issuer that is not trusted', username);
      try {
        const { identity, source, expiresMs } = await tokens.verify(password);
        return { identity, stamp: '', source, expiresMs };
      } catch (error) {
        throw error instanceof InvalidCredentials ? new InvalidCredentials('basic', error.reason, username) : error;
      }
    },
  };
}
