// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Which data are read next: those that were not read for the longest time (the index blobs_unchecked). */
import { digestFromText, digestToColumn } from '../database/columns.js';
import type { Queryer } from '../database/pool.js';
import type { RepositoryName } from '../oci/repository-name.js';
import { dataKey } from '../storage/keys.js';
import type { DataId } from './damage-queries.js';

export interface CheckedBlob extends DataId {
  readonly key: string;
  readonly size: number;
  readonly damaged: boolean;
}

type Row = [digest: string, uuid: string, size: string, key: string | null, damaged: boolean];

const columns = 'b.digest::text, b.uuid, b.size, b.key, b.damaged';
const lastChecked = 'COALESCE(b.checked_at, b.created_at)';

/** The database's time of so long ago, in its own words. */
export async function findBefore(queryer: Queryer, ms: number): Promise<string> {
  const { rows } = await queryer.query<{ before: string }>({
    name: 'find-before',
    text: `SELECT (clock_timestamp() - $1::float8 * interval '1 millisecond')::text AS before`,
    values: [ms],
  });
  return rows[0]?.before ?? '';
}

export async function findRepositoryId(queryer: Queryer, name: RepositoryName): Promise<string | undefined> {
  const { rows } = await queryer.query<{ id: string }>('SELECT id FROM repositories WHERE name = $1', [name]);
  return rows[0]?.id;
}

/** Data that were not checked since `before`, the oldest first. */
export async function listUnchecked(queryer: Queryer, before: string, limit: number): Promise<CheckedBlob[]> {
  const { rows } = await queryer.query<Row>({
    name: 'list-unchecked',
    text: `SELECT ${columns} FROM blobs b WHERE ${lastChecked} < $1::timestamptz ORDER BY ${lastChecked}, b.digest, b.uuid LIMIT $2`,
    values: [before, limit],
    rowMode: 'array',
  });
  return rows.map(blobOf);
}

/** Damaged data after `last`, by digest, that were not read since they were found, or not for a day. */
export async function listDamagedUnread(queryer: Queryer, last: DataId | undefined, limit: number): Promise<CheckedBlob[]> {
  const { rows } = await queryer.query<Row>({
    name: 'list-damaged-unread',
    text: `SELECT ${columns} FROM blobs b WHERE b.damaged AND (b.digest, b.uuid) > ($1, $2)
           AND (b.checked_at IS NULL OR b.damaged_at IS NULL OR b.checked_at < b.damaged_at OR b.checked_at < clock_timestamp() - interval '1 day')
           ORDER BY b.digest, b.uuid LIMIT $3`,
    values: [
      last === undefined ? Buffer.alloc(0) : digestToColumn(last.digest),
      last?.uuid ?? '00000000-0000-0000-0000-000000000000',
      limit,
    ],
    rowMode: 'array',
  });
  return rows.map(blobOf);
}

/** The same as `listUnchecked` among the data of one repository, by digest. */
export async function listUncheckedOf(queryer: Queryer, repository: RepositoryName, before: string, limit: number): Promise<CheckedBlob[]> {
  const { rows } = await queryer.query<Row>({
    name: 'list-unchecked-of',
    text: `SELECT ${columns} FROM repositories r JOIN repository_blobs rb ON rb.repository_id = r.id
           JOIN blobs b ON b.digest = rb.digest AND b.uuid = rb.uuid
           WHERE r.name = $1 AND ${lastChecked} < $2::timestamptz ORDER BY rb.digest LIMIT $3`,
    values: [repository, before, limit],
    rowMode: 'array',
  });
  return rows.map(blobOf);
}

export async function setChecked(queryer: Queryer, node: string, { digest, uuid }: DataId): Promise<void> {
  await queryer.query({
    name: 'set-checked',
    text: `WITH held AS MATERIALIZED (SELECT hold_node($1))
           UPDATE blobs SET checked_at = clock_timestamp() FROM held WHERE digest = $2 AND uuid = $3`,
    values: [node, digestToColumn(digest), uuid],
  });
}

function blobOf([digest, uuid, size, key, damaged]: Row): CheckedBlob {
  return { digest: digestFromText(digest), uuid, size: Number(size), key: key ?? dataKey(uuid), damaged };
}
