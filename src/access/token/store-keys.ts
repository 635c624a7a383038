// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * Signing keys that the nodes make themselves and share through the store, encrypted with a secret that they all have. Any node makes the next key when the newest is old
 * enough; it signs when all others have had the time to see it. As the store has them, tokens do not need Postgres.
 */
import { createCipheriv, createDecipheriv, generateKeyPairSync, randomBytes, scryptSync } from 'node:crypto';
import type { BlobStore } from '../../storage/blob-store.js';
import { signingKeysPrefix } from '../../storage/keys.js';
import { readSigningKey, type KeyRing, type SigningKey } from './signing-key.js';

export interface StoreKeysOptions {
  readonly store: Pick<BlobStore, 'get' | 'put' | 'list' | 'delete'>;
  readonly secret: string;
  /** After this long there is a new one. */
  readonly rotateAfterMs: number;
  /** What a key signed may be shown for this long after the next one signs. */
  readonly longestTokenMs: number;
  /** What a key that is gone had signed counts no more. */
  readonly onChange: () => void;
  readonly onError: (error: unknown) => void;
  readonly now?: () => number;
}

export interface StoreKeyRing extends KeyRing {
  /** Sees what other nodes made, makes what is needed, and drops what nobody can use any more. */
  refresh(): Promise<void>;
}

/** What a node that looks every minute has surely seen. */
const noticeMs = 2 * 60_000;
const refreshEveryMs = 60_000;
/** A token with a key that is not known may be of a node that has just made it, or of anybody. */
const lookAgainMs = 1_000;

interface StoredKey extends SigningKey {
  readonly storeKey: string;
  readonly createdMs: number;
}

export async function openStoreKeys(options: StoreKeysOptions): Promise<StoreKeyRing> {
  const { store, onChange, onError, rotateAfterMs, longestTokenMs, now = Date.now } = options;
  const secret = scryptSync(options.secret, 'ha-registry signing keys', 32, { N: 2 ** 15, r: 8, p: 1, maxmem: 64 * 1024 * 1024 });
  let keys: readonly StoredKey[] = [];
  /** Of another secret: they are left alone. */
  const unreadable = new Set<string>();
  let lastLookMs = 0;

  const load = async (): Promise<void> => {
    lastLookMs = now();
    const names = await store.list(signingKeysPrefix);
    const known = new Map(keys.map((key) => [key.storeKey, key]));
    const loaded: StoredKey[] = [];
    for (const name of names) {
      const key = known.get(name) ?? (await read(name));
      if (key !== undefined) loaded.push(key);
    }
    const isGone = keys.some(({ id }) => !loaded.some((key) => key.id === id));
    keys = loaded.toSorted((a, b) => a.createdMs - b.createdMs);
    if (isGone) onChange();
  };
  const read = async (name: string): Promise<StoredKey | undefined> => {
    if (unreadable.has(name)) return undefined;
    const bytes = await store.get(name);
    if (bytes === undefined) return undefined;
    try {
      return { ...(await readSigningKey(decrypt(secret, name, bytes))), storeKey: name, createdMs: createdOf(name) };
    } catch {
      unreadable.add(name);
      onError(new Error('a signing key in the store was made with another secret (access.token.secret)'));
      return undefined;
    }
  };
  const make = async (): Promise<void> => {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
    const name = `${signingKeysPrefix}${String(now()).padStart(15, '0')}-${randomBytes(8).toString('hex')}`;
    await store.put(name, encrypt(secret, name, pem));
    keys = [...keys, { ...(await readSigningKey(pem)), storeKey: name, createdMs: createdOf(name) }];
  };
  const dropOld = async (): Promise<void> => {
    const old = keys.filter((_key, index) => (keys[index + 1]?.createdMs ?? Infinity) + noticeMs + longestTokenMs < now());
    if (old.length === 0) return;
    await store.delete(old.map(({ storeKey }) => storeKey));
    keys = keys.filter((key) => !old.includes(key));
  };
  const refresh = async (): Promise<void> => {
    await load();
    if ((keys.at(-1)?.createdMs ?? 0) + rotateAfterMs <= now()) await make();
    await dropOld();
  };

  await refresh();
  const timer = setInterval(() => void refresh().catch(onError), refreshEveryMs).unref();
  return {
    refresh,
    // The oldest one when none is old enough, so that nodes that start together agree.
    current: () => (keys.findLast(({ createdMs }) => createdMs + noticeMs <= now()) ?? keys[0]) as StoredKey,
    async find(id) {
      const known = keys.find((key) => key.id === id);
      if (known !== undefined || lastLookMs + lookAgainMs > now()) return known;
      await load().catch(onError);
      return keys.find((key) => key.id === id);
    },
    close: () => clearInterval(timer),
  };
}

function createdOf(name: string): number {
  return Number(name.slice(signingKeysPrefix.length).split('-', 1)[0]);
}

/** AES-256-GCM, bound to its place: nonce, tag, ciphertext. */
function encrypt(secret: Buffer, name: string, text: string): Uint8Array {
  const nonce = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', secret, nonce).setAAD(Buffer.from(name));
  const body = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()]);
  return Buffer.concat([nonce, cipher.getAuthTag(), body]);
}

function decrypt(secret: Buffer, name: string, bytes: Uint8Array): string {
  const decipher = createDecipheriv('aes-256-gcm', secret, bytes.subarray(0, 12)).setAAD(Buffer.from(name));
  decipher.setAuthTag(bytes.subarray(12, 28));
  return Buffer.concat([decipher.update(bytes.subarray(28)), decipher.final()]).toString('utf8');
}
