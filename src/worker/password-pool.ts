// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { Piscina } from 'piscina';
import { RegistryError } from '../oci/errors.js';
import type { VerifyTask } from './password-worker.js';

/** Password hashes, off the main thread. Its threads end when nobody logs in for a while. */
export interface PasswordPool {
  /** Rejects with TOOMANYREQUESTS (429) when more passwords wait than could be checked in time. */
  verify(password: string, hash: string): Promise<boolean>;
  hash(password: string): Promise<string>;
  close(): Promise<void>;
}

/** Under tsx and tap this file is `.ts`, and so is the worker. */
const workerFile = new URL(`./password-worker${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url);

/** Logging in must leave the processors to pulls. */
const threads = 1;
/** Some ten seconds' worth. */
const mostWaiting = 128;
const idleMs = 60_000;

export function openPasswordPool(): PasswordPool {
  const pool = new Piscina({
    filename: workerFile.href,
    minThreads: 0,
    maxThreads: threads,
    idleTimeout: idleMs,
    recordTiming: false,
  });
  return {
    async verify(password, hash) {
      if (pool.queueSize >= mostWaiting)
        throw new RegistryError('TOOMANYREQUESTS', 'too many are logging in', { headers: { 'Retry-After': '5' } });
      return (await pool.run({ password, hash } satisfies VerifyTask, { name: 'verify' })) as boolean;
    },
    hash: (password) => pool.run(password, { name: 'hash' }) as Promise<string>,
    close: () => pool.close(),
  };
}
