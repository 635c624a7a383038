// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * Hashes whose running state can be stored, and continued by another process, on another node, by the other implementation.
 *
 * The neutral state of SHA-256 (SHA-512): 8 words of 4 (8) bytes, the count of bytes hashed so far in 8 bytes, and the pending block
 * of 64 (128) bytes, of which those past `count % 64` (`% 128`) are zero; all numbers big-endian; 104 (200) bytes in all.
 */
import { createSHA256, createSHA512, type IHasher } from 'hash-wasm';
import { addonProblem, loadAddon } from './addon.js';

export type HashAlgorithm = 'sha256' | 'sha512';
export type HashChoice = 'auto' | 'native' | 'hash-wasm';

export interface Hasher {
  readonly implementation: 'native' | 'hash-wasm';
  /** The neutral state of an empty message. */
  readonly initial: (algorithm: HashAlgorithm) => Uint8Array;
  /** hot: bench/hash.ts. Hashes `bytes` and changes `state` in place. */
  readonly update: (algorithm: HashAlgorithm, state: Uint8Array, bytes: Uint8Array) => void;
  /** The digest of what was hashed so far; `state` stays as it is and can be continued. */
  readonly digest: (algorithm: HashAlgorithm, state: Uint8Array) => Uint8Array;
}

/** The native addon where it is built (SHA-256 5 times as fast, SHA-512 twice: bench/hash.ts), else hash-wasm. Throws when `native` is asked for and isn't there. */
export async function loadHasher(choice: HashChoice = 'auto'): Promise<Hasher> {
  const native = choice === 'hash-wasm' ? undefined : nativeHasher();
  if (native !== undefined) return native;
  if (choice === 'native') throw new Error(addonProblem());
  return wasmHasher();
}

/** Over OpenSSL. `undefined` when the addon can't be loaded (`addonProblem()` says why). */
export function nativeHasher(): Hasher | undefined {
  const addon = loadAddon();
  if (addon === undefined) return undefined;
  const hasher: Hasher = { implementation: 'native', initial: initialState, update: addon.update, digest: addon.digest };
  checkKnownDigests(hasher);
  return hasher;
}

/** Over hash-wasm, one instance per algorithm, whose memory is filled from the neutral state at each call. */
export async function wasmHasher(): Promise<Hasher> {
  const instances = { sha256: await createSHA256(), sha512: await createSHA512() };
  checkSavedLayout('sha256', instances.sha256);
  checkSavedLayout('sha512', instances.sha512);
  const hasher: Hasher = {
    implementation: 'hash-wasm',
    initial: initialState,
    update(algorithm, state, bytes) {
      const instance = instances[algorithm];
      const count = checkState(algorithm, state);
      if (BigInt(bytes.byteLength) > longestMessageBytes - count) throw new TypeError(tooLong);
      neutralFromSaved(algorithm, instance.load(savedFromNeutral(algorithm, state)).update(bytes).save(), state);
    },
    digest(algorithm, state) {
      checkState(algorithm, state);
      return instances[algorithm].load(savedFromNeutral(algorithm, state)).digest('binary');
    },
  };
  checkKnownDigests(hasher);
  return hasher;
}

interface Layout {
  readonly wordBytes: 4 | 8;
  readonly blockBytes: 64 | 128;
  readonly digestBytes: 32 | 64;
  readonly stateBytes: 104 | 200;
  /** The state of an empty message: the 8 words of FIPS 180-4, 5.3. */
  readonly words: string;
  /** What hash-wasm 4.13.0 puts in front of a saved state: the first bytes of a hash of its own code. */
  readonly savedId: string;
  /** FIPS 180-4's example: the digest of `abc`. */
  readonly digestOfAbc: string;
}

const layouts: Record<HashAlgorithm, Layout> = {
  sha256: {
    wordBytes: 4,
    blockBytes: 64,
    digestBytes: 32,
    stateBytes: 104,
    words: '6a09e667bb67ae853c6ef372a54ff53a510e527f9b05688c1f83d9ab5be0cd19',
    savedId: '8ed695a3',
    digestOfAbc: 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',
  },
  sha512: {
    wordBytes: 8,
    blockBytes: 128,
    digestBytes: 64,
    stateBytes: 200,
    words:
      '6a09e667f3bcc908bb67ae8584caa73b3c6ef372fe94f82ba54ff53a5f1d36f1' +
      '510e527fade682d19b05688c2b3e6c1f1f83d9abfb41bd6b5be0cd19137e2179',
    savedId: '922e1bd0',
    digestOfAbc:
      'ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a' +
      '2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f',
  },
};

