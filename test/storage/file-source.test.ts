// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Streams of files that end while the kernel still reads for them. */
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import path from 'node:path';
import t from 'tap';
import type { BlobStore } from '../../src/storage/blob-store.js';
import { openFilesystemStore } from '../../src/storage/filesystem-store.js';
import { HashClock } from '../../src/worker/hash-clock.js';
import { openWorkerPool } from '../../src/worker/worker-pool.js';
import { temporaryDirectory } from '../support/registry.js';
import { noise, read } from './objects.js';

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

async function newStore(): Promise<BlobStore> {
  return openFilesystemStore(path.join(await temporaryDirectory('source-'), 'store'), { workers, keepFreeBytes: 0 });
}

void t.test('a read that comes after its client has gone', async (t) => {
  const store = await newStore();
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

void t.test('many streams at once', async (t) => {
  const store = await newStore();
  const bytes = noise(2 * 1024 * 1024 + 1);
  await store.put('one', bytes);
  const open = () => store.open('one', 0, bytes.length);
  const streams = [];
  const sizes = [];
  for (let count = 0; count < 100; count++) {
    const stream = await open();
    streams.push(stream);
    sizes.push((await stream.next())?.byteLength);
  }
  t.strictSame([...new Set(sizes)], [1024 * 1024, 64 * 1024], 'the later ones have small buffers');
  t.ok((await read(store, 'one', 0, bytes.length)).equals(bytes), 'and all of the bytes');
  for (const stream of streams) for (let twice = 0; twice < 2; twice++) stream.close();
  const last = await open();
  t.equal((await last.next())?.byteLength, 1024 * 1024, 'when they have ended there are large ones again');
  last.close();
});
