// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { randomUUID } from 'node:crypto';
import { linkUpload } from '../blob/link-blob.js';
import { asRegistryError, isDiskFull, isUnavailable, sqlState, sqlStateOf } from '../database/failures.js';
import { pausePoints } from '../database/pause-points.js';
import type { RequestBody } from '../http/contract.js';
import type { Journal } from '../journal/write-entries.js';
import { algorithmOf, makeDigest, type Digest, type DigestAlgorithm } from '../oci/digest.js';
import { RegistryError } from '../oci/errors.js';
import type { RepositoryName } from '../oci/repository-name.js';
import { asFailure, type HashBuffer, type Part } from '../storage/blob-store.js';
import { dataKey, tailKey } from '../storage/keys.js';
import type { Hasher } from '../worker/hash.js';
import type { BufferPool } from './buffer-pool.js';
import { PartLedger, type PartsSoFar } from './part-ledger.js';
import { outOfStep } from './session-answers.js';
import {
  endSession,
  hastenTrash,
  renewSession,
  reserveObject,
  reserveParts,
  saveSession,
  sealSession,
  type SavedState,
  type SessionHold,
} from './session-queries.js';
import { mostTailBytes, UploadWriter, type TailObject, type UploadState } from './upload-writer.js';

export interface Uploads {
  readonly journal: Journal;
  readonly buffers: BufferPool;
  readonly hasher: Hasher;
  readonly hashBuffer: HashBuffer;
  /** Uploads whose bytes this node is receiving or storing now. */
  readonly progress: { active: number };
}

/** The writer's lease is 30 s; saving three times as often lets it survive a slow disk. */
export const saveEveryMs = 10_000;
/** What a crash of the node may cost a client that resumes. Syncing in steps also lets the disk work while bytes still arrive. */
const saveEveryBytes = 64 * 1024 * 1024;

export interface HeldSession {
  readonly id: string;
  readonly repository: RepositoryName;
  readonly revision: bigint;
  readonly dataUuid: string;
  readonly algorithm: DigestAlgorithm;
  /** Whether the client knows where it could go on. */
  readonly resumable: boolean;
}

/**
 * One request's hold on a session, from the first byte of its body to one of these ends:
 *
 *     suspend (PATCH)      all that came is stored, and the session is free for the next request: `release`
 *     finish (PUT, POST)   the digest is compared, the blob linked, and with that the session is over
 *
 * and where either fails, `keep` decides:
 *
 *     the session is another's by now                 nothing more is written here
 *     wrong digest, full disk, nobody could resume    the session is over, its bytes go to the trash
 *     anything else                                   `release`, with what came of a body that broke off, too
 *     …but it cannot be stored                        `releaseWhatIsKnown`: free, as the last checkpoint has it
 *     …nor can Postgres be told                       the same, when the lease has run out
 *
 * The session is Postgres's. What this node holds for the upload, buffers and a file, `close` gives back after all of them.
 */
export class ActiveUpload {
  private readonly uploads: Uploads;
  private readonly body: RequestBody;
  private readonly ledger: PartLedger;
  private readonly writer: UploadWriter;
  private readonly timer: NodeJS.Timeout;
  /** What a client was told, or may have been: no checkpoint goes below it. */
  private readonly acknowledged: number;
  /** The parts are all there will be. */
  private readonly sealed: boolean;
  private session: HeldSession;
  /** What comes stays for a later request, and counts for the repository's quota until then. */
  private isKept = false;
  private savedAt: number;
  /** What the session's row says. */
  private savedBytes: number;
  private saving: Promise<void> | undefined;

  constructor(uploads: Uploads, session: HeldSession, state: UploadState, parts: PartsSoFar, body: RequestBody, sealed = false) {
    const { buffers, journal } = uploads;
    const { store, writes } = journal;
    this.uploads = uploads;
    this.session = session;
    this.body = body;
    this.sealed = sealed;
    this.acknowledged = this.savedBytes = bytesOf(state);
    this.savedAt = state.stored;
    this.ledger = new PartLedger(store, parts, (begun, nextPart) => reserveParts(writes, this.hold, begun, nextPart));
    const putTail = (offset: number, bytes: Uint8Array): Promise<TailObject> => this.putTail(offset, bytes);
    this.writer = new UploadWriter({ store, buffers, ledger: this.ledger, putTail }, state, body.length, ({ stored }) => {
      if (stored - this.savedAt >= saveEveryBytes) this.checkpoint();
    });
    this.timer = setInterval(() => this.checkpoint(), saveEveryMs);
    uploads.progress.active++;
  }

