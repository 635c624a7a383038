// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { randomUUID } from 'node:crypto';
import { linkUpload } from '../blob/link-blob.js';
import { asRegistryError, isConnectionLoss, sqlState, sqlStateOf } from '../database/failures.js';
import type { RequestBody } from '../http/contract.js';
import type { Journal } from '../journal/write-entries.js';
import { algorithmOf, makeDigest, type Digest, type DigestAlgorithm } from '../oci/digest.js';
import { RegistryError } from '../oci/errors.js';
import type { RepositoryName } from '../oci/repository-name.js';
import { dataKey } from '../storage/keys.js';
import type { Hasher } from '../worker/hash.js';
import type { BufferPool } from './buffer-pool.js';
import { acquireSession, endSession, findSessionBytes, insertSession, moveSession, saveSession } from './session-queries.js';
import { UploadWriter, type UploadState } from './upload-writer.js';

export interface Uploads {
  readonly journal: Journal;
  readonly buffers: BufferPool;
  readonly hasher: Hasher;
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
  const session = { id: randomUUID(), repository, dataUuid: randomUUID(), algorithm };
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
  const session = { id, repository, revision: BigInt(row.revision), dataUuid: row.data_uuid, algorithm: row.algorithm };
  const tail = row.tail ?? new Uint8Array();
  const stored = received - tail.byteLength;
  if (row.abandoned && stored > 0) session.dataUuid = await takeOver(journal, session, stored);
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
}

/** One request's hold on a session: receives a body, then either lets go of it (`suspend`) or makes it a blob (`finish`). */
export class ActiveUpload {
  private readonly uploads: Uploads;
  private readonly session: HeldSession;
  private readonly body: RequestBody;
  private readonly writer: UploadWriter;
  private readonly timer: NodeJS.Timeout;
  private savedAt: number;
  private saving: Promise<void> | undefined;

  constructor(uploads: Uploads, session: HeldSession, state: UploadState, body: RequestBody) {
    this.uploads = uploads;
    this.session = session;
    this.body = body;
    this.savedAt = state.stored;
    this.writer = new UploadWriter({ store: uploads.journal.store, buffers: uploads.buffers }, state, body.length, ({ stored }) => {
      if (stored - this.savedAt >= saveEveryBytes) this.save();
    });
    this.timer = setInterval(() => this.save(), saveEveryMs);
  }

  /** Takes the body and keeps what arrived for a later request, also when the client went away in the middle. Returns the bytes received in all. */
  async suspend(): Promise<number> {
    try {
      try {
        await this.body.pipe(this.writer);
      } catch (error) {
        await this.release().catch(() => undefined);
        throw error;
      }
      return await this.release();
    } finally {
      await this.close();
    }
  }

  /** Takes the body, compares the digest, and links the blob. Throws DIGEST_INVALID when it differs; the bytes are dropped then. */
  async finish(digest: Digest): Promise<void> {
    try {
      try {
        await this.body.pipe(this.writer);
      } catch (error) {
        await this.release().catch(() => undefined);
        throw error;
      }
      const state = await this.writer.complete();
      const size = state.stored + state.tail.byteLength;
      const actual = await this.digestOf(state, algorithmOf(digest));
      if (actual !== digest) {
        await this.saving;
        await endSession(this.uploads.journal.writes, this.session.id, this.session.revision);
        throw new RegistryError('DIGEST_INVALID', 'the uploaded bytes have another digest', { detail: { expected: digest, actual } });
      }
      await this.saving;
      const small = state.stored === 0 ? state.tail : undefined;
      await linkUpload(this.uploads.journal, this.session.repository, digest, { session: this.session, size, small });
    } catch (error) {
      throw this.asClientError(error);
    } finally {
      await this.close();
    }
  }

  private async release(): Promise<number> {
    const state = await this.writer.suspend();
    const bytesReceived = state.stored + state.tail.byteLength;
    await this.saving;
    try {
      await saveSession(
        this.uploads.journal.writes,
        this.uploads.journal.node.id,
        this.session.id,
        this.session.revision,
        { ...state, bytesReceived },
        true,
      );
    } catch (error) {
      throw this.asClientError(error);
    }
    return bytesReceived;
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

  /** A checkpoint while bytes go on arriving; it also renews the lease. */
  private save(): void {
    this.saving ??= (async () => {
      const { journal } = this.uploads;
      try {
        const state = await this.writer.durableState();
        this.savedAt = state.stored;
        await saveSession(
          journal.writes,
          journal.node.id,
          this.session.id,
          this.session.revision,
          { ...state, bytesReceived: state.stored },
          false,
        );
      } catch (error) {
        // Postgres may be back before the lease is over; a lost session cannot come back.
        if (!isConnectionLoss(error)) this.writer.fail(error instanceof Error ? error : new Error(String(error)));
      } finally {
        this.saving = undefined;
      }
    })();
  }

  private asClientError(error: unknown): unknown {
    if (sqlStateOf(error) !== sqlState.otherWriter) return asRegistryError(error);
    return new RegistryError('BLOB_UPLOAD_UNKNOWN', 'the upload was cancelled, or taken over by another request', {
      detail: this.session.id,
    });
  }

  private async close(): Promise<void> {
    clearInterval(this.timer);
    await this.writer.close();
  }
}

function initialState({ hasher }: Uploads, dataUuid: string, algorithm: DigestAlgorithm): UploadState {
  return { dataKey: dataKey(dataUuid), algorithm, hashState: hasher.initial(algorithm), stored: 0, tail: new Uint8Array() };
}

/** The writer before us vanished and may still be writing to its object: go on in a copy. */
async function takeOver(journal: Journal, session: HeldSession, stored: number): Promise<string> {
  const own = randomUUID();
  await journal.store.adopt(dataKey(session.dataUuid), stored, dataKey(own));
  await guarded(moveSession(journal.writes, journal.node.id, session.id, session.revision, own));
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
