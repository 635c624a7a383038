// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Elsewhere, WatchBatches } from '../database/batched-read.js';
import { digestFromText, digestsToColumn, digestToColumn, namesToColumn } from '../database/columns.js';
import type { Queryer, ReadPools } from '../database/pool.js';
import { PromisedRead, promiseMs, type Dated } from '../database/promised-read.js';
import type { Digest } from '../oci/digest.js';
import type { Manifest } from '../oci/manifest.js';
import type { Tag } from '../oci/reference.js';
import type { RepositoryName } from '../oci/repository-name.js';
import { manifestPrefix, manifestTemplate, referrerTemplate, tagPrefix, type KeyTemplate } from '../storage/keys.js';

/** A manifest that is in the repository now. */
export interface FoundManifest extends Dated {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly size: number;
  /** Where they came along with the answer; Postgres gives them as text, since a manifest is UTF-8. Otherwise `findManifestBytes` has them. */
  readonly content: string | Uint8Array | undefined;
}

export interface TagKey {
  readonly repository: RepositoryName;
  readonly tag: Tag;
}

export interface ManifestKey {
  readonly repository: RepositoryName;
  readonly digest: Digest;
}

export interface ManifestReads {
  readonly byTag: PromisedRead<TagKey, FoundManifest>;
  readonly byDigest: PromisedRead<ManifestKey, FoundManifest>;
}

/** Up to here the bytes come along with the answer; larger ones are worth remembering in memory instead. */
const inlineBytes = 4096;

type Row = [position: number, mediaType: string, size: number, text: string | null, dueSoon: boolean, digest: string];

// Text, since the driver reads binary columns as strings; and as UTF-8 rather than as hex, which is twice as long.
const columns = `k.i::int, m.media_type, octet_length(m.bytes), CASE WHEN octet_length(m.bytes) <= ${inlineBytes} THEN convert_from(m.bytes, 'UTF8') END,
  m.due_at < clock_timestamp() + $3::float8 * interval '1 millisecond'`;

/**
 * hot: bench/manifests.ts. OFFSET 0 keeps each look-up one descent of its own index, whatever the planner believes of the tables: with the plain join it scanned all
 * tags of a repository, and a batch of 32 took 1.4 ms instead of 0.2. Both read what is committed when the batch begins; nothing is remembered. What is found stays for
 * an hour. */
export function openManifestReads(
  { reads, writes }: ReadPools,
  gcDelayMs: number,
  watch?: WatchBatches,
  elsewhere?: {
    readonly byTag: Elsewhere<TagKey, FoundManifest | undefined>;
    readonly byDigest: Elsewhere<ManifestKey, FoundManifest | undefined>;
  },
): ManifestReads {
  const soonMs = promiseMs(gcDelayMs);
  const promise = (found: readonly Promised[]): Promise<boolean[]> => promiseManifests(writes, found);
  const findByTag = async (keys: readonly TagKey[]) => {
    const readAt = performance.now();
    const { rows } = await reads.query<Row>({
      name: 'find-manifests-by-tag',
      text: `SELECT ${columns}, m.digest::text FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS k(name, tag, i)
             JOIN LATERAL (SELECT id FROM repositories WHERE name = k.name OFFSET 0) r ON true
             JOIN LATERAL (SELECT digest FROM tags WHERE repository_id = r.id AND name = k.tag OFFSET 0) t ON true
             JOIN manifests m ON m.repository_id = r.id AND m.digest = t.digest`,
      values: [namesToColumn(keys.map((key) => key.repository)), namesToColumn(keys.map((key) => key.tag)), soonMs],
      rowMode: 'array',
    });
    return inOrder(rows, keys.length, readAt, (row) => digestFromText(row[5]));
  };
  const findByDigest = async (keys: readonly ManifestKey[]) => {
    const readAt = performance.now();
    const { rows } = await reads.query<Row>({
      name: 'find-manifests-by-digest',
      text: `SELECT ${columns} FROM unnest($1::text[], $2::bytea[]) WITH ORDINALITY AS k(name, digest, i)
             JOIN LATERAL (SELECT id FROM repositories WHERE name = k.name OFFSET 0) r ON true
             JOIN manifests m ON m.repository_id = r.id AND m.digest = k.digest`,
      values: [namesToColumn(keys.map((key) => key.repository)), digestsToColumn(keys.map((key) => key.digest)), soonMs],
      rowMode: 'array',
    });
    return inOrder(rows, keys.length, readAt, (_row, index) => (keys[index] as ManifestKey).digest);
  };
  return {
    byTag: new PromisedRead<TagKey, FoundManifest>(findByTag, promise, watch?.('manifests-by-tag'), elsewhere?.byTag),
    byDigest: new PromisedRead<ManifestKey, FoundManifest>(findByDigest, promise, watch?.('manifests-by-digest'), elsewhere?.byDigest),
  };
}

