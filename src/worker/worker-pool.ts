// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { Piscina } from 'piscina';
import type { AppendResult, AppendTask, HashFileTask, HashResult, HashTask, WorkerSettings } from './data-worker.js';
import type { FilesRead, FilesTask, ListTreesTask } from './file-reader.js';
import type { HashClock, HashedSpan } from './hash-clock.js';
import type { HashAlgorithm, HashChoice } from './hash.js';
import type { SendSettings, SendTask, Sent } from './part-sender.js';

/** The workers' tasks, typed, for the main thread. */
export interface WorkerPool {
  /** Hashes `buffer` onto the state and writes it to the file. The buffer is away until the result brings it back. */
  append(task: AppendTask): Promise<AppendResult>;
  /** Hashes a file's bytes from `start` to before `end` onto the state. */
  hashFile(path: string, algorithm: HashAlgorithm, initial: Uint8Array, end: number, start: number): Promise<Uint8Array>;
  /** Small files, as file-reader.ts says. */
  listTrees(task: ListTreesTask): Promise<string>;
  readFiles(task: FilesTask): Promise<FilesRead>;
  fileSizes(task: FilesTask): Promise<Float64Array>;
  /** Hashes `buffer` onto the state. */
  hashBuffer(task: HashTask): Promise<HashResult>;
  /** Sends `buffer` as the body of a request. It is away until the result brings it back. */
  sendPart(task: SendTask): Promise<Sent>;
  /** Tasks that no worker has begun. */
  readonly waiting: number;
  close(): Promise<void>;
}

/** Under tsx and tap this file is `.ts`, and so is the worker. */
const workerFile = new URL(`./data-worker${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url);
/** One task's share of a long hash: 64 MiB take a worker some 40 ms with the native addon. */
const hashStepBytes = 64 * 1024 * 1024;

export interface WorkerPoolOptions {
  readonly threads: number;
  readonly hash: HashChoice;
  readonly clock: HashClock;
  /** Told of parts in the context of who appended them. */
  readonly onHashed?: ((span: HashedSpan, bytes: number) => void) | undefined;
  /** Where parts are sent over a network. */
  readonly sending?: SendSettings | undefined;
}

export function openWorkerPool({ threads, hash, clock, onHashed, sending }: WorkerPoolOptions): WorkerPool {
  const pool = new Piscina({
    filename: workerFile.href,
    minThreads: threads,
    maxThreads: threads,
    recordTiming: false,
    workerData: { hash, clock: clock.shared, sending: sending ?? noSending } satisfies WorkerSettings,
    // Who sends mostly waits; and a worker that slept in Atomics.wait would not notice that a connection it keeps was closed.
    ...(sending === undefined ? {} : { concurrentTasksPerWorker: 2 * sending.mostSockets, atomics: 'disabled' }),
  });
  return {
    async append(task) {
      const result = (await pool.run(task, { name: 'append', transferList: [task.buffer] })) as AppendResult;
      if (result.hashed !== undefined) onHashed?.(result.hashed, task.length);
      return result;
    },
    async hashFile(path, algorithm, initial, end, start) {
      let state = initial;
      for (let from = start; from < end; from += hashStepBytes) {
        const task: HashFileTask = { path, algorithm, state, start: from, end: Math.min(end, from + hashStepBytes) };
        state = (await pool.run(task, { name: 'hashFile' })) as Uint8Array;
      }
      return state;
    },
    async hashBuffer(task) {
      const result = (await pool.run(task, { name: 'hashBuffer', transferList: [task.buffer] })) as HashResult;
      onHashed?.(result.hashed, task.length);
      return result;
    },
    listTrees: (task) => pool.run(task, { name: 'listTrees' }) as Promise<string>,
    readFiles: (task) => pool.run(task, { name: 'readFiles' }) as Promise<FilesRead>,
    fileSizes: (task) => pool.run(task, { name: 'fileSizes' }) as Promise<Float64Array>,
    sendPart: (task) => pool.run(task, { name: 'sendPart', transferList: [task.buffer] }) as Promise<Sent>,
    get waiting() {
      return pool.queueSize;
    },
    close: () => pool.close(),
  };
}

const noSending: SendSettings = { mostSockets: 1, connectMs: 1_000, idleMs: 1_000 };
