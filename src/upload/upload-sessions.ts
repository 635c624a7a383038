// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { randomUUID } from 'node:crypto';
import { asRegistryError } from '../database/failures.js';
import { pausePoints } from '../database/pause-points.js';
import type { Queryer } from '../database/pool.js';
import type { RequestBody } from '../http/contract.js';
import type { Journal } from '../journal/write-entries.js';
import type { DigestAlgorithm } from '../oci/digest.js';
import type { RepositoryName } from '../oci/repository-name.js';
import { dataKey } from '../storage/keys.js';
import { ActiveUpload, saveEveryMs, type Uploads } from './active-upload.js';
import type { PartsSoFar } from './part-ledger.js';
import { outOfStep, uploadUnknown } from './session-answers.js';
import {
  acquireSession,
  findSessionBytes,
  giveBackSession,
  insertSession,
  moveSession,
  reserveObject,
  saveSession,
  type AcquiredSession,
  type SessionHold,
  type SessionName,
} from './session-queries.js';
import type { UploadState } from './upload-writer.js';

/** A session that other requests, here or on another node, can continue. */
export async function openSession(
  uploads: Uploads,
  repository: RepositoryName,
  algorithm: DigestAlgorithm,
  owner: string,
): Promise<string> {
  const id = randomUUID();
  await insert(uploads, { id, repository, dataUuid: randomUUID(), algorithm, owner }, false);
  return id;
}

/** An upload that begins and ends with one request. */
export async function beginUpload(
  uploads: Uploads,
  repository: RepositoryName,
  algorithm: DigestAlgorithm,
  body: RequestBody,
  owner: string,
): Promise<ActiveUpload> {
  const session = { id: randomUUID(), repository, dataUuid: randomUUID(), algorithm, resumable: false };
  await insert(uploads, { ...session, owner }, true);
  return new ActiveUpload(uploads, { ...session, revision: 1n }, initialState(uploads, session.dataUuid, algorithm), nothingBegun, body);
}

/** Throws DENIED where the repository has no room for anything. */
async function insert({ journal }: Uploads, session: Parameters<typeof insertSession>[2], held: boolean): Promise<void> {
  const { quotas, writes, node } = journal;
  if (quotas !== undefined) await guarded(quotas.requireRoom(writes, session.repository));
  await guarded(insertSession(writes, node.id, session, held));
}

const nothingBegun: PartsSoFar = { begun: undefined, nextPart: 1 };

/** Becomes the one writer of a session that stands at `start`. Throws BLOB_UPLOAD_UNKNOWN, or RANGE_INVALID (416) with where the session stands. */
export async function resumeUpload(
  uploads: Uploads,
  name: SessionName,
  start: number | undefined,
  body: RequestBody,
): Promise<ActiveUpload> {
  const { journal, hasher } = uploads;
  const { id, repository } = name;
  const row = await guarded(acquireSession(journal.writes, journal.node.id, name, start));
  if (row.outcome === 'unknown') throw uploadUnknown(id);
  const received = Number(row.bytes_received);
  if (row.outcome === 'busy') throw outOfStep('another request is writing to this upload', repository, id, received);
  if (row.outcome === 'order') throw outOfStep(`the upload stands at ${received}`, repository, id, received);
  await pausePoints.reached?.('upload.acquired');
  const tail = row.tail ?? new Uint8Array();
  const tailObject = row.tail_key === null ? undefined : { key: row.tail_key, bytes: Number(row.tail_bytes) };
  const stored = received - tail.byteLength - (tailObject?.bytes ?? 0);
  const revision = BigInt(row.revision);
  const dataUuid = await dataOf(journal, { node: journal.node.id, id, revision }, row, stored, body.length === 0);
  const session = { id, repository, revision, dataUuid, algorithm: row.algorithm, resumable: true };
  const hashState = row.hash_state === null ? hasher.initial(row.algorithm) : Uint8Array.from(row.hash_state);
  const state = { dataKey: dataKey(dataUuid), algorithm: row.algorithm, hashState, stored, tail, tailObject };
  const sealed = row.sealed && dataUuid === row.data_uuid;
  return new ActiveUpload(uploads, session, state, { begun: row.begun ?? undefined, nextPart: row.next_part }, body, sealed);
}

/**
 * Which data object a new writer goes on with: one of its own, with a copy of what is stored, where the writer before it vanished and may still be writing, or where
 * entries may name the data. Parts with numbers that are nobody else's need no copy.
 */
async function dataOf(journal: Journal, hold: SessionHold, row: AcquiredSession, stored: number, onlyCompletes: boolean): Promise<string> {
  const { writes, store } = journal;
  if (row.begun !== null || (row.sealed ? onlyCompletes : !row.abandoned)) return row.data_uuid;
  const own = randomUUID();
  try {
    await reserveObject(writes, dataKey(own), 'take-over');
    await renewing(writes, hold, async () => {
      if (stored > 0) await store.adopt?.(dataKey(row.data_uuid), stored, dataKey(own));
      await pausePoints.reached?.('upload.adopted');
    });
    await moveSession(writes, hold, own);
    return own;
  } catch (error) {
    await giveBackSession(writes, hold).catch(() => undefined);
    throw asRegistryError(error);
  }
}

/** A copy of much may take longer than the lease lasts. Whether the session is still ours then, the next statement tells. */
async function renewing(writes: Queryer, hold: SessionHold, work: () => Promise<void>): Promise<void> {
  let renewal: Promise<void> | undefined;
  const renew = async (): Promise<void> => {
    await saveSession(writes, hold, undefined, false).catch(() => undefined);
    renewal = undefined;
  };
  const timer = setInterval(() => {
    renewal ??= renew();
  }, saveEveryMs);
  try {
    await work();
  } finally {
    clearInterval(timer);
    // One that came after the session was given back would keep it.
    await renewal;
  }
}

/** Bytes received so far. Throws BLOB_UPLOAD_UNKNOWN. */
export async function sessionBytes({ journal }: Uploads, name: SessionName): Promise<number> {
  const received = await guarded(findSessionBytes(journal.writes, journal.node.id, name));
  if (received === undefined) throw uploadUnknown(name.id);
  return received;
}

function initialState({ hasher }: Uploads, dataUuid: string, algorithm: DigestAlgorithm): UploadState {
  return {
    dataKey: dataKey(dataUuid),
    algorithm,
    hashState: hasher.initial(algorithm),
    stored: 0,
    tail: new Uint8Array(),
    tailObject: undefined,
  };
}

async function guarded<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw asRegistryError(error);
  }
}
