// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { BlobStore } from './blob-store.js';

export type Lookups = Pick<BlobStore, 'get' | 'size'>;

/** The same store for who looks at one object at a time, many side by side: what is asked for in one turn of the event loop is one request, where the store has such. */
export function batchLookups(store: BlobStore): Lookups {
  const { getMany, sizes } = store;
  return {
    get: getMany === undefined ? (key) => store.get(key) : batched((keys) => getMany.call(store, keys)),
    size: sizes === undefined ? (key) => store.size(key) : batched((keys) => sizes.call(store, keys)),
  };
}

interface Waiting<T> {
  readonly key: string;
  readonly resolve: (value: T) => void;
  readonly reject: (error: unknown) => void;
}

function batched<T>(lookUp: (keys: readonly string[]) => Promise<T[]>): (key: string) => Promise<T> {
  let waiting: Waiting<T>[] = [];
  const flush = async (): Promise<void> => {
    const batch = waiting;
    waiting = [];
    try {
      const values = await lookUp(batch.map(({ key }) => key));
      for (const [index, { resolve }] of batch.entries()) resolve(values[index] as T);
    } catch (error) {
      for (const { reject } of batch) reject(error);
    }
  };
  return (key) =>
    new Promise((resolve, reject) => {
      if (waiting.length === 0) setImmediate(() => void flush());
      waiting.push({ key, resolve, reject });
    });
}
