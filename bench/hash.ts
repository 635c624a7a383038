// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** `npx tsx bench/hash.ts`: one thread's hashing speed in MB/s (10^6 bytes), by implementation, algorithm and size of a piece. */
import { execFile } from 'node:child_process';
import { createHash, randomFillSync } from 'node:crypto';
import { cpus } from 'node:os';
import { promisify } from 'node:util';
import { addonProblem } from '../src/worker/addon.js';
import { nativeHasher, wasmHasher, type HashAlgorithm, type Hasher } from '../src/worker/hash.js';
import { median } from './statistics.js';
import { figure, renderTable } from './table.js';

const rounds = 5;
const measureMs = 250;
const algorithms: HashAlgorithm[] = ['sha256', 'sha512'];
const sizes = { '8 MiB': 8 * 2 ** 20, '64 KiB': 64 * 2 ** 10, '2 KiB': 2 * 2 ** 10 };

/** Answers MB/s, or `undefined` where it can't be measured. */
type Measure = (algorithm: HashAlgorithm, size: number) => number | undefined | Promise<number | undefined>;

const native = nativeHasher();
if (native === undefined) console.log(addonProblem());
const implementations: Record<string, Measure> = {
  native: (algorithm, size) => native && measureHasher(native, algorithm, size),
  'hash-wasm': await wasmHasher().then((wasm) => (algorithm, size) => measureHasher(wasm, algorithm, size)),
  'node:crypto': (algorithm, size) => {
    const hash = createHash(algorithm);
    return measure(size, (bytes) => hash.update(bytes));
  },
  'openssl speed': opensslSpeed,
};

const results = new Map<string, number[]>();
for (let round = 0; round < rounds; round++) {
  for (const algorithm of algorithms) {
    for (const [label, size] of Object.entries(sizes)) {
      for (const [name, measureOne] of Object.entries(implementations)) {
        const speed = await measureOne(algorithm, size);
        const key = `${name} ${algorithm} ${label}`;
        if (speed !== undefined) results.set(key, [...(results.get(key) ?? []), speed]);
      }
    }
  }
}

const columns = algorithms.flatMap((algorithm) => Object.keys(sizes).map((label) => `${algorithm} ${label}`));
const rows = Object.keys(implementations).map((name) => [
  name,
  ...columns.map((column) => figure(median(results.get(`${name} ${column}`) ?? []))),
]);
console.log(
  `MB/s, medians of ${rounds} alternating rounds, Node ${process.version}, OpenSSL ${process.versions.openssl}, ${cpus()[0]?.model}`,
);
console.log(renderTable(['', ...columns], rows));

function measureHasher({ initial, update, digest }: Hasher, algorithm: HashAlgorithm, size: number): number {
  const state = initial(algorithm);
  const speed = measure(size, (bytes) => update(algorithm, state, bytes));
  digest(algorithm, state);
  return speed;
}

function measure(size: number, hash: (bytes: Uint8Array) => unknown): number {
  const bytes = randomFillSync(new Uint8Array(size));
  const calls = Math.max(1, Math.floor(2 ** 20 / size));
  let hashed = 0;
  const begin = performance.now();
  let elapsedMs = 0;
  for (; elapsedMs < measureMs; elapsedMs = performance.now() - begin) {
    for (let i = 0; i < calls; i++) hash(bytes);
    hashed += calls * size;
  }
  return hashed / 1000 / elapsedMs;
}

async function opensslSpeed(algorithm: HashAlgorithm, size: number): Promise<number | undefined> {
  try {
    const { stdout } = await promisify(execFile)('openssl', ['speed', '-mr', '-seconds', '1', '-bytes', `${size}`, '-evp', algorithm]);
    const bytesPerSecond = /^\+F:\d+:[^:]+:([\d.]+)$/m.exec(stdout)?.[1];
    return bytesPerSecond === undefined ? undefined : Number(bytesPerSecond) / 1e6;
  } catch {
    return undefined;
  }
}
