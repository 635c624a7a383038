// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Signing keys of a PEM file that all nodes have: the first key signs, all of them count. To rotate, put a new one in front. */
import { parsePrivateKey, readSigningKey, splitPem, type KeyRing, type SigningKey } from './signing-key.js';
import { watchFile } from '../watched-file.js';

export async function openFileKeys(file: string, onChange: () => void, onError: (error: unknown) => void): Promise<KeyRing> {
  let keys: readonly SigningKey[] = [];
  const load = async (pems: readonly string[]): Promise<void> => {
    keys = await Promise.all(pems.map(readSigningKey));
  };
  const watched = watchFile(file, parseKeyFile, () => void load(watched.current).then(onChange, onError), onError);
  await load(watched.current);
  return {
    current: () => keys[0] as SigningKey,
    find: (id) => Promise.resolve(keys.find((key) => key.id === id)),
    close: () => watched.close(),
  };
}

/** Throws where one of them is no key. */
export function parseKeyFile(text: string): string[] {
  const pems = splitPem(text);
  pems.forEach(parsePrivateKey);
  return pems;
}
