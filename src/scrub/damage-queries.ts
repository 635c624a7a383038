// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Damaged data, and what heals them. */
import { digestFromText, digestToColumn } from '../database/columns.js';
import type { Queryer } from '../database/pool.js';
import type { Digest } from '../oci/digest.js';
import type { RepositoryName } from '../oci/repository-name.js';

export interface DataId {
  readonly digest: Digest;
  readonly uuid: string;
}

/** From now on the data count as not there. The sequence of their mark, or undefined when they are gone, or known to be damaged. */
export async function markDamaged(queryer: Queryer, node: string, { digest, uuid }: DataId, reason: string): Promise<bigint | undefined> {
  const { rows } = await queryer.query<{ sequence: string | null }>({
    name: 'mark-damaged',
    text: 'SELECT mark_damaged($1, $2, $3, $4) AS sequence',
    values: [node, digestToColumn(digest), uuid, reason],
  });
  const sequence = rows[0]?.sequence ?? null;
  return sequence === null ? undefined : BigInt(sequence);
}

/** Damaged data that have no mark in the store yet, with the sequence that it gets. */
export async function listUnmarkedDamage(
  queryer: Queryer,
  node: string,
  limit: number,
): Promise<(DataId & { readonly sequence: bigint })[]> {
  const { rows } = await queryer.query<[string, string, string]>({
    name: 'list-unmarked-damage',
    text: 'SELECT digest::text, uuid, sequence FROM list_unmarked_damage($1, $2)',
    values: [node, limit],
    rowMode: 'array',
  });
  return rows.map(([digest, uuid, sequence]) => ({ digest: digestFromText(digest), uuid, sequence: BigInt(sequence) }));
}

export async function setDamageMarked(queryer: Queryer, { digest, uuid }: DataId, sequence: bigint): Promise<void> {
  await queryer.query({
    name: 'set-damage-marked',
    text: 'UPDATE blobs SET damage_marked = true WHERE digest = $1 AND uuid = $2 AND damage_sequence = $3',
    values: [digestToColumn(digest), uuid, sequence],
  });
}

/** The bytes are right again. False where another copy counts by now. */
export async function clearDamage(queryer: Queryer, node: string, { digest, uuid }: DataId): Promise<boolean> {
  const { rows } = await queryer.query<{ cleared: boolean }>({
    name: 'clear-damage',
    text: 'SELECT clear_damage($1, $2, $3) AS cleared',
    values: [node, digestToColumn(digest), uuid],
  });
  return rows[0]?.cleared === true;
}

/** Damaged data that nobody needs any more: their digest has been pushed again (`healthy` are its data), or no link leads to them. */
export async function listDispensable(queryer: Queryer, limit: number): Promise<(DataId & { readonly healthy: string | undefined })[]> {
  const { rows } = await queryer.query<[string, string, string | null]>({
    name: 'list-dispensable',
    text: `SELECT d.digest::text, d.uuid, g.uuid FROM blobs d LEFT JOIN blobs g ON g.digest = d.digest AND NOT g.damaged
           WHERE d.damaged AND (g.uuid IS NOT NULL OR NOT EXISTS (SELECT FROM repository_blobs rb WHERE rb.digest = d.digest AND rb.uuid = d.uuid))
           ORDER BY d.digest, d.uuid LIMIT $1`,
    values: [limit],
    rowMode: 'array',
  });
  return rows.map(([digest, uuid, healthy]) => ({ digest: digestFromText(digest), uuid, healthy: healthy ?? undefined }));
}

/** Links that lead to these data. */
export async function listLinksTo(
  queryer: Queryer,
  { digest, uuid }: DataId,
  limit: number,
): Promise<{ readonly repository: RepositoryName; readonly sequence: bigint }[]> {
  const { rows } = await queryer.query<[RepositoryName, string]>({
    name: 'list-links-to',
    text: `SELECT r.name, rb.sequence FROM repository_blobs rb JOIN repositories r ON r.id = rb.repository_id
           WHERE rb.digest = $1 AND rb.uuid = $2 ORDER BY rb.repository_id LIMIT $3`,
    values: [digestToColumn(digest), uuid, limit],
    rowMode: 'array',
  });
  return rows.map(([repository, sequence]) => ({ repository, sequence: BigInt(sequence) }));
}

/** False while a link still leads there. */
export async function retireDamaged(queryer: Queryer, node: string, { digest, uuid }: DataId): Promise<boolean> {
  const { rows } = await queryer.query<{ retired: boolean }>({
    name: 'retire-damaged',
    text: 'SELECT retire_damaged($1, $2, $3) AS retired',
    values: [node, digestToColumn(digest), uuid],
  });
  return rows[0]?.retired === true;
}
