// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Queryer } from '../database/pool.js';
import type { DigestAlgorithm } from '../oci/digest.js';
import type { RepositoryName } from '../oci/repository-name.js';
import type { Part } from '../storage/blob-store.js';

/** A writer that does not save for this long has lost its session to whoever asks. */
const lease = '30 seconds';

export interface NewSession {
  readonly id: string;
  readonly repository: RepositoryName;
  readonly dataUuid: string;
  readonly algorithm: DigestAlgorithm;
  /** The identity that may go on with it; empty for anonymous. */
  readonly owner: string;
}

/** A session as a client names it: it is there for its own repository and its own owner only. */
export interface SessionName {
  readonly id: string;
  readonly repository: RepositoryName;
  readonly owner: string;
}

/** With `held`, the session begins with its writer's lease (revision 1). */
export async function insertSession(
  queryer: Queryer,
  node: string,
  { id, repository, dataUuid, algorithm, owner }: NewSession,
  held: boolean,
): Promise<void> {
  await queryer.query({
    name: 'insert-session',
    text: `WITH held AS (SELECT hold_node($1))
           INSERT INTO upload_sessions (id, repository, data_uuid, algorithm, node, lease_until, owner)
           SELECT $2, $3, $4, $5, CASE WHEN $6 THEN $1::uuid END, CASE WHEN $6 THEN clock_timestamp() + $7::interval END, $8 FROM held`,
    values: [node, id, repository, dataUuid, algorithm, held, lease, owner],
  });
}

export interface AcquiredSession {
  readonly outcome: 'unknown' | 'busy' | 'order' | 'acquired';
  /** The writer before did not let go, so it may still be alive somewhere and writing. */
  readonly abandoned: boolean;
  readonly data_uuid: string;
  readonly algorithm: DigestAlgorithm;
  readonly bytes_received: string;
  readonly hash_state: Buffer | null;
  readonly tail: Buffer | null;
  readonly tail_key: string | null;
  readonly tail_bytes: string;
  readonly begun: string | null;
  readonly next_part: number;
  readonly sealed: boolean;
  readonly revision: string;
}

/** Takes the writer's lease of a session that stands at `start` (anywhere, when undefined). */
export async function acquireSession(
  queryer: Queryer,
  node: string,
  { id, repository, owner }: SessionName,
  start: number | undefined,
): Promise<AcquiredSession> {
  const { rows } = await queryer.query<AcquiredSession>({
    name: 'acquire-upload',
    text: 'SELECT * FROM acquire_upload($1, $2, owned_by($2, $3, $6), $4, $5)',
    values: [node, id, repository, start ?? null, lease, owner],
  });
  return rows[0] as AcquiredSession;
}

/** A writer's hold on a session: whoever has taken it over has a higher revision, and nothing that names this one succeeds any more (HA003). */
export interface SessionHold {
  readonly node: string;
  readonly id: string;
  readonly revision: bigint;
}

export interface SavedState {
  readonly bytesReceived: number;
  readonly hashState: Uint8Array;
  readonly tail: Uint8Array;
  readonly tailObject: { readonly key: string; readonly bytes: number } | undefined;
  /** Parts that were stored since the last time. */
  readonly parts: readonly Part[];
  /** Numbers from this one on were not used. */
  readonly nextPart: number;
}

/** Checkpoints a session, or only renews its lease (no state), and lets go of it with `release`. */
export async function saveSession(
  queryer: Queryer,
  { node, id, revision }: SessionHold,
  state: SavedState | undefined,
  release: boolean,
): Promise<void> {
  await queryer.query({
    name: 'save-upload',
    text: 'SELECT save_upload($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)',
    values: [
      node,
      id,
      revision,
      state?.bytesReceived ?? null,
      state === undefined ? null : Buffer.from(state.hashState),
      state === undefined ? null : Buffer.from(state.tail),
      state?.tailObject?.key ?? null,
      state?.tailObject?.bytes ?? 0,
      state?.nextPart ?? null,
      ...partColumns(state?.parts ?? []),
      release ? null : lease,
    ],
  });
}

/** Fixes the parts of the data object for good, and returns all of them. */
export async function sealSession(queryer: Queryer, { node, id, revision }: SessionHold, state: SavedState): Promise<Part[]> {
  const { rows } = await queryer.query<[number: number, bytes: string, etag: string]>({
    name: 'seal-upload',
    text: 'SELECT number, bytes, etag FROM seal_upload($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)',
    values: [node, id, revision, state.bytesReceived, Buffer.from(state.hashState), state.nextPart, ...partColumns(state.parts), lease],
    rowMode: 'array',
  });
  return rows.map(([number, bytes, etag]) => ({ number, bytes: Number(bytes), etag }));
}

function partColumns(parts: readonly Part[]): [number[], number[], string[]] {
  return [parts.map(({ number }) => number), parts.map(({ bytes }) => bytes), parts.map(({ etag }) => etag)];
}

/** Reserves the part numbers below `nextPart`, and records what the store calls the data object that they belong to. */
export async function reserveParts(queryer: Queryer, { node, id, revision }: SessionHold, begun: string, nextPart: number): Promise<void> {
  await queryer.query({
    name: 'reserve-parts',
    text: 'SELECT reserve_parts($1, $2, $3, $4, $5, $6)',
    values: [node, id, revision, begun, nextPart, lease],
  });
}

