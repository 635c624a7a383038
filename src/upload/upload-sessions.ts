// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { randomUUID } from 'node:crypto';
import { linkUpload } from '../blob/link-blob.js';
import { asRegistryError, isConnectionLoss, isDiskFull, sqlState, sqlStateOf } from '../database/failures.js';
import type { RequestBody } from '../http/contract.js';
import type { Journal } from '../journal/write-entries.js';
import { algorithmOf, makeDigest, type Digest, type DigestAlgorithm } from '../oci/digest.js';
import { RegistryError } from '../oci/errors.js';
import type { RepositoryName } from '../oci/repository-name.js';
import { dataKey } from '../storage/keys.js';
import type { Hasher } from '../worker/hash.js';
import type { BufferPool } from './buffer-pool.js';
import {
  acquireSession,
  endSession,
  findSessionBytes,
  hastenTrash,
  insertSession,
  moveSession,
  reserveData,
  saveSession,
} from './session-queries.js';
import { UploadWriter, type UploadState } from './upload-writer.js';

export interface Uploads {
  readonly journal: Journal;
  readonly buffers: BufferPool;
  readonly hasher: Hasher;
  /** Uploads whose bytes this node is receiving or storing now. */
  readonly progress: { active: number };
}

/** The writer's lease is 30 s; saving three times as often lets it survive a slow disk. */
const saveEveryMs = 10_000;
/** What a crash of the node may cost a client that resumes. Syncing in steps also lets the disk work while bytes still arrive. */
const saveEveryBytes = 64 * 1024 * 1024;

/** A session that other requests, here or on another node, can continue. */
export async function openSession(uploads: Uploads, repository: RepositoryName, algorithm: DigestAlgorithm): Promise<string> {
  const id = randomUUID();
  await guarded(
    insertSession(uploads.journal.writes, uploads.journal.node.id, { id, repository, dataUuid: randomUUID(), algorithm }, false),
  );
  return id;
}

/** An upload that begins and ends with one request. */
export async function beginUpload(
  uploads: Uploads,
  repository: RepositoryName,
  algorithm: DigestAlgorithm,
  body: RequestBody,
): Promise<ActiveUpload> {
  const session = { id: randomUUID(), repository, dataUuid: randomUUID(), algorithm, resumable: false };
  await guarded(insertSession(uploads.journal.writes, uploads.journal.node.id, session, true));
  return new ActiveUpload(uploads, { ...session, revision: 1n }, initialState(uploads, session.dataUuid, algorithm), body);
}

/** Becomes the one writer of a session that stands at `start`. Throws BLOB_UPLOAD_UNKNOWN, or RANGE_INVALID (416) with where the session stands. */
export async function resumeUpload(
  uploads: Uploads,
  repository: RepositoryName,
  id: string,
  start: number | undefined,
  body: RequestBody,
): Promise<ActiveUpload> {
  const { journal } = uploads;
  const row = await guarded(acquireSession(journal.writes, journal.node.id, id, repository, start));
  if (row.outcome === 'unknown') throw uploadUnknown(id);
  const received = Number(row.bytes_received);
  if (row.outcome === 'busy') throw outOfStep('another request is writing to this upload', repository, id, received);
  if (row.outcome === 'order') throw outOfStep(`the upload stands at ${received}`, repository, id, received);
  const session = { id, repository, revision: BigInt(row.revision), dataUuid: row.data_uuid, algorithm: row.algorithm, resumable: true };
  const tail = row.tail ?? new Uint8Array();
  const stored = received - tail.byteLength;
  if (row.abandoned) session.dataUuid = await guarded(takeOver(journal, session, stored));
  const hashState = row.hash_state === null ? uploads.hasher.initial(row.algorithm) : Uint8Array.from(row.hash_state);
  return new ActiveUpload(
    uploads,
    session,
    { dataKey: dataKey(session.dataUuid), algorithm: row.algorithm, hashState, stored, tail },
    body,
  );
}

