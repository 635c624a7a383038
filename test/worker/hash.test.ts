// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import assert from 'node:assert/strict';
import { createHash, randomInt } from 'node:crypto';
import { createServer, type AddressInfo } from 'node:net';
import { Worker } from 'node:worker_threads';
import t from 'tap';
import { addonProblem, loadAddon } from '../../src/worker/addon.js';
import { loadHasher, nativeHasher, wasmHasher, type HashAlgorithm } from '../../src/worker/hash.js';

const seed = Number(process.env['HASH_SEED'] ?? randomInt(2 ** 32));
t.comment(`HASH_SEED=${seed}`);
const random = randomFrom(seed);

const algorithms: HashAlgorithm[] = ['sha256', 'sha512'];
const boundarySizes = [0, 1, 55, 56, 63, 64, 65, 111, 112, 119, 120, 127, 128, 129, 16383, 16384, 16385];
const wasm = await wasmHasher();
const native = nativeHasher();
const hashers = native === undefined ? [wasm] : [wasm, native];
const withoutNative = native === undefined && `THE NATIVE HALF IS NOT TESTED: ${addonProblem()}`;
if (withoutNative) console.error(withoutNative);

void t.test('digests of boundary sizes are those of node:crypto', async (t) => {
  for (const algorithm of algorithms) {
    for (const hasher of hashers) {
      for (const size of boundarySizes) {
        const bytes = randomBytes(size);
        const state = hasher.initial(algorithm);
        hasher.update(algorithm, state, bytes);
        t.equal(hex(hasher.digest(algorithm, state)), reference(algorithm, bytes), `${hasher.implementation} ${algorithm} ${size}`);
      }
    }
  }
});

void t.test('random splits, continued by either implementation', { skip: withoutNative }, async (t) => {
  for (const algorithm of algorithms) {
    for (let run = 0; run < 150; run++) {
      const whole = createHash(algorithm);
      const state = wasm.initial(algorithm);
      const pieces = 1 + random(12);
      for (let piece = 0; piece < pieces; piece++) {
        const bytes = randomBytes(random(4) === 0 ? random(40_000) : boundarySizes[random(14)]!);
        whole.update(bytes);
        const [chosen, other] = random(2) === 0 ? [hashers[0]!, hashers[1]!] : [hashers[1]!, hashers[0]!];
        const copy = state.slice();
        other.update(algorithm, copy, bytes);
        chosen.update(algorithm, state, bytes);
        assert.equal(hex(copy), hex(state), `${algorithm} run ${run} piece ${piece} of ${bytes.length} bytes`);
        const before = state.slice();
        const digest = hex(chosen.digest(algorithm, state));
        assert.equal(digest, whole.copy().digest('hex'), `${algorithm} run ${run} piece ${piece}`);
        assert.equal(hex(state), hex(before), 'digest changes no state');
      }
    }
    t.pass(`${algorithm}: every state and digest agreed`);
  }
});

void t.test('counts past 2^29, 2^32, 2^53 bytes', { skip: withoutNative }, async (t) => {
  for (const algorithm of algorithms) {
    for (const count of [2n ** 29n - 1n, 2n ** 29n, 2n ** 32n - 3n, 2n ** 32n, 2n ** 35n + 70n, 2n ** 53n + 1n, 2n ** 60n + 200n]) {
      const start = stateAt(algorithm, count);
      const states = hashers.map(() => start.slice());
      const bytes = randomBytes(300);
      hashers.forEach((hasher, i) => hasher.update(algorithm, states[i]!, bytes));
      t.equal(hex(states[0]!), hex(states[1]!), `${algorithm} state at ${count}`);
      t.equal(countOf(algorithm, states[0]!), count + 300n, 'the count goes on');
      const [first, second] = hashers.map((hasher, i) => hex(hasher.digest(algorithm, states[i]!)));
      t.equal(first, second, `${algorithm} digest at ${count}`);
    }
  }
});

void t.test('600 MiB in one message are those of node:crypto', { skip: withoutNative }, async (t) => {
  const bytes = randomBytes(8 * 2 ** 20);
  const state = native!.initial('sha256');
  const whole = createHash('sha256');
  for (let i = 0; i < 75; i++) {
    native!.update('sha256', state, bytes);
    whole.update(bytes);
  }
  wasm.update('sha256', state, bytes.subarray(0, 77));
  t.equal(hex(wasm.digest('sha256', state)), whole.update(bytes.subarray(0, 77)).digest('hex'));
});

void t.test('states that cannot be are refused', async (t) => {
  for (const { implementation, update, digest, initial } of hashers) {
    for (const algorithm of algorithms) {
      t.throws(() => update(algorithm, new Uint8Array(103), new Uint8Array(1)), TypeError, `${implementation} short state`);
      t.throws(() => digest(algorithm, new Uint8Array(0)), TypeError, `${implementation} no state`);
      t.throws(() => digest(algorithm, stateAt(algorithm, 2n ** 61n)), TypeError, `${implementation} count out of range`);
      t.throws(
        () => update(algorithm, stateAt(algorithm, 2n ** 61n - 1n), new Uint8Array(1)),
        TypeError,
        `${implementation} count runs over`,
      );
      const state = initial(algorithm);
      update(algorithm, state, new Uint8Array(0));
      t.strictSame(state, initial(algorithm), 'no bytes change nothing');
    }
  }
});