  /** Takes the body and keeps it for a later request, which also happens to what arrived of a body that was broken off. Returns the bytes received in all. */
  async suspend(): Promise<number> {
    try {
      this.isKept = true;
      if (this.body.length !== 0) await this.requireRoom(this.body.length ?? 1);
      await this.receive();
      return await this.release();
    } catch (error) {
      throw this.asClientError(await this.keep(error));
    } finally {
      await this.close();
    }
  }

  /** Takes the body, compares the digest, and links the blob. Throws DIGEST_INVALID when it differs; the bytes are dropped then. */
  async finish(digest: Digest, signal: AbortSignal): Promise<void> {
    let linking = false;
    try {
      // How much the digest takes is known in the end.
      if ((this.body.length ?? 0) > 0) await this.requireRoom(1);
      await this.receive();
      const { state, held } = await this.writer.end();
      // Hashing takes the held bytes away for a while, and the view of them with it.
      const size = held?.byteLength;
      // Only now does the client say that it wants another algorithm: what is stored is read back, which on some stores only a whole object can be.
      const known = held !== undefined || algorithmOf(digest) === state.algorithm;
      if (known) this.compare(digest, await this.digestOf(state, held, algorithmOf(digest)));
      await this.endCheckpoints();
      if (held === undefined) await this.writer.complete(await this.finalParts(state));
      if (!known) this.compare(digest, await this.digestOfStored(state, algorithmOf(digest)));
      await pausePoints.reached?.('upload.completed');
      linking = true;
      const small = held === undefined ? undefined : this.writer.held;
      const data = { session: this.session, size: size ?? state.stored, small };
      await linkUpload(this.uploads.journal, this.session.repository, digest, data, signal);
    } catch (error) {
      throw this.asClientError(await this.keep(error, linking));
    } finally {
      await this.close();
    }
  }

  private get hold(): SessionHold {
    return { node: this.uploads.journal.node.id, id: this.session.id, revision: this.session.revision };
  }

  private async receive(): Promise<void> {
    if (!this.sealed) return this.body.pipe(this.writer);
    const refuse = (): number => {
      throw outOfStep('all of this upload has been received', this.session.repository, this.session.id, this.acknowledged);
    };
    await this.body.pipe({ write: (chunk) => (chunk.byteLength === 0 ? 0 : refuse()), ready: () => Promise.resolve() });
  }

  private async release(): Promise<number> {
    const state = await this.writer.suspend();
    await this.endCheckpoints();
    if (this.isKept) await this.requireRoom(bytesOf(state) - this.savedBytes);
    await this.save({ state, ...this.ledger.state() }, true);
    return bytesOf(state);
  }

  /**
   * After a failure: lets go of the session as far as it has come, or ends it where nobody could or should go on with it. Returns what the client is told: that the
   * session is another's explains a store that refuses its parts.
   */
  private async keep(error: unknown, linking = false): Promise<unknown> {
    await this.writer.settled();
    await this.endCheckpoints();
    const { writes } = this.uploads.journal;
    const wrong = error instanceof RegistryError && error.code === 'DIGEST_INVALID';
    const hasNoRoom = error instanceof RegistryError && error.code === 'DENIED';
    try {
      if (sqlStateOf(error) === sqlState.otherWriter) {
        await hastenTrash(writes, dataKey(this.session.dataUuid));
        return error;
      }
      // A full disk gets its bytes back, and so does a full repository.
      if (wrong || hasNoRoom || !this.session.resumable || isDiskFull(error))
        await endSession(writes, this.session.id, this.session.revision);
      else {
        if (linking) await this.renew();
        await this.releaseWhatIsKnown();
      }
    } catch (failure) {
      // The lease runs out, and what the last checkpoint says is still true.
      if (!wrong && sqlStateOf(failure) === sqlState.otherWriter) return failure;
    }
    return error;
  }

  /** The link, or one that is still on its way, may name the data: they stay as they are from now on. */
  private async renew(): Promise<void> {
    const whole = this.writer.isEmpty;
    const dataUuid = whole ? randomUUID() : this.session.dataUuid;
    const revision = await renewSession(this.uploads.journal.writes, this.hold, whole ? dataUuid : undefined);
    this.session = { ...this.session, dataUuid, revision };
    if (whole) this.writer.moveTo(dataKey(dataUuid));
  }

