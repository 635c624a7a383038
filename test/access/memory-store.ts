// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The few things of a store that keys and revocations need. */
export function memoryStore(objects = new Map<string, Uint8Array>()) {
  return {
    objects,
    get: (key: string) => Promise.resolve(objects.get(key)),
    put: (key: string, bytes: Uint8Array) => Promise.resolve(void objects.set(key, bytes)),
    list: (prefix: string) => Promise.resolve([...objects.keys()].filter((key) => key.startsWith(prefix)).sort()),
    delete: (keys: readonly string[]) => Promise.resolve(keys.forEach((key) => objects.delete(key))),
  };
}