function inOrder(rows: Row[], count: number, readAt: number, digestOf: (row: Row, index: number) => Digest): (FoundManifest | undefined)[] {
  const found: (FoundManifest | undefined)[] = Array.from({ length: count });
  for (const row of rows) {
    const [position, mediaType, size, text, dueSoon] = row;
    found[position - 1] = { digest: digestOf(row, position - 1), mediaType, size, content: text ?? undefined, dueSoon, readAt };
  }
  return found;
}

interface Promised {
  readonly key: { readonly repository: RepositoryName };
  readonly value: FoundManifest;
}

async function promiseManifests(writes: Queryer, found: readonly Promised[]): Promise<boolean[]> {
  const { rows } = await writes.query<[number]>({
    name: 'promise-manifests',
    text: 'SELECT promise_manifests($1, $2)',
    values: [namesToColumn(found.map(({ key }) => key.repository)), digestsToColumn(found.map(({ value }) => value.digest))],
    rowMode: 'array',
  });
  const kept = new Set(rows.map(([position]) => position - 1));
  return found.map((_, index) => kept.has(index));
}

/** The bytes of a manifest of this repository, or undefined when it is gone meanwhile. */
export async function findManifestBytes(reads: Queryer, repository: RepositoryName, digest: Digest): Promise<Buffer | undefined> {
  const { rows } = await reads.query<[string]>({
    name: 'find-manifest-bytes',
    text: `SELECT convert_from(m.bytes, 'UTF8') FROM manifests m JOIN repositories r ON r.id = m.repository_id WHERE r.name = $1 AND m.digest = $2`,
    values: [repository, digestToColumn(digest)],
    rowMode: 'array',
  });
  return rows[0] === undefined ? undefined : Buffer.from(rows[0][0], 'utf8');
}

export interface ManifestPush {
  readonly repository: RepositoryName;
  readonly digest: Digest;
  readonly manifest: Manifest;
  readonly bytes: Uint8Array;
  /** Without repetition. */
  readonly tags: readonly Tag[];
  /** Who sets the tags; left out where nobody is known. */
  readonly by?: string;
  readonly allowMissing: boolean;
  /** Of the repository; left out where it does not matter. */
  readonly limitBytes?: number | undefined;
}

export interface PreparedManifest {
  /** `full`: there is a quota, and no room. */
  readonly outcome: 'unchanged' | 'write' | 'missing' | 'full';
  /** Bytes in the repository; where there is a quota. */
  readonly used?: string;
  readonly sequence: string | null;
  readonly missing: readonly Buffer[];
  /** Of the optional blobs, where there are any: those that are damaged, and collected ones that can come back. */
  readonly unusable?: readonly Buffer[];
}

export async function prepareManifest(
  queryer: Queryer,
  node: string,
  push: ManifestPush,
  templates: readonly KeyTemplate[],
): Promise<PreparedManifest> {
  const values = [
    node,
    push.repository,
    digestToColumn(push.digest),
    push.tags,
    digestsToColumn(push.manifest.blobs),
    digestsToColumn(push.manifest.children),
    push.allowMissing,
    templates,
    push.manifest.mediaType,
  ];
  const step =
    push.limitBytes === undefined
      ? { name: 'prepare-manifest', text: 'SELECT * FROM prepare_manifest($1, $2, $3, $4, $5, $6, $7, $8, $9)', values }
      : {
          name: 'prepare-manifest-within',
          text: 'SELECT * FROM prepare_manifest_within($10, $11, $1, $2, $3, $4, $5, $6, $7, $8, $9)',
          values: [...values, push.limitBytes, push.bytes.byteLength],
        };
  const { rows } = await queryer.query<PreparedManifest>(withOptional(step, push.manifest.optionalBlobs));
  return rows[0] as PreparedManifest;
}

/** Few manifests have any, and the others pay nothing for them. */
function withOptional(step: { readonly name: string; readonly text: string; readonly values: unknown[] }, optional: readonly Digest[]) {
  if (optional.length === 0) return step;
  const { name, text, values } = step;
  return {
    name: `${name}-with-optional`,
    text: text.replace('*', `*, unusable_optional($2, $${values.length + 1}) AS unusable`),
    values: [...values, digestsToColumn(optional)],
  };
}