/**
 * After a commit that failed: its data must not change any more. Those that were put whole are left to the trash for others under `dataUuid`; without one, they may only
 * be completed from now on. Returns the new revision.
 */
export async function renewSession(queryer: Queryer, { node, id, revision }: SessionHold, dataUuid: string | undefined): Promise<bigint> {
  const { rows } = await queryer.query<{ revision: string }>({
    name: 'renew-upload',
    text: 'SELECT renew_upload($1, $2, $3, $4) AS revision',
    values: [node, id, revision, dataUuid ?? null],
  });
  return BigInt(rows[0]?.revision ?? 0);
}

/** Lets go of a session with which nothing was done. */
export async function giveBackSession(queryer: Queryer, { id, revision }: SessionHold): Promise<void> {
  await queryer.query({ name: 'give-back-upload', text: 'SELECT give_back_upload($1, $2)', values: [id, revision] });
}

/** Registers an object that a later statement will name (a session's data or tail); left alone, it goes to the trash in an hour. */
export async function reserveObject(queryer: Queryer, key: string, reason: 'take-over' | 'tail'): Promise<void> {
  await queryer.query({ name: 'reserve-object', text: 'SELECT reserve_object($1, $2)', values: [key, reason] });
}

/** Gives a session another data object, a registered one. */
export async function moveSession(queryer: Queryer, { node, id, revision }: SessionHold, dataUuid: string): Promise<void> {
  await queryer.query({ name: 'move-session', text: 'SELECT move_session($1, $2, $3, $4)', values: [node, id, revision, dataUuid] });
}

/** Ends a session whose writer we are; its data goes to the trash. */
export async function endSession(queryer: Queryer, id: string, revision: bigint): Promise<void> {
  await queryer.query({ name: 'end-session', text: 'SELECT end_session($1, $2, true)', values: [id, revision] });
}

/** False when there is no such session. */
export async function cancelSession(queryer: Queryer, node: string, { id, repository, owner }: SessionName): Promise<boolean> {
  const { rows } = await queryer.query<{ cancelled: boolean }>({
    name: 'cancel-session',
    text: 'SELECT cancel_session($1, $2, owned_by($2, $3, $4)) AS cancelled',
    values: [node, id, repository, owner],
  });
  return rows[0]?.cancelled === true;
}

/** The data of a cancelled session need not wait for the end of its writer's lease when that writer says that it has stopped. */
export async function hastenTrash(queryer: Queryer, dataKey: string): Promise<void> {
  await queryer.query({
    name: 'hasten-trash',
    text: `WITH aborts AS (UPDATE upload_aborts SET not_before = clock_timestamp() WHERE key = $1 AND not_before > clock_timestamp() AND repeat_at IS NOT NULL)
           UPDATE object_trash SET not_before = clock_timestamp() WHERE key = $1 AND reason = 'cancelled' AND not_before > clock_timestamp()`,
    values: [dataKey],
  });
}

/** Bytes received so far, or undefined when there is no such session. A writer that is gone cannot change them any more. */
export async function findSessionBytes(
  queryer: Queryer,
  node: string,
  { id, repository, owner }: SessionName,
): Promise<number | undefined> {
  const { rows } = await queryer.query<{ bytes: string | null }>({
    name: 'find-upload-bytes',
    text: 'SELECT find_upload_bytes($1, $2, owned_by($2, $3, $4)) AS bytes',
    values: [node, id, repository, owner],
  });
  const bytes = rows[0]?.bytes ?? null;
  return bytes === null ? undefined : Number(bytes);
}

/** Ends sessions that nobody has written to for `ageSeconds`; returns how many. */
export async function expireSessions(queryer: Queryer, node: string, ageSeconds: number): Promise<number> {
  const { rows } = await queryer.query<{ count: number }>({
    name: 'expire-sessions',
    text: `SELECT expire_sessions($1, make_interval(secs => $2)) AS count`,
    values: [node, ageSeconds],
  });
  return rows[0]?.count ?? 0;
}

export interface DueAbort {
  readonly key: string;
  readonly begun: string;
}

/** Data objects that were begun and that nobody finishes, oldest first. */
export async function listDueAborts(queryer: Queryer, limit: number): Promise<DueAbort[]> {
  const { rows } = await queryer.query<DueAbort>({
    name: 'list-due-aborts',
    text: 'SELECT key, begun FROM upload_aborts WHERE not_before <= clock_timestamp() ORDER BY not_before LIMIT $1',
    values: [limit],
  });
  return rows;
}

/** After the store has dropped it: forgets it, or waits for the second time. */
export async function deleteAbort(queryer: Queryer, { key, begun }: DueAbort): Promise<void> {
  await queryer.query({
    name: 'delete-abort',
    text: `WITH once AS (DELETE FROM upload_aborts WHERE key = $1 AND begun = $2 AND repeat_at IS NULL)
           UPDATE upload_aborts SET not_before = repeat_at, repeat_at = NULL WHERE key = $1 AND begun = $2 AND repeat_at IS NOT NULL`,
    values: [key, begun],
  });
}
