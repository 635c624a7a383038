// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** A store that goes away as a whole under whoever uses it, with an empty place left behind, and comes back as it was. */
import { mkdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { bareBucket, bareDirectory, type BareStore } from './bare-store.js';
import type { TestStore } from './stores.js';

export interface VanishingStore {
  readonly bare: BareStore;
  vanish(): Promise<void>;
  comeBack(): Promise<void>;
}

export function vanishingStore({ root, bucket }: Pick<TestStore, 'root' | 'bucket'>): VanishingStore {
  return bucket === undefined ? unmounted(path.join(root, 'store')) : emptied(bareBucket(bucket.server, bucket.name));
}

/** As a mount that goes: the directory below it is there, and empty. */
function unmounted(directory: string): VanishingStore {
  return {
    bare: bareDirectory(directory),
    async vanish() {
      await rename(directory, `${directory}.away`);
      await mkdir(directory);
    },
    async comeBack() {
      await rm(directory, { recursive: true });
      await rename(`${directory}.away`, directory);
    },
  };
}

/** The marks are the first that go, and the last that come back. */
function emptied(bare: BareStore): VanishingStore {
  let kept: (readonly [key: string, bytes: Buffer])[] = [];
  return {
    bare,
    async vanish() {
      const keys = await bare.list(/./);
      kept = await Promise.all(keys.map(async (key) => [key, await bare.read(key)] as const));
      for (const part of [/^cluster\//, /./]) await Promise.all((await bare.list(part)).map((key) => bare.remove(key)));
    },
    async comeBack() {
      for (const isMark of [false, true])
        await Promise.all(kept.filter(([key]) => key.startsWith('cluster/') === isMark).map(([key, bytes]) => bare.write(key, bytes)));
    },
  };
}