export async function commitManifest(queryer: Queryer, node: string, sequence: bigint, push: ManifestPush): Promise<void> {
  const { repository, digest, manifest } = push;
  const values = [
    node,
    sequence,
    repository,
    digestToColumn(digest),
    manifest.mediaType,
    push.bytes,
    manifest.subject === undefined ? null : digestToColumn(manifest.subject),
    manifest.artifactType ?? null,
    manifest.annotations === undefined ? null : JSON.stringify(manifest.annotations),
    digestsToColumn(manifest.blobs),
    digestsToColumn(manifest.children),
    push.allowMissing,
    push.tags,
    manifestPrefix(repository, digest),
    tagPrefix(repository, ''),
    entriesOf(repository, digest, manifest.subject),
  ];
  await queryer.query(
    manifest.optionalBlobs.length === 0
      ? {
          name: 'commit-manifest',
          text: 'SELECT commit_manifest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)',
          values,
        }
      : {
          name: 'commit-manifest-with-optional',
          text: 'SELECT commit_manifest_with_optional($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)',
          values: [...values, digestsToColumn(manifest.optionalBlobs)],
        },
  );
}

/** The store's entries of a manifest itself: the manifest and, with a subject, its place among the referrers. */
export function entriesOf(repository: RepositoryName, digest: Digest, subject: Digest | undefined): KeyTemplate[] {
  return [manifestTemplate(repository, digest), ...(subject === undefined ? [] : [referrerTemplate(repository, subject, digest)])];
}

export interface PreparedManifestDeletion {
  readonly sequence: bigint;
  /** The tags that point at it, which are deleted with it. */
  readonly tags: readonly Tag[];
  readonly subject: Digest | undefined;
}

/** undefined when there is no such manifest. `body`: of its entry and of those of its tags, JSON. */
export async function prepareManifestDeletion(
  queryer: Queryer,
  node: string,
  deletion: { readonly repository: RepositoryName; readonly digest: Digest; readonly template: KeyTemplate; readonly body: Uint8Array },
): Promise<PreparedManifestDeletion | undefined> {
  const { repository, digest, template, body } = deletion;
  const { rows } = await queryer.query<[sequence: string, tags: Tag[], subject: string | null]>({
    name: 'prepare-manifest-deletion',
    text: 'SELECT sequence, tags, subject::text FROM prepare_manifest_deletion($1, $2, $3, $4, $5, $6, $7)',
    values: [node, repository, digestToColumn(digest), digest, template, tagPrefix(repository, ''), Buffer.from(body).toString('utf8')],
    rowMode: 'array',
  });
  const [row] = rows;
  if (row === undefined) return undefined;
  return { sequence: BigInt(row[0]), tags: row[1], subject: row[2] === null ? undefined : digestFromText(row[2]) };
}

export async function commitManifestDeletion(
  queryer: Queryer,
  node: string,
  sequence: bigint,
  deletion: {
    readonly repository: RepositoryName;
    readonly digest: Digest;
    readonly tags: readonly Tag[];
    readonly subject: Digest | undefined;
  },
): Promise<void> {
  const { repository, digest, tags, subject } = deletion;
  await queryer.query({
    name: 'commit-manifest-deletion',
    text: 'SELECT commit_manifest_deletion($1, $2, $3, $4, $5, $6, $7, $8)',
    values: [
      node,
      sequence,
      repository,
      digestToColumn(digest),
      manifestPrefix(repository, digest),
      tags,
      tagPrefix(repository, ''),
      entriesOf(repository, digest, subject),
    ],
  });
}

/** The subject of a manifest of this repository, for a deletion that is rolled forward. */
export async function findSubject(queryer: Queryer, repository: RepositoryName, digest: Digest): Promise<Digest | undefined> {
  const { rows } = await queryer.query<[string | null]>({
    name: 'find-subject',
    text: 'SELECT m.subject::text FROM manifests m JOIN repositories r ON r.id = m.repository_id WHERE r.name = $1 AND m.digest = $2',
    values: [repository, digestToColumn(digest)],
    rowMode: 'array',
  });
  const subject = rows[0]?.[0] ?? null;
  return subject === null ? undefined : digestFromText(subject);
}

export async function recordPulls(
  queryer: Queryer,
  pulls: readonly { readonly repository: RepositoryName; readonly digest: Digest }[],
): Promise<void> {
  await queryer.query({
    name: 'record-pulls',
    text: 'SELECT record_pulls($1, $2)',
    values: [namesToColumn(pulls.map(({ repository }) => repository)), digestsToColumn(pulls.map(({ digest }) => digest))],
  });
}
