// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Runs in a thread of its own: what makes a password hash good is that it takes long. */
import { argon2id, argon2Verify, bcryptVerify } from 'hash-wasm';
import { randomBytes } from 'node:crypto';
import { getPriority, setPriority } from 'node:os';
import { isMainThread } from 'node:worker_threads';

/** Of this thread alone, which Linux can: whoever logs in can wait, whoever pulls shall not. */
if (!isMainThread && process.platform === 'linux') setPriority(Math.min(19, getPriority() + 10));

/** Some five times as fast as hash-wasm, and undefined where there is no build of it. */
const native = await import('@node-rs/argon2').catch(() => undefined);

const longestForBcrypt = 72;

export interface VerifyTask {
  readonly password: string;
  /** Argon2 or bcrypt, in their usual forms. */
  readonly hash: string;
}

export async function verify({ password, hash }: VerifyTask): Promise<boolean> {
  if (password === '') return false;
  if (!hash.startsWith('$2')) return verifyArgon2(password, hash);
  // No such hash is of a longer one. It takes as long all the same.
  const isTooLong = Buffer.byteLength(password) > longestForBcrypt;
  return (await bcryptVerify({ password: isTooLong ? 'x' : password, hash })) && !isTooLong;
}

async function verifyArgon2(password: string, hash: string): Promise<boolean> {
  try {
    if (native !== undefined) return native.verifySync(hash, password);
  } catch {
    // Parameters that only hash-wasm takes.
  }
  return argon2Verify({ password, hash });
}

/** What OWASP's password storage cheat sheet asks for at least: 19 MiB, two passes. */
export async function hash(password: string): Promise<string> {
  const [parallelism, passes, memoryKiB, bytes] = [1, 2, 19_456, 32];
  if (native !== undefined) return native.hashSync(password, { parallelism, timeCost: passes, memoryCost: memoryKiB, outputLen: bytes });
  const options = { parallelism, iterations: passes, memorySize: memoryKiB, hashLength: bytes, outputType: 'encoded' } as const;
  return argon2id({ password, salt: randomBytes(16), ...options });
}
