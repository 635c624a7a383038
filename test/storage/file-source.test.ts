// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Streams of files that end while the kernel still reads for them. */
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import path from 'node:path';
import t from 'tap';
import { openFilesystemStore } from '../../src/storage/filesystem-store.js';
import { HashClock } from '../../src/worker/hash-clock.js';
import { openWorkerPool } from '../../src/worker/worker-pool.js';
import { temporaryDirectory } from '../support/registry.js';
import { noise } from './objects.js';

const workers = openWorkerPool({ threads: 1, hash: 'auto', clock: new HashClock() });
t.teardown(() => workers.close());

type Done = (error: Error | null, count: number) => void;
type Read = (file: number, buffer: Buffer, offset: number, length: number, position: number, done: Done) => void;

/** After `passing` reads, one writes into its buffer not before `land` is called. */
function holdRead(passing: number): { land(): Promise<void> } {
  const real = fs.read as unknown as Read;
  const replace = (read: Read): void => {
    Object.assign(fs, { read });
    syncBuiltinESMExports();
  };
  const held = { land: (): Promise<void> => Promise.reject(new Error('nothing was read')) };
  replace((file, buffer, offset, length, position, done) => {
    if (passing-- > 0) {
      real(file, buffer, offset, length, position, done);
      return;
    }
    replace(real);
    const arrived = Buffer.alloc(length);
    const reading = new Promise<[Error | null, number]>((resolve) => {
      real(file, arrived, 0, length, position, (error, count) => resolve([error, count]));
    });
    held.land = async () => {
      const [error, count] = await reading;
      arrived.copy(buffer, offset, 0, count);
      done(error, count);
    };
  });
  return held;
}

void t.test('a read that comes after its client has gone', async (t) => {
  const root = path.join(await temporaryDirectory('source-'), 'store');
  const store = await openFilesystemStore(root, { workers, keepFreeBytes: 0 });
  const size = 2 * 1024 * 1024;
  const [one, other] = [noise(size), noise(size)];
  await store.put('one', one);
  await store.put('other', other);
  for (const before of [0, 1]) {
    const leaving = await store.open('one', 0, size);
    const staying = await store.open('other', 0, size);
    const held = holdRead(before);
    for (let chunk = 0; chunk < before; chunk++) await leaving.next();
    const pending = leaving.next();
    leaving.close();
    const chunk = await staying.next();
    await held.land();
    t.ok(chunk && other.subarray(0, chunk.byteLength).equals(chunk), `writes into nobody else's bytes, ${before} chunks before it`);
    staying.close();
    await pending;
  }
});
