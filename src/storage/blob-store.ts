// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * The contract of a blob store. Keys are those of `keys.ts`; no key is ever written twice with other bytes.
 * Failures of the disk are Errors with the system's `code` (`ENOSPC`, `EIO` …).
 */
export interface BlobStore {
  readonly kind: 'filesystem';
  /** Where it is, for the log. */
  readonly location: string;
  /** Writes a small object. When it resolves the object survives a power cut, and is listed. */
  put(key: string, bytes: Uint8Array): Promise<void>;
  /** A small object's bytes, or undefined. */
  get(key: string): Promise<Uint8Array | undefined>;
  /** Keys that begin with `prefix`, in the order of their bytes, after `after`, at most `limit` of them. */
  list(prefix: string, options?: { readonly after?: string; readonly limit?: number }): Promise<string[]>;
  /** Deletes objects; those that are absent count as deleted. */
  delete(keys: readonly string[]): Promise<void>;
  /** Bytes of an object, or undefined when there is none. */
  size(key: string): Promise<number | undefined>;
  /** Bytes `start` to before `end` of an object. Rejects when there is no such object. */
  open(key: string, start: number, end: number): Promise<ByteSource>;
  /** Begins a data object, or continues one of which `stored` bytes are there. */
  write(key: string, stored: number): Promise<DataWriter>;
  /** Copies the first `bytes` of an object whose writer may be alive elsewhere to a key of our own. */
  adopt(key: string, bytes: number, ownKey: string): Promise<void>;
  /** The hash state of an object's first `size` bytes, from `initial`. */
  hash(key: string, algorithm: 'sha256' | 'sha512', initial: Uint8Array, size: number): Promise<Uint8Array>;
}

/** Writes one data object in order. */
export interface DataWriter {
  /**
   * Hashes `length` bytes of `buffer` onto `state` and stores them at `offset`. The buffer is detached meanwhile; both come back with the result, also
   * when storing failed.
   */
  append(offset: number, algorithm: 'sha256' | 'sha512', state: Uint8Array, buffer: ArrayBuffer, length: number): Promise<Appended>;
  /** Resolves when everything appended so far survives a power cut. */
  sync(): Promise<void>;
  /** The object is complete with `size` bytes and durable. */
  finish(size: number): Promise<void>;
  /** Lets go of the object, which stays as it is. Safe at any time and twice. */
  close(): Promise<void>;
}

export interface Appended {
  readonly state: Uint8Array;
  readonly buffer: ArrayBuffer;
  readonly failure?: { readonly code: string; readonly message: string };
}

/** Bytes that are read while they are sent. A chunk is valid until the next call of `next`, so one or two buffers serve a whole stream. */
export interface ByteSource {
  /** The next bytes, or undefined at the end. */
  next(): Promise<Uint8Array | undefined>;
  /** Gives buffers and descriptors back; safe to call at any time and twice. */
  close(): void;
}
