// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Runs in a thread of its own: what makes a password hash good is that it takes long. */
import { argon2id, argon2Verify, bcryptVerify } from 'hash-wasm';
import { randomBytes } from 'node:crypto';
import { getPriority, setPriority } from 'node:os';
import { isMainThread } from 'node:worker_threads';

/** Of this thread alone, which Linux can: whoever logs in can wait, whoever pulls shall not. */
if (!isMainThread && process.platform === 'linux') setPriority(Math.min(19, getPriority() + 10));

const longestForBcrypt = 72;

export interface VerifyTask {
  readonly password: string;
  /** Argon2 or bcrypt, in their usual forms. */
  readonly hash: string;
}

export async function verify({ password, hash }: VerifyTask): Promise<boolean> {
  if (password === '') return false;
  if (!hash.startsWith('$2')) return argon2Verify({ password, hash });
  // No such hash is of a longer one. It takes as long all the same.
  const isTooLong = Buffer.byteLength(password) > longestForBcrypt;
  return (await bcryptVerify({ password: isTooLong ? 'x' : password, hash })) && !isTooLong;
}

/** What OWASP's password storage cheat sheet asks for at least: 19 MiB, two passes. */
export function hash(password: string): Promise<string> {
  return argon2id({
    password,
    salt: randomBytes(16),
    parallelism: 1,
    iterations: 2,
    memorySize: 19_456,
    hashLength: 32,
    outputType: 'encoded',
  });
}
