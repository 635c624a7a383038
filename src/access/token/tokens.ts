// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Tokens that this registry signs: short ones that open repositories, and long ones that are exchanged for those. */
import { randomUUID } from 'node:crypto';
import { jwtVerify, SignJWT, type JWTPayload } from 'jose';
import { InvalidCredentials } from '../authenticate.js';
import { anonymous, isAnonymous, makeIdentity, type Identity } from '../identity.js';
import { refusalOf } from './refusal.js';
import { recheckAfterMs, type TokenCheck } from './remember-tokens.js';
import type { Grant } from './scopes.js';
import type { KeyRing } from './signing-key.js';

export interface TokenSettings {
  readonly service: string;
  readonly lifetimeMs: number;
  readonly refreshLifetimeMs: number;
}

export interface IssuedToken {
  readonly token: string;
  readonly issuedAt: Date;
  readonly expiresInSeconds: number;
}

/** What a refresh token says; whether that still holds is for others to find out. */
export interface RefreshClaims {
  readonly source: string;
  readonly username: string;
  readonly id: string;
  readonly stamp: string;
  readonly issuedMs: number;
}

export interface Tokens {
  readonly check: TokenCheck;
  /** Ends before `untilMs` in any case. */
  issue(identity: Identity, grants: readonly Grant[], untilMs?: number): Promise<IssuedToken>;
  issueRefresh(claims: Omit<RefreshClaims, 'issuedMs'>): Promise<string>;
  /** Undefined where it is none of ours, or not any more. */
  readRefresh(token: string): Promise<RefreshClaims | undefined>;
}

/** Clocks of nodes differ a little. */
const toleranceSeconds = 10;
const mostIdentities = 20_000;
const algorithm = 'ES256';

export function openTokens(keys: KeyRing, { service, lifetimeMs, refreshLifetimeMs }: TokenSettings, now: () => number = Date.now): Tokens {
  /** Tokens of one identity share the object, which carries its remembered decisions; a workload has one token at a time. */
  const identities = new Map<string, Identity>();
  const sign = (payload: JWTPayload, type: string, lifetime: number, issuedMs: number): Promise<string> => {
    const { id, privateKey } = keys.current();
    const seconds = Math.floor(issuedMs / 1000);
    return new SignJWT(payload)
      .setProtectedHeader({ alg: algorithm, typ: type, kid: id })
      .setIssuer(service)
      .setAudience(service)
      .setIssuedAt(seconds)
      .setNotBefore(seconds)
      .setExpirationTime(seconds + Math.floor(lifetime / 1000))
      .setJti(randomUUID())
      .sign(privateKey);
  };
  const keyOf = async ({ kid }: { kid?: string }) => {
    const found = kid === undefined ? undefined : await keys.find(kid);
    if (found === undefined) throw new InvalidCredentials('bearer', 'a token of an unknown key');
    return found.publicKey;
  };
  /** None counts for longer than it would if it were given now, whatever it says: a lifetime that was made shorter holds for those that there are. */
  const read = async (token: string, typ: string, longestMs: number): Promise<JWTPayload> => {
    const ours = { algorithms: [algorithm], typ, issuer: service, audience: service, requiredClaims: ['exp', 'nbf', 'sub'] };
    const times = { clockTolerance: toleranceSeconds, maxTokenAge: Math.floor(longestMs / 1000), currentDate: new Date(now()) };
    const { payload } = await jwtVerify(token, keyOf, { ...ours, ...times });
    return payload;
  };
  const identityOf = (payload: JWTPayload): Identity => {
    const { sub: id = '', identity } = payload as JWTPayload & { identity?: Omit<Identity, 'id' | 'certificate'> };
    if (id === '' || identity === undefined) return anonymous;
    const { username, ...more } = identity;
    if (Object.keys(more.claims).length > 0) return makeIdentity(id, username, more);
    const name = JSON.stringify([id, identity]);
    const known = identities.get(name) ?? makeIdentity(id, username, more);
    if (identities.size >= mostIdentities) identities.clear();
    identities.set(name, known);
    return known;
  };
  const check: TokenCheck = async (token) => {
    let payload: JWTPayload;
    try {
      payload = await read(token, 'JWT', lifetimeMs);
    } catch (error) {
      throw new InvalidCredentials('bearer', refusalOf(error));
    }
    const { access = [], exp = 0, iat = 0 } = payload as JWTPayload & { access?: readonly Grant[] };
    const authenticated = { identity: identityOf(payload), grants: access, source: 'token' };
    const endMs = Math.min(exp * 1000, iat * 1000 + lifetimeMs) + toleranceSeconds * 1000;
    return { authenticated, untilMs: Math.min(endMs, now() + recheckAfterMs) };
  };
  return {
    check,
    async issue(identity, grants, untilMs = Infinity) {
      const issuedMs = now();
      const seconds = Math.floor(Math.min(lifetimeMs, Math.max(0, untilMs - issuedMs)) / 1000);
      // A certificate counts where it is shown, and not where a token tells of it.
      const { id, certificate: _shown, ...rest } = identity;
      const who = isAnonymous(identity) ? { sub: '' } : { sub: id, identity: rest };
      const token = await sign({ ...who, access: [...grants] }, 'JWT', seconds * 1000, issuedMs);
      return { token, issuedAt: new Date(issuedMs), expiresInSeconds: seconds };
    },
    issueRefresh: ({ id, ...claims }) => sign({ sub: id, ...claims }, refreshType, refreshLifetimeMs, now()),
    async readRefresh(token) {
      try {
        const { sub = '', iat = 0, source, username, stamp } = await read(token, refreshType, refreshLifetimeMs);
        return { id: sub, source: String(source), username: String(username), stamp: String(stamp), issuedMs: iat * 1000 };
      } catch {
        return undefined;
      }
    },
  };
}

const refreshType = 'refresh+jwt';