/** SHA-256 counts bits in 64 bits. */
const longestMessageBytes = 2n ** 61n - 1n;
const tooLong = 'state counts more bytes than the algorithm can hash';

function initialState(algorithm: HashAlgorithm): Uint8Array {
  const state = new Uint8Array(layouts[algorithm].stateBytes);
  state.set(Buffer.from(layouts[algorithm].words, 'hex'));
  return state;
}

/** Returns the count of bytes hashed. */
function checkState(algorithm: HashAlgorithm, state: Uint8Array): bigint {
  const { wordBytes, stateBytes } = layouts[algorithm];
  if (state.byteLength !== stateBytes) throw new TypeError('state has the wrong length for this algorithm');
  const count = viewOf(state).getBigUint64(8 * wordBytes);
  if (count > longestMessageBytes) throw new TypeError(tooLong);
  return count;
}

/**
 * hash-wasm 4.13.0's `save()`: 4 id bytes, the pending block (with old bytes past the count), the count of bytes in 8 bytes, the 8 words,
 * the digest's size in 4 bytes, 4 zero bytes; all numbers little-endian.
 */
function savedFromNeutral(algorithm: HashAlgorithm, state: Uint8Array): Uint8Array {
  const { wordBytes, blockBytes, digestBytes, stateBytes, savedId } = layouts[algorithm];
  const saved = new Uint8Array(stateBytes + 12);
  const from = viewOf(state);
  const to = viewOf(saved);
  saved.set(Buffer.from(savedId, 'hex'));
  saved.set(state.subarray(8 * wordBytes + 8), 4);
  to.setBigUint64(4 + blockBytes, from.getBigUint64(8 * wordBytes), true);
  for (let i = 0; i < 8; i++) {
    if (wordBytes === 4) to.setUint32(12 + blockBytes + 4 * i, from.getUint32(4 * i), true);
    else to.setBigUint64(12 + blockBytes + 8 * i, from.getBigUint64(8 * i), true);
  }
  to.setUint32(12 + blockBytes + 8 * wordBytes, digestBytes, true);
  return saved;
}

function neutralFromSaved(algorithm: HashAlgorithm, saved: Uint8Array, state: Uint8Array): void {
  const { wordBytes, blockBytes } = layouts[algorithm];
  const from = viewOf(saved);
  const to = viewOf(state);
  const count = from.getBigUint64(4 + blockBytes, true);
  for (let i = 0; i < 8; i++) {
    if (wordBytes === 4) to.setUint32(4 * i, from.getUint32(12 + blockBytes + 4 * i, true));
    else to.setBigUint64(8 * i, from.getBigUint64(12 + blockBytes + 8 * i, true));
  }
  to.setBigUint64(8 * wordBytes, count);
  state.set(saved.subarray(4, 4 + blockBytes), 8 * wordBytes + 8);
  state.fill(0, 8 * wordBytes + 8 + Number(count % BigInt(blockBytes)));
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** hash-wasm promises nothing about the layout of `save()`, so what it saves is compared with what is expected before it is used. */
function checkSavedLayout(algorithm: HashAlgorithm, instance: IHasher): void {
  const text = Buffer.from('abc');
  const state = initialState(algorithm);
  const { wordBytes } = layouts[algorithm];
  viewOf(state).setBigUint64(8 * wordBytes, BigInt(text.byteLength));
  state.set(text, 8 * wordBytes + 8);
  const saved = instance.init().update(text).save();
  if (Buffer.compare(saved, savedFromNeutral(algorithm, state)) === 0) return;
  throw new Error(`hash-wasm saves the state of ${algorithm} differently from version 4.13.0, which this program needs`);
}

function checkKnownDigests({ implementation, initial, update, digest }: Hasher): void {
  for (const algorithm of ['sha256', 'sha512'] as const) {
    const state = initial(algorithm);
    update(algorithm, state, Buffer.from('a'));
    update(algorithm, state, Buffer.from('bc'));
    const result = Buffer.from(digest(algorithm, state)).toString('hex');
    if (result !== layouts[algorithm].digestOfAbc) throw new Error(`${implementation} computes a wrong ${algorithm} digest`);
  }
}