void t.test('the addon refuses what is not an argument', { skip: withoutNative }, async (t) => {
  const { update, digest, setReceiveBuffer } = loadAddon() as unknown as Record<
    'update' | 'digest' | 'setReceiveBuffer',
    (...a: unknown[]) => unknown
  >;
  const state = new Uint8Array(104);
  const transferred = new Uint8Array(9);
  structuredClone(transferred, { transfer: [transferred.buffer] });
  const junk = [
    undefined,
    null,
    0,
    NaN,
    'sha256x',
    'sha1',
    Symbol('a'),
    {},
    [],
    new Uint16Array(52),
    new DataView(state.buffer),
    state.buffer,
    transferred,
  ];
  for (const value of [...junk, state]) {
    t.throws(() => update(value, state, state), TypeError);
    t.throws(() => digest(value, state), TypeError);
    t.throws(() => setReceiveBuffer(value, 1), TypeError);
    t.throws(() => setReceiveBuffer(1, value), TypeError);
  }
  for (const value of junk) {
    t.throws(() => update('sha256', value, state), TypeError);
    t.throws(() => update('sha256', state, value), TypeError);
    t.throws(() => digest('sha256', value), TypeError);
  }
  for (const call of [update, digest, setReceiveBuffer]) t.throws(() => call(), TypeError);
  for (const port of [-1, 0, 65536, 1.5, Infinity, 2 ** 40]) t.throws(() => setReceiveBuffer(port, 1000), TypeError);
  for (const bytes of [-1, 0, 2 ** 31, 1.5]) t.throws(() => setReceiveBuffer(1, bytes), TypeError);
});

void t.test('bytes that overlap the state, and shared memory', { skip: withoutNative }, async (t) => {
  const state = native!.initial('sha256');
  const start = state.slice();
  native!.update('sha256', state, state);
  t.equal(hex(native!.digest('sha256', state)), reference('sha256', start));
  const shared = new Uint8Array(new SharedArrayBuffer(1000)).fill(7);
  const other = native!.initial('sha512');
  native!.update('sha512', other, shared.subarray(1));
  t.equal(hex(native!.digest('sha512', other)), reference('sha512', new Uint8Array(999).fill(7)));
});

void t.test('worker threads load the addon at the same time', { skip: withoutNative }, async (t) => {
  const script = `
    const { parentPort, workerData } = require('node:worker_threads');
    const addon = require(workerData.file);
    for (let i = 0; i < 2000; i++) addon.update('sha256', workerData.state, Buffer.from('x'));
    parentPort.postMessage(addon.digest('sha256', workerData.state));`;
  const file = new URL('../../native/ha_registry.node', import.meta.url).pathname;
  const runs = Array.from({ length: 4 }, () => {
    const worker = new Worker(script, { eval: true, workerData: { file, state: wasm.initial('sha256') } });
    return new Promise<Uint8Array>((resolve, reject) => worker.once('message', resolve).once('error', reject));
  });
  for (const digest of await Promise.all(runs)) t.equal(hex(digest), reference('sha256', Buffer.from('x'.repeat(2000))));
});

void t.test('setReceiveBuffer finds the sockets that listen on the port', { skip: withoutNative }, async (t) => {
  const { setReceiveBuffer } = loadAddon()!;
  const servers = [createServer(), createServer()];
  const ports: number[] = [];
  for (const [i, host] of ['127.0.0.1', '0.0.0.0'].entries()) {
    await new Promise<void>((resolve) => servers[i]!.listen(0, host, resolve));
    ports.push((servers[i]!.address() as AddressInfo).port);
  }
  for (const port of ports) t.equal(setReceiveBuffer(port, 65536), 1);
  servers.forEach((server) => server.close());
  await new Promise((resolve) => setImmediate(resolve));
  t.equal(setReceiveBuffer(ports[0]!, 65536), 0, 'none once closed');
});

void t.test('the choice of an implementation', async (t) => {
  t.equal((await loadHasher()).implementation, native === undefined ? 'hash-wasm' : 'native');
  t.equal((await loadHasher('hash-wasm')).implementation, 'hash-wasm');
  if (native === undefined) await t.rejects(loadHasher('native'));
  else t.equal((await loadHasher('native')).implementation, 'native');
});

function reference(algorithm: HashAlgorithm, bytes: Uint8Array): string {
  return createHash(algorithm).update(bytes).digest('hex');
}

/** Random words, and as many pending bytes as the count asks for. */
function stateAt(algorithm: HashAlgorithm, count: bigint): Uint8Array {
  const [words, block] = algorithm === 'sha256' ? [32, 64] : [64, 128];
  const state = new Uint8Array(words + 8 + block);
  state.set(randomBytes(words));
  new DataView(state.buffer).setBigUint64(words, count);
  state.set(randomBytes(Number(count % BigInt(block))), words + 8);
  return state;
}

function countOf(algorithm: HashAlgorithm, state: Uint8Array): bigint {
  return new DataView(state.buffer).getBigUint64(algorithm === 'sha256' ? 32 : 64);
}

function randomBytes(size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  for (let i = 0; i < size; i++) bytes[i] = random(256);
  return bytes;
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

/** A linear congruential generator: repeatable, and good enough to choose sizes. */
function randomFrom(start: number): (below: number) => number {
  let state = start >>> 0;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}
