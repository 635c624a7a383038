// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What runs in the workers. The names of these functions are the names of the tasks in `worker-pool.ts`. */
import { closeSync, openSync, readSync, statfsSync, write, writeSync } from 'node:fs';
import { move, transferableSymbol, valueSymbol, workerData } from 'piscina';
import { HashClock, timedHasher, type HashedSpan } from './hash-clock.js';
import { loadHasher, type HashAlgorithm, type HashChoice } from './hash.js';
import { openSender, type SendSettings, type SendTask } from './part-sender.js';

export { fileSizes, listTrees, readFiles } from './file-reader.js';

export interface WorkerSettings {
  readonly hash: HashChoice;
  /** `HashClock.shared` of the main thread. */
  readonly clock: SharedArrayBuffer;
  readonly sending: SendSettings;
}

export interface HashTask {
  readonly algorithm: HashAlgorithm;
  readonly state: Uint8Array;
  /** Transferred here, and back with the state. */
  readonly buffer: ArrayBuffer;
  readonly length: number;
}

export interface HashResult {
  readonly state: Uint8Array;
  readonly buffer: ArrayBuffer;
  readonly hashed: HashedSpan;
}

export interface AppendTask {
  /** Descriptor of the data file, open in this process. */
  readonly file: number;
  /** Where in the file the bytes go. */
  readonly offset: number;
  readonly algorithm: HashAlgorithm;
  /** Neutral state of everything before `offset`. */
  readonly state: Uint8Array;
  /** Transferred here, and back with the result. */
  readonly buffer: ArrayBuffer;
  readonly length: number;
  /** The disk of this path counts as full when less than this would be left. */
  readonly keepFree: { readonly path: string; readonly bytes: number } | undefined;
}

export interface AppendResult {
  readonly state: Uint8Array;
  readonly buffer: ArrayBuffer;
  /** A failed write is a value here, since the buffer has to come home whatever happened. */
  readonly failure?: { readonly code: string; readonly message: string };
  /** When it was hashed, for a trace. */
  readonly hashed?: HashedSpan;
}

export interface HashFileTask {
  readonly path: string;
  readonly algorithm: HashAlgorithm;
  readonly state: Uint8Array;
  readonly start: number;
  readonly end: number;
}

const settings = workerData as WorkerSettings;
let lastHashed: HashedSpan = { startMs: 0, endMs: 0 };
const hasher = timedHasher(await loadHasher(settings.hash), new HashClock(settings.clock), (span) => {
  lastHashed = span;
});
const send = openSender(settings.sending);
const readBufferBytes = 1024 * 1024;
let readBuffer: Buffer | undefined;

/** hot: bench/push-cpu.ts, bench/push-wall.ts. Large parts are written by libuv's threads while they are hashed here. */
export async function append({ file, offset, algorithm, state, buffer, length, keepFree }: AppendTask): Promise<unknown> {
  const bytes = new Uint8Array(buffer, 0, length);
  let writing: Promise<void> | undefined;
  let result: AppendResult = { state, buffer };
  try {
    if (keepFree !== undefined) refuseFullDisk(keepFree.path, keepFree.bytes + length);
    if (length >= worthAThreadBytes) writing = writeFully(file, bytes, offset);
    hasher.update(algorithm, state, bytes);
    result = { state, buffer, hashed: lastHashed };
    if (writing === undefined)
      for (let written = 0; written < length;) written += writeSync(file, bytes, written, length - written, offset + written);
    await writing;
  } catch (error) {
    // Until the write has ended the buffer is not ours to give back.
    await writing?.catch(() => undefined);
    const { code = 'UNKNOWN', message } = error as NodeJS.ErrnoException;
    result = { state, buffer, failure: { code, message } };
  }
  return move({ [transferableSymbol]: [buffer], [valueSymbol]: result });
}

/** Below it the write takes less than the hop. */
const worthAThreadBytes = 512 * 1024;

function writeFully(file: number, bytes: Uint8Array, offset: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const writeOn = (written: number): void => {
      write(file, bytes, written, bytes.byteLength - written, offset + written, (error, count) => {
        if (error !== null) reject(error);
        else if (written + count < bytes.byteLength) writeOn(written + count);
        else resolve();
      });
    };
    writeOn(0);
  });
}

function refuseFullDisk(path: string, neededBytes: number): void {
  const { bavail, bsize } = statfsSync(path);
  if (bavail * bsize < neededBytes) throw Object.assign(new Error('ENOSPC: what is left of the disk is kept free'), { code: 'ENOSPC' });
}

/** Hashes a range of a file onto `state`; a large file is hashed range by range, so that it does not hold a worker for long. */
export function hashFile({ path, algorithm, state, start, end }: HashFileTask): Uint8Array {
  readBuffer ??= Buffer.allocUnsafeSlow(readBufferBytes);
  const file = openSync(path, 'r');
  try {
    for (let position = start; position < end;) {
      const count = readSync(file, readBuffer, 0, Math.min(readBufferBytes, end - position), position);
      if (count === 0) throw new Error(`${path} ends at ${position}, before ${end}`);
      hasher.update(algorithm, state, readBuffer.subarray(0, count));
      position += count;
    }
  } finally {
    closeSync(file);
  }
  return state;
}

/** Hashes a buffer onto `state`. */
export function hashBuffer({ algorithm, state, buffer, length }: HashTask): unknown {
  hasher.update(algorithm, state, new Uint8Array(buffer, 0, length));
  const result: HashResult = { state, buffer, hashed: lastHashed };
  return move({ [transferableSymbol]: [buffer], [valueSymbol]: result });
}

/** Sends a buffer as the body of a signed request. */
export async function sendPart(task: SendTask): Promise<unknown> {
  const sent = await send(task);
  return move({ [transferableSymbol]: [task.buffer], [valueSymbol]: sent });
}
