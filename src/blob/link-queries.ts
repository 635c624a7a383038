// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Elsewhere, WatchBatches } from '../database/batched-read.js';
import { digestsToColumn, digestToColumn, namesToColumn } from '../database/columns.js';
import type { Queryer, ReadPools } from '../database/pool.js';
import { PromisedRead, promiseMs, type Dated } from '../database/promised-read.js';
import type { Digest } from '../oci/digest.js';
import type { RepositoryName } from '../oci/repository-name.js';
import { dataKey, linkPrefix, linkTemplate } from '../storage/keys.js';

export interface LinkedBlob extends Dated {
  /** Of the data. */
  readonly uuid: string;
  /** Of the store's object that has the bytes. */
  readonly key: string;
  readonly size: number;
  /** The bytes are not those of the digest: they are not to be sent, and the blob counts as not there. */
  readonly damaged: boolean;
}

export interface LinkKey {
  readonly repository: RepositoryName;
  readonly digest: Digest;
}

export type Links = PromisedRead<LinkKey, LinkedBlob>;

/** Which data a repository's digest is read from; undefined when the repository is not linked to it. What is found stays for an hour. */
export function openLinks(
  { reads, writes }: ReadPools,
  gcDelayMs: number,
  watch?: WatchBatches,
  elsewhere?: Elsewhere<LinkKey, LinkedBlob | undefined>,
): Links {
  const soonMs = promiseMs(gcDelayMs);
  return new PromisedRead<LinkKey, LinkedBlob>(
    async (keys) => {
      const readAt = performance.now();
      const { rows } = await reads.query<
        [position: number, uuid: string, size: string, key: string | null, dueSoon: boolean, damaged: boolean]
      >({
        name: 'find-links',
        text: `SELECT k.i::int, b.uuid, b.size, b.key, rb.due_at < clock_timestamp() + $3::float8 * interval '1 millisecond', b.damaged
               FROM unnest($1::text[], $2::bytea[]) WITH ORDINALITY AS k(name, digest, i)
               JOIN LATERAL (SELECT id FROM repositories WHERE name = k.name OFFSET 0) r ON true
               JOIN repository_blobs rb ON rb.repository_id = r.id AND rb.digest = k.digest
               JOIN blobs b ON b.digest = rb.digest AND b.uuid = rb.uuid`,
        values: [namesToColumn(keys.map((key) => key.repository)), digestsToColumn(keys.map((key) => key.digest)), soonMs],
        rowMode: 'array',
      });
      const found: (LinkedBlob | undefined)[] = Array.from({ length: keys.length });
      for (const [position, uuid, size, key, dueSoon, damaged] of rows)
        found[position - 1] = { uuid, key: key ?? dataKey(uuid), size: Number(size), damaged, dueSoon, readAt };
      return found;
    },
    async (found) => {
      const { rows } = await writes.query<[number]>({
        name: 'promise-links',
        text: 'SELECT promise_links($1, $2)',
        values: [namesToColumn(found.map(({ key }) => key.repository)), digestsToColumn(found.map(({ key }) => key.digest))],
        rowMode: 'array',
      });
      const kept = new Set(rows.map(([position]) => position - 1));
      return found.map((_, index) => kept.has(index));
    },
    watch?.('links'),
    elsewhere,
  );
}

export interface PreparedLink {
  /** `full`: there is a quota, and no room. */
  readonly outcome: 'linked' | 'write' | 'unknown' | 'full';
  readonly sequence: string | null;
  readonly uuid: string;
  readonly size: string;
  /** Bytes in the repository; where there is a quota. */
  readonly used?: string;
}

/** `own` is the data that was uploaded; a mount has none, and takes what one of the repositories of `from` (undefined: any) is linked to. */
export async function prepareLink(
  queryer: Queryer,
  node: string,
  { repository, digest }: LinkKey,
  source: { readonly own: string } | { readonly from: readonly RepositoryName[] | undefined },
  within?: { readonly limitBytes: number; readonly size: number | undefined },
): Promise<PreparedLink> {
  const own = 'own' in source ? source.own : null;
  const from = 'from' in source ? (source.from ?? null) : null;
  const values = [node, repository, digestToColumn(digest), linkTemplate(repository, digest, '@'), own, from];
  const { rows } = await queryer.query<PreparedLink>(
    within === undefined
      ? { name: 'prepare-link', text: 'SELECT * FROM prepare_link($1, $2, $3, $4, $5, $6)', values }
      : {
          name: 'prepare-link-within',
          text: 'SELECT * FROM prepare_link_within($1, $2, $3, $4, $5, $6, $7, $8)',
          values: [within.limitBytes, within.size ?? null, ...values],
        },
  );
  return rows[0] as PreparedLink;
}

/** Repositories that are linked to a digest, in the order of their names. */
export async function listRepositoriesOf(queryer: Queryer, digest: Digest, limit: number): Promise<RepositoryName[]> {
  const { rows } = await queryer.query<[RepositoryName]>({
    name: 'list-repositories-of',
    text: `SELECT r.name FROM repository_blobs rb JOIN repositories r ON r.id = rb.repository_id WHERE rb.digest = $1 ORDER BY r.name LIMIT $2`,
    values: [digestToColumn(digest), limit],
    rowMode: 'array',
  });
  return rows.map(([name]) => name);
}

