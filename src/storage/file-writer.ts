// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { stat, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { RegistryError } from '../oci/errors.js';
import type { Appending, DataWriter, NewPart } from './blob-store.js';
import { syncDirectory } from './durable-directory.js';

/** The tasks that are done outside the main thread. */
export interface FileWorkers {
  append(task: {
    readonly file: number;
    readonly offset: number;
    readonly algorithm: 'sha256' | 'sha512';
    readonly state: Uint8Array;
    readonly buffer: ArrayBuffer;
    readonly length: number;
    readonly keepFree: KeepFree | undefined;
  }): Promise<FileAppended>;
  hashFile(path: string, algorithm: 'sha256' | 'sha512', initial: Uint8Array, end: number, start: number): Promise<Uint8Array>;
  /** As worker/file-reader.ts has them. */
  listTrees(task: { readonly root: string; readonly directories: readonly string[]; readonly mostNames: number }): Promise<string>;
  readFiles(task: FilesTask): Promise<{ readonly bytes: Uint8Array; readonly lengths: Float64Array }>;
  fileSizes(task: FilesTask): Promise<Float64Array>;
}

interface FilesTask {
  readonly root: string;
  readonly keys: readonly string[];
}

export interface FileAppended {
  readonly state: Uint8Array;
  readonly buffer: ArrayBuffer;
  readonly failure?: { readonly code: string; readonly message: string };
}

/** The disk of `path` counts as full when less than this is left. */
export interface KeepFree {
  readonly path: string;
  readonly bytes: number;
}

/** A data object that is being written: parts by the workers, syncing here. */
export class FileWriter implements DataWriter {
  private readonly file: FileHandle;
  private readonly path: string;
  private readonly workers: FileWorkers;
  private readonly keepFree: KeepFree | undefined;
  private closed = false;

  constructor(file: FileHandle, path: string, workers: FileWorkers, keepFree: KeepFree | undefined) {
    this.file = file;
    this.path = path;
    this.workers = workers;
    this.keepFree = keepFree;
  }

  /** One job of a worker does both, since the disk is as fast as the hash: what is under way together gains nothing here. */
  append({ number, offset, algorithm, state, buffer, length }: NewPart): Appending {
    const appended = this.workers.append({ file: this.file.fd, offset, algorithm, state, buffer, length, keepFree: this.keepFree });
    const hashed = appended.then((done) => {
      if (done.failure !== undefined) throw asError(done.failure);
      return done.state;
    });
    hashed.catch(() => undefined);
    const stored = appended.then((done) =>
      done.failure === undefined
        ? { buffer: done.buffer, part: { number, etag: '', bytes: length } }
        : { buffer: done.buffer, failure: asError(done.failure) },
    );
    return { hashed, stored };
  }

  async sync(): Promise<void> {
    await this.file.datasync();
    await syncDirectory(dirname(this.path));
  }

  async finish(size: number): Promise<void> {
    const { size: actual } = await this.file.stat();
    // A writer that died may have left bytes past its last checkpoint.
    if (actual > size) await this.file.truncate(size);
    if (actual < size) throw new Error(`data object has ${actual} bytes instead of ${size}`);
    await this.sync();
    // A mount that came or went since the file was opened has hidden it.
    const named = await stat(this.path).catch(() => undefined);
    if (named?.size !== size) throw unavailable(`${this.path} is not there any more: has its mount come, or gone, meanwhile?`);
    await this.close();
  }

  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    await this.file.close();
  }
}

function unavailable(reason: string): RegistryError {
  return new RegistryError('UNAVAILABLE', 'the store cannot serve this request now', {
    headers: { 'Retry-After': '5' },
    cause: new Error(reason),
  });
}

function asError({ code, message }: NonNullable<FileAppended['failure']>): Error {
  return Object.assign(new Error(message), { code });
}
