// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * The contract of a blob store. Keys are those of `keys.ts`; no key is ever written twice with other bytes.
 * Failures of the disk are Errors with the system's `code` (`ENOSPC`, `EIO` …); a store that cannot serve now rejects with a RegistryError (UNAVAILABLE).
 *
 * Small objects are put. A data object is begun, written in parts and finished; what another node needs to go on with it is plain data: the key, what `begin`
 * returned, the parts that are stored, and the hash state.
 */
export interface BlobStore {
  readonly kind: 'filesystem' | 's3';
  /** Where it is, for the log. */
  readonly location: string;
  readonly parts: PartRule;
  /** Writes a small object, which may be empty. When it resolves the object survives a power cut, and is listed. */
  put(key: string, bytes: Uint8Array): Promise<void>;
  /** A small object's bytes, or undefined. */
  get(key: string): Promise<Uint8Array | undefined>;
  /** Keys that begin with `prefix`, in the order of their bytes, after `after`, at most `limit` of them. */
  list(prefix: string, options?: Page): Promise<string[]>;
  /**
   * What `prefix` (empty, or ending in a slash) has directories for: `<prefix><name>/`, in the order of their bytes with that slash, after `after` (one of
   * them), at most `limit`. On a filesystem one may be empty.
   */
  listDirectories(prefix: string, options?: Page): Promise<string[]>;
  /** `list` without a limit, key by key, where pages cost more than that; `walkKeys` does it with pages elsewhere. */
  readonly walk?: (prefix: string, after: string) => AsyncIterable<string>;
  /** `get` and `size` of hundreds of objects at once, where that costs less than one by one; `batchLookups` uses them where they are. */
  readonly getMany?: (keys: readonly string[]) => Promise<(Uint8Array | undefined)[]>;
  readonly sizes?: (keys: readonly string[]) => Promise<(number | undefined)[]>;
  /** Deletes objects; those that are absent count as deleted. Tries all of them, and rejects with `UndeletedObjects` when some remain. */
  delete(keys: readonly string[]): Promise<void>;
  /** Bytes of an object, or undefined when there is none. */
  size(key: string): Promise<number | undefined>;
  /** Bytes `start` to before `end` of an object. Rejects when there is no such object. */
  open(key: string, start: number, end: number): Promise<ByteSource>;
  /** Where a client can get the object without us, for a while; undefined where it can't, or shouldn't. */
  presign(key: string, contentType: string): Promise<string | undefined>;
  /** Hashes a finished object's bytes from `start` (0 unless told) to before `end` onto `state`, and returns the state that comes of it. */
  hash(key: string, algorithm: 'sha256' | 'sha512', state: Uint8Array, end: number, start?: number): Promise<Uint8Array>;

  /** Registers a data object that will be written in parts. Returns what else is needed to write it; empty where that is nothing. */
  begin(key: string): Promise<string>;
  /** Begins to write a data object, or goes on after its first `stored` bytes. */
  write(key: string, begun: string, stored: number): Promise<DataWriter>;
  /** Drops a data object that was begun and not finished; absent counts as dropped. A part that is under way may survive it, so the last word comes when its writer has gone. */
  abort(key: string, begun: string): Promise<void>;
  /**
   * Copies the first `bytes` of an object whose writer may be alive elsewhere to a key of our own. Only where that writer could change them: with numbered parts
   * it cannot, and whoever takes over goes on with the same key.
   */
  readonly adopt?: (key: string, bytes: number, ownKey: string) => Promise<void>;
}

export interface Page {
  readonly after?: string;
  readonly limit?: number;
}

/** How the bytes of a data object are divided into parts. */
export interface PartRule {
  /**
   * Whether parts are known by number: each is reserved by the caller before it is appended, from 1 up, never used twice (gaps do no harm), and `finish` needs
   * those that count. Otherwise offsets are all that matters, and numbers are ignored.
   */
  readonly numbered: boolean;
  /** Each part but the last has at least this many bytes. */
  readonly smallestBytes: number;
  /** Whether each part but the last must have exactly `wantedBytes`, which is the same for all of them then. */
  readonly equal: boolean;
  /** The largest number. */
  readonly most: number;
  /** How many bytes the part with this number should have, where memory allows. */
  wantedBytes(number: number): number;
}

/** A part that is stored: plain data that the caller keeps for `finish`. */
export interface Part {
  readonly number: number;
  /** What the store knows its content by. */
  readonly etag: string;
  readonly bytes: number;
}

/** Writes one data object. */
export interface DataWriter {
  /** Hashes a part onto `state` and stores it. Parts may be under way together, each begun when the one before it is hashed. */
  append(part: NewPart): Appending;
  /** Resolves when everything that is stored so far survives a power cut. */
  sync(): Promise<void>;
  /**
   * The object is complete with `size` bytes, and durable; `parts` are all of it, in the order of their numbers. May be called again, by another node too,
   * with the same parts. An empty object is put instead.
   */
  finish(size: number, parts: readonly Part[]): Promise<void>;
  /** Lets go of the object, which stays as it is; parts that are under way are broken off where that is possible. Safe at any time and twice. */
  close(): Promise<void>;
}

export interface NewPart {
  readonly number: number;
  /** Where in the object it begins. */
  readonly offset: number;
  readonly algorithm: 'sha256' | 'sha512';
  /** Neutral hash state of everything before `offset`; not to be used any more. */
  readonly state: Uint8Array;
  /** The first `length` bytes are the part's. It is detached, and comes back with `stored`. */
  readonly buffer: ArrayBuffer;
  readonly length: number;
}

export interface Appending {
  /** The hash state with this part. Rejects when the part fails before it is hashed; nobody has to listen. */
  readonly hashed: Promise<Uint8Array>;
  /** The end of it. A failure is a value here, since the buffer has to come home whatever happened. */
  readonly stored: Promise<Stored>;
}

/** Hashes a buffer onto a state in a worker; both come back. */
export type HashBuffer = (task: {
  readonly algorithm: 'sha256' | 'sha512';
  readonly state: Uint8Array;
  readonly buffer: ArrayBuffer;
  readonly length: number;
}) => Promise<{ readonly state: Uint8Array; readonly buffer: ArrayBuffer }>;

export type Stored = { readonly buffer: ArrayBuffer } & ({ readonly part: Part; readonly failure?: never } | { readonly failure: Error });

/** Whatever was thrown, as a failure that can be handed on. */
export function asFailure(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}

/** Objects that could not be deleted; all others of the call are gone. */
export class UndeletedObjects extends Error {
  override readonly name = 'UndeletedObjects';
  readonly keys: readonly string[];

  constructor(keys: readonly string[], cause: unknown) {
    super(`${keys.length} objects could not be deleted, ${keys[0]} among them: ${asFailure(cause).message}`, { cause });
    this.keys = keys;
  }
}

/** Bytes that are read while they are sent. A chunk is valid until the next call of `next`, so one or two buffers serve a whole stream. */
export interface ByteSource {
  /** The next bytes, or undefined at the end. */
  next(): Promise<Uint8Array | undefined>;
  /** Gives buffers and descriptors back; safe to call at any time and twice. */
  close(): void;
}