/** Bytes received so far. Throws BLOB_UPLOAD_UNKNOWN. */
export async function sessionBytes({ journal }: Uploads, repository: RepositoryName, id: string): Promise<number> {
  const received = await guarded(findSessionBytes(journal.writes, id, repository));
  if (received === undefined) throw uploadUnknown(id);
  return received;
}

export function uploadUnknown(id: string): RegistryError {
  return new RegistryError('BLOB_UPLOAD_UNKNOWN', 'upload unknown, ended or expired', { detail: id });
}

export function sessionLocation(repository: RepositoryName, id: string): string {
  return `/v2/${repository}/blobs/uploads/${id}`;
}

/** `0-<last byte>`; an empty upload says `0-0`, since docker's parser needs an end that is not before the start. */
export function sessionRange(received: number): string {
  return `0-${Math.max(0, received - 1)}`;
}

interface HeldSession {
  readonly id: string;
  readonly repository: RepositoryName;
  readonly revision: bigint;
  readonly dataUuid: string;
  readonly algorithm: DigestAlgorithm;
  /** Whether the client knows where it could go on. */
  readonly resumable: boolean;
}

/** One request's hold on a session: receives a body, then either lets go of it (`suspend`) or makes it a blob (`finish`). */
export class ActiveUpload {
  private readonly uploads: Uploads;
  private readonly session: HeldSession;
  private readonly body: RequestBody;
  private readonly writer: UploadWriter;
  private readonly timer: NodeJS.Timeout;
  /** What a client was told, or may have been: no checkpoint goes below it. */
  private readonly acknowledged: number;
  private savedAt: number;
  private saving: Promise<void> | undefined;

  constructor(uploads: Uploads, session: HeldSession, state: UploadState, body: RequestBody) {
    this.uploads = uploads;
    this.session = session;
    this.body = body;
    this.acknowledged = bytesOf(state);
    this.savedAt = state.stored;
    this.writer = new UploadWriter({ store: uploads.journal.store, buffers: uploads.buffers }, state, body.length, ({ stored }) => {
      if (stored - this.savedAt >= saveEveryBytes) this.checkpoint();
    });
    this.timer = setInterval(() => this.checkpoint(), saveEveryMs);
    uploads.progress.active++;
  }

  /** Takes the body and keeps it for a later request, which also happens to what arrived of a body that was broken off. Returns the bytes received in all. */
  async suspend(): Promise<number> {
    try {
      await this.body.pipe(this.writer);
      return await this.release();
    } catch (error) {
      await this.keep(error);
      throw this.asClientError(error);
    } finally {
      await this.close();
    }
  }

  /** Takes the body, compares the digest, and links the blob. Throws DIGEST_INVALID when it differs; the bytes are dropped then. */
  async finish(digest: Digest): Promise<void> {
    let complete: UploadState | undefined;
    try {
      await this.body.pipe(this.writer);
      complete = await this.writer.complete();
      const actual = await this.digestOf(complete, algorithmOf(digest));
      await this.endCheckpoints();
      if (actual !== digest) {
        throw new RegistryError('DIGEST_INVALID', 'the uploaded bytes have another digest', { detail: { expected: digest, actual } });
      }
      const small = complete.stored === 0 ? complete.tail : undefined;
      await linkUpload(this.uploads.journal, this.session.repository, digest, { session: this.session, size: bytesOf(complete), small });
    } catch (error) {
      await this.keep(error, complete);
      throw this.asClientError(error);
    } finally {
      await this.close();
    }
  }

  private async release(): Promise<number> {
    const state = await this.writer.suspend();
    await this.endCheckpoints();
    await this.save(state, true);
    return bytesOf(state);
  }