/** Those of `repositories` that a digest can be mounted from. */
export async function findHolders(queryer: Queryer, digest: Digest, repositories: readonly RepositoryName[]): Promise<RepositoryName[]> {
  if (repositories.length === 0) return [];
  const { rows } = await queryer.query<[RepositoryName]>({
    name: 'find-holders',
    text: `SELECT r.name FROM repositories r JOIN repository_blobs rb ON rb.repository_id = r.id JOIN blobs b USING (digest, uuid)
           WHERE r.name = ANY ($2) AND rb.digest = $1 AND NOT b.damaged`,
    values: [digestToColumn(digest), repositories],
    rowMode: 'array',
  });
  return rows.map(([name]) => name);
}

export interface LinkCommit extends LinkKey {
  readonly sequence: bigint;
  readonly uuid: string;
  readonly size: number;
  /** The upload session that ends with this commit. */
  readonly session?: { readonly id: string; readonly revision: bigint; readonly dataUuid: string } | undefined;
}

export async function commitLink(queryer: Queryer, node: string, link: LinkCommit): Promise<void> {
  const { repository, digest, session } = link;
  await queryer.query({
    name: 'commit-link',
    text: 'SELECT commit_link($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)',
    values: [
      node,
      link.sequence,
      repository,
      digestToColumn(digest),
      linkPrefix(repository, digest),
      link.uuid,
      link.size,
      session?.id ?? null,
      session?.revision ?? null,
      session?.dataUuid ?? null,
    ],
  });
}

/** The sequence of the deletion that is now pending, or undefined when there is no such link. */
export async function prepareLinkDeletion(
  queryer: Queryer,
  node: string,
  { repository, digest }: LinkKey,
  template: string,
): Promise<bigint | undefined> {
  const { rows } = await queryer.query<{ sequence: string | null }>({
    name: 'prepare-link-deletion',
    text: 'SELECT prepare_link_deletion($1, $2, $3, $4, $5) AS sequence',
    values: [node, repository, digestToColumn(digest), digest, template],
  });
  const sequence = rows[0]?.sequence ?? null;
  return sequence === null ? undefined : BigInt(sequence);
}

export async function commitLinkDeletion(queryer: Queryer, node: string, sequence: bigint, { repository, digest }: LinkKey): Promise<void> {
  await queryer.query({
    name: 'commit-link-deletion',
    text: 'SELECT commit_link_deletion($1, $2, $3, $4, $5)',
    values: [node, sequence, repository, digestToColumn(digest), linkPrefix(repository, digest)],
  });
}

/** What the body of a link to these data must say: the key of data that were taken over in place, else nothing. */
export async function findForeignKey(queryer: Queryer, digest: Digest, uuid: string): Promise<string> {
  const { rows } = await queryer.query<{ key: string | null }>({
    name: 'find-foreign-key',
    text: 'SELECT key FROM blobs WHERE digest = $1 AND uuid = $2',
    values: [digestToColumn(digest), uuid],
  });
  return rows[0]?.key ?? '';
}

/** A link to data that lie at `key`, and the blob where there is none yet. */
export async function commitForeignLink(queryer: Queryer, node: string, link: LinkCommit, key: string): Promise<void> {
  const { repository, digest } = link;
  await queryer.query({
    name: 'commit-foreign-link',
    text: 'SELECT commit_foreign_link($1, $2, $3, $4, $5, $6, $7, $8)',
    values: [node, link.sequence, repository, digestToColumn(digest), linkPrefix(repository, digest), link.uuid, link.size, key],
  });
}

/** The data that a collected link of this repository named, while they are still there; undefined when nothing can come back. A look, no change. */
export async function findCollectedLink(queryer: Queryer, { repository, digest }: LinkKey): Promise<string | undefined> {
  const { rows } = await queryer.query<{ uuid: string | null }>({
    name: 'find-collected-link',
    text: 'SELECT find_collected_link($1, $2) AS uuid',
    values: [repository, digestToColumn(digest)],
  });
  return rows[0]?.uuid ?? undefined;
}

/** Registers a link's new entry. */
export async function intendLink(queryer: Queryer, node: string, { repository, digest }: LinkKey, uuid: string): Promise<bigint> {
  const { rows } = await queryer.query<{ sequence: string }>({
    name: 'intend-link',
    text: 'WITH held AS MATERIALIZED (SELECT hold_node($1)) SELECT intend($1, $2, ARRAY[$3], NULL) AS sequence FROM held',
    values: [node, repository, linkTemplate(repository, digest, uuid)],
  });
  return BigInt(rows[0]?.sequence ?? 0);
}

export async function commitResurrection(
  queryer: Queryer,
  node: string,
  sequence: bigint,
  { repository, digest }: LinkKey,
  uuid: string,
): Promise<void> {
  await queryer.query({
    name: 'commit-resurrection',
    text: 'SELECT commit_resurrection($1, $2, $3, $4, $5, $6)',
    values: [node, sequence, repository, digestToColumn(digest), linkPrefix(repository, digest), uuid],
  });
}
