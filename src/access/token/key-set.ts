// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Public keys as issuers publish them: a JSON Web Key Set (RFC 7517). */
import { createPublicKey } from 'node:crypto';
import type { JWK } from 'jose';

/** Keys of other kinds are left out, above all symmetric ones. Throws where none is left. */
export function parseKeySet(text: string): JWK[] {
  const set = parseJson(text);
  const keys = typeof set === 'object' && set !== null && 'keys' in set ? set.keys : undefined;
  if (!Array.isArray(keys)) throw new Error('it is no JSON Web Key Set');
  const usable = keys.filter(isPublicKey);
  if (usable.length === 0) throw new Error('there is no public key for signatures in it');
  return usable;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error('it is no JSON', { cause: error });
  }
}

function isPublicKey(key: unknown): key is JWK {
  if (typeof key !== 'object' || key === null) return false;
  const { kty = '', use = 'sig', d } = key as JWK;
  if (!['RSA', 'EC', 'OKP'].includes(kty) || use !== 'sig' || d !== undefined) return false;
  try {
    createPublicKey({ key: { ...(key as JWK) }, format: 'jwk' });
    return true;
  } catch {
    return false;
  }
}
