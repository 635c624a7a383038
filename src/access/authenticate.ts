// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Who a request comes from, by its Authorization header, else by its connection's certificate. */
import type { Request } from '../http/contract.js';
import type { ClientCertificates } from './certificate/client-certificates.js';
import { withCertificate } from './certificate/with-certificate.js';
import type { Identity } from './identity.js';
import type { Logins } from './password/logins.js';
import type { Grant } from './token/scopes.js';

export interface Authenticated {
  readonly identity: Identity;
  /** What a token is limited to; undefined for whoever proved the identity itself. */
  readonly grants: readonly Grant[] | undefined;
  /** What proved it, for the audit log. */
  readonly source: string;
  /** When what proved it ends by itself. */
  readonly expiresMs?: number;
  /** By a token of `access.token.external`, which decides alone where no policy does. */
  readonly isExternal?: boolean;
}

/** The credentials are wrong, or nothing that we know. Which of it, and of whom, is for the audit log alone. */
export class InvalidCredentials extends Error {
  readonly scheme: 'basic' | 'bearer';
  readonly reason: string;
  readonly username: string;

  constructor(scheme: 'basic' | 'bearer', reason = 'malformed credentials', username = '') {
    super(scheme === 'basic' ? 'wrong username or password' : 'the token is not valid, or not any more');
    this.scheme = scheme;
    this.reason = reason;
    this.username = username;
  }
}

export interface TokenVerifier {
  /** At once for a token that was seen before. Throws, or rejects with, InvalidCredentials. */
  verify(token: string): Authenticated | Promise<Authenticated>;
}

export interface Authenticator {
  /** Undefined when the request says nothing. Throws, or rejects with, InvalidCredentials. */
  authenticate(request: Request): Authenticated | undefined | Promise<Authenticated>;
}

export function openAuthenticator(
  logins: Logins,
  tokens: TokenVerifier,
  certificates?: Pick<ClientCertificates, 'identityOf'>,
): Authenticator {
  const byHeader = openHeaderAuthenticator(logins, tokens);
  if (certificates === undefined) return byHeader;
  return {
    authenticate(request) {
      const shown = certificates.identityOf(request);
      const proved = byHeader.authenticate(request);
      if (proved === undefined) return shown === undefined ? undefined : { identity: shown, grants: undefined, source: 'certificate' };
      const complete = (by: Authenticated): Authenticated => ({ ...by, identity: withCertificate(by.identity, shown) });
      if (shown === undefined) return proved;
      return proved instanceof Promise ? proved.then(complete) : complete(proved);
    },
  };
}

function openHeaderAuthenticator(logins: Logins, tokens: TokenVerifier): Authenticator {
  return {
    authenticate(request) {
      const header = request.header('authorization');
      if (header === undefined) return undefined;
      if (/^bearer /i.test(header)) return tokens.verify(header.slice(7));
      const basic = parseBasic(header);
      if (basic === undefined) throw new InvalidCredentials('basic');
      const login = logins.logIn(request, basic.username, basic.password);
      return login.then(({ identity, source }) => ({ identity, grants: undefined, source }));
    },
  };
}

/** RFC 7617. */
export function parseBasic(header: string): { readonly username: string; readonly password: string } | undefined {
  const [, encoded] = /^basic +([A-Za-z0-9+/_=-]+)$/i.exec(header) ?? [];
  if (encoded === undefined) return undefined;
  const text = Buffer.from(encoded, 'base64').toString('utf8');
  const colon = text.indexOf(':');
  return colon < 0 ? undefined : { username: text.slice(0, colon), password: text.slice(colon + 1) };
}