  /** After a failure: lets go of the session as far as it has come, or ends it where nobody could or should go on with it. */
  private async keep(error: unknown, complete?: UploadState): Promise<void> {
    await this.writer.settled();
    await this.endCheckpoints();
    const wrong = error instanceof RegistryError && error.code === 'DIGEST_INVALID';
    try {
      if (sqlStateOf(error) === sqlState.otherWriter) {
        await hastenTrash(this.uploads.journal.writes, dataKey(this.session.dataUuid));
        return;
      }
      // A full disk gets its bytes back.
      if (wrong || !this.session.resumable || isDiskFull(error)) {
        await endSession(this.uploads.journal.writes, this.session.id, this.session.revision);
      } else if (complete !== undefined) await this.save(complete, true);
      else await this.releaseWhatIsKnown();
    } catch {
      // The lease runs out, and what the last checkpoint says is still true.
    }
  }

  private async releaseWhatIsKnown(): Promise<void> {
    try {
      await this.release();
    } catch {
      // What was not stored is lost; the row still says how far the last checkpoint came.
      await this.save(undefined, true);
    }
  }

  private async digestOf(state: UploadState, algorithm: DigestAlgorithm): Promise<Digest> {
    const { hasher, journal } = this.uploads;
    let { hashState } = state;
    if (algorithm !== state.algorithm) {
      // Nobody said until now that another algorithm is wanted: read back what is stored.
      hashState = hasher.initial(algorithm);
      if (state.stored > 0) hashState = await journal.store.hash(state.dataKey, algorithm, hashState, state.stored);
    }
    if (state.tail.byteLength > 0) {
      hashState = hashState.slice();
      hasher.update(algorithm, hashState, state.tail);
    }
    return makeDigest(algorithm, hasher.digest(algorithm, hashState));
  }

  /** While bytes go on arriving: records what is durable, and renews the lease. */
  private checkpoint(): void {
    this.saving ??= (async () => {
      try {
        const state = await this.writer.durableState();
        this.savedAt = state.stored;
        await this.save(state.stored < this.acknowledged ? undefined : state, false);
      } catch (error) {
        // Postgres may be back before the lease is over; a lost session cannot come back.
        if (!isConnectionLoss(error)) this.writer.fail(error instanceof Error ? error : new Error(String(error)));
      } finally {
        this.saving = undefined;
      }
    })();
  }

  private async endCheckpoints(): Promise<void> {
    clearInterval(this.timer);
    await this.saving;
  }

  private async save(state: UploadState | undefined, release: boolean): Promise<void> {
    const { writes, node } = this.uploads.journal;
    const saved = state === undefined ? undefined : { ...state, bytesReceived: bytesOf(state) };
    await saveSession(writes, node.id, this.session.id, this.session.revision, saved, release);
  }

  private asClientError(error: unknown): unknown {
    if (sqlStateOf(error) !== sqlState.otherWriter) return asRegistryError(error);
    return new RegistryError('BLOB_UPLOAD_UNKNOWN', 'the upload was cancelled, or taken over by another request', {
      detail: this.session.id,
    });
  }

  private async close(): Promise<void> {
    clearInterval(this.timer);
    try {
      await this.writer.close();
    } finally {
      this.uploads.progress.active--;
    }
  }
}

function bytesOf(state: UploadState): number {
  return state.stored + state.tail.byteLength;
}

function initialState({ hasher }: Uploads, dataUuid: string, algorithm: DigestAlgorithm): UploadState {
  return { dataKey: dataKey(dataUuid), algorithm, hashState: hasher.initial(algorithm), stored: 0, tail: new Uint8Array() };
}

/** The writer before us vanished and may still be writing to its object: go on in one of our own, with a copy of what is stored. */
async function takeOver({ writes, node, store }: Journal, session: HeldSession, stored: number): Promise<string> {
  const own = randomUUID();
  await reserveData(writes, own);
  if (stored > 0) await store.adopt?.(dataKey(session.dataUuid), stored, dataKey(own));
  await moveSession(writes, node.id, session.id, session.revision, own);
  return own;
}

function outOfStep(message: string, repository: RepositoryName, id: string, received: number): RegistryError {
  return new RegistryError('RANGE_INVALID', message, {
    detail: { received },
    headers: { Location: sessionLocation(repository, id), Range: sessionRange(received), 'Docker-Upload-UUID': id },
  });
}

async function guarded<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw asRegistryError(error);
  }
}
