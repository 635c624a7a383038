// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Tokens of an issuer that stands in the place of our own `/token`, in the form of the distribution project (`auth.token`). */
import { createHash, createPublicKey, type KeyObject, type X509Certificate } from 'node:crypto';
import { calculateJwkThumbprint, exportJWK, type JWK, type JWTHeaderParameters } from 'jose';
import type { Config } from '../../config/config.js';
import { verbs } from '../actions.js';
import { InvalidCredentials } from '../authenticate.js';
import { makeIdentity } from '../identity.js';
import { watchFile } from '../watched-file.js';
import { keyOfChain, parseCertificates } from './certificate-chain.js';
import { believedUntilMs, verifyForeign } from './foreign-token.js';
import { parseKeySet } from './key-set.js';
import type { TokenCheck } from './remember-tokens.js';
import type { Grant } from './scopes.js';

export interface ExternalParts {
  readonly settings: NonNullable<Config['access']['token']['external']>;
  /** Belongs to somebody who is known without a token, and whom none may be taken for. */
  readonly isTaken: (id: string) => boolean;
  readonly onChange: () => void;
  readonly onError: (error: unknown) => void;
}

export interface ExternalTokens {
  readonly check: TokenCheck;
  close(): void;
}

/** Certificates and keys that are trusted, from files that are looked at again when they change. */
export async function openExternalTokens(
  { settings, isTaken, onChange, onError }: ExternalParts,
  now: () => number = Date.now,
): Promise<ExternalTokens> {
  const { issuer, service, rootcertbundle, jwks, signingalgorithms: algorithms } = settings;
  let keys: ReadonlyMap<string, KeyObject> = new Map();
  const load = async (): Promise<void> => {
    keys = await keysByName(certificates?.current ?? [], set?.current ?? []);
  };
  const reload = (): void => void load().then(onChange, onError);
  const watch = <T>(file: string | undefined, parse: (text: string) => T) =>
    file === undefined ? undefined : watchFile(file, parse, reload, onError);
  const certificates = watch(rootcertbundle, parseCertificates);
  const set = watch(jwks, parseKeySet);
  await load();
  const find = ({ kid = '', x5c }: JWTHeaderParameters): KeyObject => {
    const key = x5c === undefined ? keys.get(kid) : keyOfChain(x5c, certificates?.current ?? [], now());
    if (key === undefined) throw new InvalidCredentials('bearer', 'a token of an unknown key');
    return key;
  };
  return {
    async check(token) {
      const claims = await verifyForeign(token, { issuer, audience: [service], algorithms, keys: find }, now);
      const { sub = '' } = claims as { sub?: unknown };
      if (typeof sub !== 'string' || !possibleId.test(sub) || isTaken(sub))
        throw new InvalidCredentials('bearer', 'a token whose name is somebody else here, or none');
      const authenticated = {
        identity: makeIdentity(sub, sub),
        grants: grantsOf(claims['access']),
        source: 'external token',
        isExternal: true,
      };
      return { authenticated, untilMs: believedUntilMs(claims, now) };
    },
    close() {
      certificates?.close();
      set?.close();
    },
  };
}

/** Empty for nobody. */
const possibleId = /^[^\p{Cc}]{0,255}$/u;

/** A key is known by the name in its set, by its thumbprint (RFC 7638), and by the name that libtrust would give it. */
async function keysByName(certificates: readonly X509Certificate[], set: readonly JWK[]): Promise<Map<string, KeyObject>> {
  const named = [
    ...certificates.map(({ publicKey }) => ({ key: publicKey, kid: undefined })),
    ...set.map((jwk) => ({ key: createPublicKey({ key: { ...jwk }, format: 'jwk' }), kid: jwk.kid })),
  ];
  const keys = new Map<string, KeyObject>();
  for (const { key, kid } of named) {
    for (const name of [kid, await calculateJwkThumbprint(await exportJWK(key)), libtrustName(key)])
      if (name !== undefined) keys.set(name, key);
  }
  return keys;
}

/** `PYYO:TEWU:…`: 240 bits of the key's SHA-256 in base 32, four characters at a time. */
export function libtrustName(key: KeyObject): string {
  const hash = createHash('sha256')
    .update(key.export({ type: 'spki', format: 'der' }))
    .digest();
  const bits = [...hash.subarray(0, 30)].map((byte) => byte.toString(2).padStart(8, '0')).join('');
  const text = (bits.match(/.{5}/g) ?? []).map((five) => base32.charAt(Number.parseInt(five, 2))).join('');
  return (text.match(/.{4}/g) ?? []).join(':');
}

const base32 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';

/** The `access` of a token; `*` of a repository is all that there is. */
function grantsOf(access: unknown): Grant[] {
  if (!Array.isArray(access)) return [];
  return access.filter(isGrant).map(({ type, name, actions }) => {
    const all = type === 'repository' && actions.includes('*');
    return { type, name, actions: all ? verbs : actions };
  });
}

function isGrant(value: unknown): value is Grant {
  if (typeof value !== 'object' || value === null) return false;
  const { type, name, actions } = value as Record<string, unknown>;
  return typeof type === 'string' && typeof name === 'string' && Array.isArray(actions) && actions.every((one) => typeof one === 'string');
}
