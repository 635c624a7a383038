// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Queryer } from '../database/pool.js';
import type { DigestAlgorithm } from '../oci/digest.js';
import type { RepositoryName } from '../oci/repository-name.js';

/** A writer that does not save for this long has lost its session to whoever asks. */
const lease = '30 seconds';

export interface NewSession {
  readonly id: string;
  readonly repository: RepositoryName;
  readonly dataUuid: string;
  readonly algorithm: DigestAlgorithm;
}

/** With `held`, the session begins with its writer's lease (revision 1). */
export async function insertSession(
  queryer: Queryer,
  node: string,
  { id, repository, dataUuid, algorithm }: NewSession,
  held: boolean,
): Promise<void> {
  await queryer.query({
    name: 'insert-session',
    text: `WITH held AS (SELECT hold_node($1))
           INSERT INTO upload_sessions (id, repository, data_uuid, algorithm, node, lease_until)
           SELECT $2, $3, $4, $5, CASE WHEN $6 THEN $1::uuid END, CASE WHEN $6 THEN clock_timestamp() + $7::interval END FROM held`,
    values: [node, id, repository, dataUuid, algorithm, held, lease],
  });
}

export interface AcquiredSession {
  readonly outcome: 'unknown' | 'busy' | 'order' | 'acquired';
  readonly data_uuid: string;
  readonly algorithm: DigestAlgorithm;
  readonly bytes_received: string;
  readonly hash_state: Buffer | null;
  readonly tail: Buffer | null;
  readonly revision: string;
  readonly abandoned: boolean;
}

/** Takes the writer's lease of a session that stands at `start` (anywhere, when undefined). */
export async function acquireSession(
  queryer: Queryer,
  node: string,
  id: string,
  repository: RepositoryName,
  start: number | undefined,
): Promise<AcquiredSession> {
  const { rows } = await queryer.query<AcquiredSession>({
    name: 'acquire-session',
    text: 'SELECT * FROM acquire_session($1, $2, $3, $4, $5)',
    values: [node, id, repository, start ?? null, lease],
  });
  return rows[0] as AcquiredSession;
}

export interface SavedState {
  readonly bytesReceived: number;
  readonly hashState: Uint8Array;
  readonly tail: Uint8Array;
}

/** Checkpoints a session, or only renews its lease (no state), and lets go of it with `release`. Fails with HA003 when another writer has it. */
export async function saveSession(
  queryer: Queryer,
  node: string,
  id: string,
  revision: bigint,
  state: SavedState | undefined,
  release: boolean,
): Promise<void> {
  await queryer.query({
    name: 'save-session',
    text: 'SELECT save_session($1, $2, $3, $4, $5, $6, $7)',
    values: [node, id, revision, ...stateColumns(state), release ? null : lease],
  });
}

function stateColumns(state: SavedState | undefined): [number | null, Buffer | null, Buffer | null] {
  return state === undefined ? [null, null, null] : [state.bytesReceived, Buffer.from(state.hashState), Buffer.from(state.tail)];
}

/** Registers a data object that `moveSession` will give to a session; left alone, it goes to the trash. */
export async function reserveData(queryer: Queryer, dataUuid: string): Promise<void> {
  await queryer.query({ name: 'reserve-data', text: 'SELECT reserve_data($1)', values: [dataUuid] });
}

export async function moveSession(queryer: Queryer, node: string, id: string, revision: bigint, dataUuid: string): Promise<void> {
  await queryer.query({ name: 'move-session', text: 'SELECT move_session($1, $2, $3, $4)', values: [node, id, revision, dataUuid] });
}

/** Ends a session whose writer we are; its data goes to the trash. */
export async function endSession(queryer: Queryer, id: string, revision: bigint): Promise<void> {
  await queryer.query({ name: 'end-session', text: 'SELECT end_session($1, $2, true)', values: [id, revision] });
}

/** False when there is no such session. */
export async function cancelSession(queryer: Queryer, node: string, id: string, repository: RepositoryName): Promise<boolean> {
  const { rows } = await queryer.query<{ cancelled: boolean }>({
    name: 'cancel-session',
    text: 'SELECT cancel_session($1, $2, $3) AS cancelled',
    values: [node, id, repository],
  });
  return rows[0]?.cancelled === true;
}

/** The data of a cancelled session need not wait for the end of its writer's lease when that writer says that it has stopped. */
export async function hastenTrash(queryer: Queryer, dataKey: string): Promise<void> {
  await queryer.query({
    name: 'hasten-trash',
    text: `UPDATE object_trash SET not_before = clock_timestamp() WHERE key = $1 AND reason = 'cancelled' AND not_before > clock_timestamp()`,
    values: [dataKey],
  });
}

/** Bytes received so far, or undefined when there is no such session. */
export async function findSessionBytes(queryer: Queryer, id: string, repository: RepositoryName): Promise<number | undefined> {
  const { rows } = await queryer.query<{ bytes_received: string }>({
    name: 'find-session-bytes',
    text: 'SELECT bytes_received FROM upload_sessions WHERE id = $1 AND repository = $2',
    values: [id, repository],
  });
  return rows[0] === undefined ? undefined : Number(rows[0].bytes_received);
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
