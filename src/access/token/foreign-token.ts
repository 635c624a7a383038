// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Tokens that others sign: workloads' issuers, and an issuer that stands in the place of our own `/token`. */
import { decodeJwt, decodeProtectedHeader, jwtVerify, type JWTPayload, type JWTVerifyGetKey } from 'jose';
import { RegistryError } from '../../oci/errors.js';
import { InvalidCredentials } from '../authenticate.js';
import { refusalOf } from './refusal.js';
import { recheckAfterMs } from './remember-tokens.js';

/** Never `none`, and nothing with a shared secret: a public key must not be taken for one. */
export const signatureAlgorithms = [
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
  'Ed25519',
] as const;

export interface ForeignIssuer {
  readonly issuer: string;
  readonly audience: readonly string[];
  readonly algorithms: readonly string[];
  readonly keys: JWTVerifyGetKey;
}

export interface ForeignClaims extends JWTPayload {
  readonly exp: number;
}

/** More than GitHub, GitLab and Kubernetes need by far; a longer one is not even looked at. */
export const longestToken = 16 * 1024;
/** Clocks of strangers. */
export const toleranceSeconds = 30;

/** What a token says of its issuer before anything of it is believed; empty where it says nothing, undefined for what is no token. */
export function claimedIssuer(token: string): string | undefined {
  if (token.length > longestToken || !/^[\w-]+\.[\w-]+\.[\w-]*$/.test(token)) return undefined;
  try {
    decodeProtectedHeader(token);
    const { iss } = decodeJwt(token) as { iss?: unknown };
    return typeof iss === 'string' ? iss : '';
  } catch {
    return undefined;
  }
}

/** Rejects with InvalidCredentials, or with what `keys` throws where they cannot be had. */
export async function verifyForeign(
  token: string,
  { issuer, audience, algorithms, keys }: ForeignIssuer,
  now: () => number,
): Promise<ForeignClaims> {
  if (token.length > longestToken) throw new InvalidCredentials('bearer', 'a token that is too long');
  const currentDate = new Date(now());
  const options = { issuer, audience: [...audience], algorithms: [...algorithms], clockTolerance: toleranceSeconds, currentDate };
  const { payload } = await jwtVerify(token, keys, { ...options, requiredClaims: ['exp'] }).catch((error: unknown) => {
    throw error instanceof RegistryError ? error : new InvalidCredentials('bearer', refusalOf(error));
  });
  const { exp = 0, iat = 0 } = payload;
  if (iat > currentDate.getTime() / 1000 + toleranceSeconds) throw new InvalidCredentials('bearer', 'a token from the future');
  return { ...payload, exp };
}

export function believedUntilMs({ exp }: ForeignClaims, now: () => number): number {
  return Math.min((exp + toleranceSeconds) * 1000, now() + recheckAfterMs);
}
