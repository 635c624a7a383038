// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The keys that tokens are signed with. Several may be valid: one signs, and what the others signed still counts. */
import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto';
import { calculateJwkThumbprint, exportJWK } from 'jose';

export interface SigningKey {
  readonly id: string;
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
}

export interface KeyRing {
  /** The key that signs now. */
  current(): SigningKey;
  /** Of this node, or another one that signed just now; undefined for what nobody here signed. */
  find(id: string): Promise<SigningKey | undefined>;
  close(): void;
}

/** Throws where it is no private key of the curve P-256. */
export function parsePrivateKey(pem: string): KeyObject {
  let key: KeyObject;
  try {
    key = createPrivateKey(pem);
  } catch (error) {
    throw new Error('a private key in it cannot be read', { cause: error });
  }
  if (key.asymmetricKeyDetails?.namedCurve !== 'prime256v1') throw new Error('a key is not of the curve P-256');
  return key;
}

/** Throws as `parsePrivateKey` does. */
export async function readSigningKey(pem: string): Promise<SigningKey> {
  const privateKey = parsePrivateKey(pem);
  const publicKey = createPublicKey(privateKey);
  return { id: await calculateJwkThumbprint(await exportJWK(publicKey)), privateKey, publicKey };
}

/** The private keys of a PEM file, in its order. Throws where there is none. */
export function splitPem(text: string): string[] {
  const keys = text.match(/-----BEGIN (EC )?PRIVATE KEY-----[\s\S]+?-----END (EC )?PRIVATE KEY-----/g) ?? [];
  if (keys.length === 0) throw new Error('there is no private key in it');
  return keys;
}