  private async releaseWhatIsKnown(): Promise<void> {
    try {
      this.isKept = true;
      await this.release();
    } catch {
      // What was not stored is lost; the row still says how far the last checkpoint came.
      await this.save(undefined, true);
    }
  }

  /** All parts of the object, fixed for whoever else may complete it. An upload of one request has them here, and nobody else. */
  private async finalParts(state: UploadState): Promise<readonly Part[]> {
    const { journal } = this.uploads;
    if (!journal.store.parts.numbered) return [];
    const numbers = this.ledger.state();
    return this.session.resumable ? sealSession(journal.writes, this.hold, savedState({ state, ...numbers })) : numbers.parts;
  }

  private compare(digest: Digest, actual: Digest): void {
    if (actual === digest) return;
    throw new RegistryError('DIGEST_INVALID', 'the uploaded bytes have another digest', { detail: { expected: digest, actual } });
  }

  private async digestOf(state: UploadState, held: Uint8Array | undefined, algorithm: DigestAlgorithm): Promise<Digest> {
    const { hasher, hashBuffer } = this.uploads;
    if (held === undefined) return makeDigest(algorithm, hasher.digest(algorithm, state.hashState));
    const initial = hasher.initial(algorithm);
    if (held.byteLength <= mostTailBytes) hasher.update(algorithm, initial, held);
    const hashed = held.byteLength <= mostTailBytes ? initial : await this.writer.hashHeld(hashBuffer, algorithm, initial);
    return makeDigest(algorithm, hasher.digest(algorithm, hashed));
  }

  private async digestOfStored({ dataKey: key, stored }: UploadState, algorithm: DigestAlgorithm): Promise<Digest> {
    const { hasher, journal } = this.uploads;
    return makeDigest(algorithm, hasher.digest(algorithm, await journal.store.hash(key, algorithm, hasher.initial(algorithm), stored)));
  }

  private async putTail(offset: number, bytes: Uint8Array): Promise<TailObject> {
    const { writes, store } = this.uploads.journal;
    const key = tailKey(this.session.id, offset, randomUUID());
    await reserveObject(writes, key, 'tail');
    await store.put(key, bytes);
    return { key, bytes: bytes.byteLength };
  }

  /** While bytes go on arriving: records what is durable, and renews the lease. */
  private checkpoint(): void {
    this.saving ??= (async () => {
      try {
        const durable = await this.writer.durableState();
        this.savedAt = durable.state.stored;
        // What nobody can go on with need not be known.
        const tells = this.session.resumable && !this.sealed && durable.state.stored >= this.acknowledged;
        await this.save(tells ? durable : undefined, false);
        if (this.isKept) await this.requireRoom(0);
      } catch (error) {
        // What a new attempt may cure has one before the lease is over; a lost session cannot come back, nor can bytes that no sync has kept.
        if (!isUnavailable(error)) this.writer.fail(asFailure(error));
      } finally {
        this.saving = undefined;
      }
    })();
  }

  private async endCheckpoints(): Promise<void> {
    clearInterval(this.timer);
    await this.saving;
  }

  private async save(stand: Stand | undefined, release: boolean): Promise<void> {
    await saveSession(this.uploads.journal.writes, this.hold, stand && savedState(stand), release);
    if (stand === undefined) return;
    this.ledger.saved(stand.parts);
    const received = bytesOf(stand.state);
    this.uploads.journal.quotas?.received(this.session.repository, received - this.savedBytes);
    this.savedBytes = received;
  }

  /** Throws DENIED where the repository has a quota and not so much room. */
  private async requireRoom(moreBytes: number): Promise<void> {
    const { quotas, writes } = this.uploads.journal;
    await quotas?.requireRoom(writes, this.session.repository, moreBytes);
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

/** Where an upload stands, with the parts that no checkpoint has recorded. */
interface Stand {
  readonly state: UploadState;
  readonly parts: readonly Part[];
  readonly nextPart: number;
}

function savedState({ state, parts, nextPart }: Stand): SavedState {
  const { hashState, tail, tailObject } = state;
  return { bytesReceived: bytesOf(state), hashState, tail, tailObject, parts, nextPart };
}

function bytesOf({ stored, tail, tailObject }: UploadState): number {
  return stored + tail.byteLength + (tailObject?.bytes ?? 0);
}
