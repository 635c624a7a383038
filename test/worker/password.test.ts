// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Argon2, native and in WebAssembly: each takes what the other has made. */
import * as wasm from 'hash-wasm';
import t from 'tap';
import type * as passwordWorker from '../../src/worker/password-worker.js';

type Worker = typeof passwordWorker;

const fails = () => Promise.reject(new Error('not this one'));
const native = await t.mockImport<Worker>('../../src/worker/password-worker.js', {
  'hash-wasm': { ...wasm, argon2Verify: fails, argon2id: fails },
});
const none = await t.mockImport<Worker>('../../src/worker/password-worker.js', {
  '@node-rs/argon2': {
    verifySync: () => {
      throw new Error('not this one');
    },
    hashSync: undefined,
  },
});

const password = 'a pässword ✓';
const usual = { parallelism: 1, iterations: 2, memorySize: 64, hashLength: 32, outputType: 'encoded' } as const;
const salt = (bytes: number): Uint8Array => new Uint8Array(bytes).fill(7);

void t.test('hashes of all kinds', async (t) => {
  for (const [name, make] of Object.entries({ argon2id: wasm.argon2id, argon2i: wasm.argon2i, argon2d: wasm.argon2d })) {
    for (const options of [{}, { parallelism: 4 }, { iterations: 5 }, { memorySize: 1000 }, { hashLength: 16 }, { hashLength: 64 }]) {
      const hash = await make({ ...usual, ...options, password, salt: salt(16) });
      for (const worker of [native, none]) {
        t.equal(await worker.verify({ password, hash }), true, `${name} ${JSON.stringify(options)}`);
        t.equal(await worker.verify({ password: 'another', hash }), false, 'and a wrong password');
      }
    }
  }
});

void t.test('hashes that are made', async (t) => {
  const hash = await native.hash(password);
  t.match(hash, /^\$argon2id\$v=19\$m=19456,t=2,p=1\$/);
  t.equal(await wasm.argon2Verify({ password, hash }), true);
  t.not(await native.hash(password), hash, 'each with a salt of its own');
});
