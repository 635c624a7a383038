// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * The yardstick of a push: one thread hashes bytes and writes and fsyncs them to a file, which is then removed.
 * `npx tsx bench/hash-and-write.ts BYTES [FILE]`; without a file it only hashes. Prints `{"seconds":…,"cpu":…}` of that alone.
 */
import { randomFillSync } from 'node:crypto';
import { closeSync, fsyncSync, openSync, unlinkSync, writeSync } from 'node:fs';
import { loadHasher } from '../src/worker/hash.js';

const pieceBytes = 4 << 20;
const [bytes = '0', file] = process.argv.slice(2);
const block = randomFillSync(new Uint8Array(64 << 20));
const { initial, update, digest } = await loadHasher();
const descriptor = file === undefined ? undefined : openSync(file, 'w');

const start = performance.now();
const startCpu = process.cpuUsage();
const state = initial('sha256');
for (let left = Number(bytes), at = 0; left > 0; left -= pieceBytes, at = (at + pieceBytes) % block.length) {
  const piece = block.subarray(at, at + Math.min(pieceBytes, left));
  update('sha256', state, piece);
  if (descriptor !== undefined) writeSync(descriptor, piece);
}
if (descriptor !== undefined) fsyncSync(descriptor);
digest('sha256', state);
const cpu = process.cpuUsage(startCpu);
const seconds = (performance.now() - start) / 1000;

if (descriptor !== undefined) closeSync(descriptor);
if (file !== undefined) unlinkSync(file);
console.log(JSON.stringify({ seconds, cpu: (cpu.user + cpu.system) / 1e6 }));
