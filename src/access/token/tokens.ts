// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Tokens that this registry signs: short ones that open repositories, and long ones that are exchanged for those. */
import { randomUUID } from 'node:crypto';
import { jwtVerify, SignJWT, type JWTPayload } from 'jose';
import { InvalidCredentials, type Authenticated, type TokenVerifier } from '../authenticate.js';
import { anonymous, isAnonymous, makeIdentity, type Identity } from '../identity.js';
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

export interface Tokens extends TokenVerifier {
  issue(identity: Identity, grants: readonly Grant[]): Promise<IssuedToken>;
  issueRefresh(claims: Omit<RefreshClaims, 'issuedMs'>): Promise<string>;
  /** Undefined where it is none of ours, or not any more. */
  readRefresh(token: string): Promise<RefreshClaims | undefined>;
}

/** Clocks of nodes differ a little. */
const toleranceSeconds = 10;
const mostRemembered = 20_000;
const algorithm = 'ES256';

export function openTokens(keys: KeyRing, { service, lifetimeMs, refreshLifetimeMs }: TokenSettings, now: () => number = Date.now): Tokens {
  const remembered = new Map<string, { readonly authenticated: Authenticated; readonly untilMs: number }>();
  /** Tokens of one identity share the object, which carries its remembered decisions. */
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
  const read = async (token: string, typ: string): Promise<JWTPayload> => {
    const options = { algorithms: [algorithm], typ, issuer: service, audience: service, clockTolerance: toleranceSeconds };
    const { payload } = await jwtVerify(token, keyOf, { ...options, requiredClaims: ['exp', 'nbf', 'sub'], currentDate: new Date(now()) });
    return payload;
  };
  const identityOf = (payload: JWTPayload): Identity => {
    const { sub: id = '', identity } = payload as JWTPayload & { identity?: Omit<Identity, 'id'> };
    if (id === '' || identity === undefined) return anonymous;
    const { username, ...more } = identity;
    const name = JSON.stringify([id, identity]);
    const known = identities.get(name) ?? makeIdentity(id, username, more);
    if (identities.size >= mostRemembered) identities.clear();
    identities.set(name, known);
    return known;
  };
  const verify = async (token: string): Promise<Authenticated> => {
    let payload: JWTPayload;
    try {
      payload = await read(token, 'JWT');
    } catch (error) {
      throw new InvalidCredentials('bearer', refusalOf(error));
    }
    const { access = [], exp = 0 } = payload as JWTPayload & { access?: readonly Grant[] };
    const authenticated = { identity: identityOf(payload), grants: access, source: 'token' };
    if (remembered.size >= mostRemembered) remembered.delete(remembered.keys().next().value ?? '');
    remembered.set(token, { authenticated, untilMs: (exp + toleranceSeconds) * 1000 });
    return authenticated;
  };
  return {
    /** Checking a signature takes longer than serving a manifest. */
    verify(token) {
      const known = remembered.get(token);
      if (known === undefined) return verify(token);
      if (known.untilMs > now()) return known.authenticated;
      remembered.delete(token);
      throw new InvalidCredentials('bearer', expired);
    },
    async issue(identity, grants) {
      const issuedMs = now();
      const { id, ...rest } = identity;
      const who = isAnonymous(identity) ? { sub: '' } : { sub: id, identity: rest };
      const token = await sign({ ...who, access: [...grants] }, 'JWT', lifetimeMs, issuedMs);
      return { token, issuedAt: new Date(issuedMs), expiresInSeconds: Math.floor(lifetimeMs / 1000) };
    },
    issueRefresh: ({ id, ...claims }) => sign({ sub: id, ...claims }, refreshType, refreshLifetimeMs, now()),
    async readRefresh(token) {
      try {
        const { sub = '', iat = 0, source, username, stamp } = await read(token, refreshType);
        return { id: sub, source: String(source), username: String(username), stamp: String(stamp), issuedMs: iat * 1000 };
      } catch {
        return undefined;
      }
    },
  };
}

const refreshType = 'refresh+jwt';
const expired = 'an expired token';

function refusalOf(error: unknown): string {
  if (error instanceof InvalidCredentials) return error.reason;
  const { code } = error as { readonly code?: string };
  if (code === 'ERR_JWT_EXPIRED') return expired;
  return code === 'ERR_JWS_SIGNATURE_VERIFICATION_FAILED' ? 'a token with a wrong signature' : 'no token of this registry';
}
