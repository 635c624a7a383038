// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { digestFromText, digestsToColumn, digestToColumn } from '../database/columns.js';
import type { Queryer } from '../database/pool.js';
import type { Digest } from '../oci/digest.js';
import { referrersTag } from '../oci/reference.js';
import type { RepositoryName } from '../oci/repository-name.js';

/** A referrer as the API lists it. */
export interface ReferrerDescriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly size: number;
  readonly artifactType?: string;
  readonly annotations?: Record<string, string>;
}

export interface ReferrerFilter {
  readonly artifactType: string | undefined;
  /** Only digests after this one. */
  readonly after: Digest | undefined;
  /** Those of some digests, in their order, that may be told of; undefined where that is all. */
  readonly select: ((digests: readonly Digest[]) => Promise<readonly Digest[]>) | undefined;
}

export interface ReferrerPage {
  readonly descriptors: readonly ReferrerDescriptor[];
  /** The next page is that after this one; undefined where there is none. */
  readonly next: Digest | undefined;
}

const pageReferrers = 1_000;
/** A client must be able to take a page as a manifest, of which 4 MiB is what all of them take. */
const pageBytes = 3 * 1024 * 1024;

/** What a page has room for: by the bytes of the manifests, since a descriptor is hardly larger than what it describes, and they are known without reading them. */
export class PageRoom {
  private count = 0;
  private bytes = 0;

  /** Whether one more fits; the first does. */
  takes(size: number): boolean {
    if (this.count >= pageReferrers || (this.count > 0 && this.bytes + size > pageBytes)) return false;
    this.count++;
    this.bytes += size;
    return true;
  }
}

/** Manifests whose subject is this digest, and those under its fallback tag that the repository has; by digest. What is read of them is what fits a page. */
export async function listReferrers(
  reads: Queryer,
  repository: RepositoryName,
  subject: Digest,
  filter: ReferrerFilter,
): Promise<ReferrerPage> {
  const { digests, next } = await choose(reads, repository, subject, filter);
  return { descriptors: digests.length === 0 ? [] : await describe(reads, repository, digests), next };
}

async function choose(
  reads: Queryer,
  repository: RepositoryName,
  subject: Digest,
  { artifactType, after: begin, select }: ReferrerFilter,
): Promise<{ readonly digests: readonly Digest[]; readonly next: Digest | undefined }> {
  const room = new PageRoom();
  const digests: Digest[] = [];
  for (let after = begin; ;) {
    const sizes = await findSizes(reads, repository, subject, artifactType, after);
    const found = [...sizes.keys()];
    for (const digest of select === undefined ? found : await select(found)) {
      if (!room.takes(sizes.get(digest) ?? 0)) return { digests, next: digests.at(-1) };
      digests.push(digest);
    }
    if (found.length < foundAtOnce) return { digests, next: undefined };
    after = found.at(-1);
  }
}

/** A page, and whether there is more. */
const foundAtOnce = pageReferrers + 1;

/**
 * Both parts come in the order of an index, so that neither reads more than is asked for; lengths are known without the bytes. Which children of the fallback tag's
 * index are here is known since its push.
 */
async function findSizes(
  reads: Queryer,
  repository: RepositoryName,
  subject: Digest,
  artifactType: string | undefined,
  after: Digest | undefined,
): Promise<ReadonlyMap<Digest, number>> {
  const { rows } = await reads.query<[digest: string, size: number]>({
    name: 'find-referrers',
    text: `SELECT k.digest::text, k.size FROM repositories r JOIN LATERAL (
             (SELECT m.digest, octet_length(m.bytes) AS size FROM manifests m
              WHERE m.repository_id = r.id AND m.subject = $2 AND m.digest > $5 AND ($4::text IS NULL OR COALESCE(m.artifact_type, '') = $4)
              ORDER BY m.digest LIMIT $6)
             UNION
             SELECT l.digest, l.size FROM tags t JOIN LATERAL (
               SELECT c.digest, octet_length(m.bytes) AS size FROM manifest_children c
               JOIN manifests m ON m.repository_id = c.repository_id AND m.digest = c.digest
               WHERE c.repository_id = t.repository_id AND c.manifest = t.digest AND c.digest > $5
                 AND ($4::text IS NULL OR COALESCE(m.artifact_type, '') = $4)
               ORDER BY c.digest LIMIT $6
             ) l ON true WHERE t.repository_id = r.id AND t.name = $3
           ) k ON true WHERE r.name = $1 ORDER BY k.digest LIMIT $6`,
    values: [
      repository,
      digestToColumn(subject),
      referrersTag(subject),
      artifactType ?? null,
      after === undefined ? Buffer.alloc(0) : digestToColumn(after),
      foundAtOnce,
    ],
    rowMode: 'array',
  });
  return new Map(rows.map(([digest, size]) => [digestFromText(digest), size]));
}

type Row = [digest: string, mediaType: string, size: number, artifactType: string | null, annotations: Record<string, string> | null];

/** One that is deleted meanwhile is left out. */
async function describe(reads: Queryer, repository: RepositoryName, digests: readonly Digest[]): Promise<ReferrerDescriptor[]> {
  const { rows } = await reads.query<Row>({
    name: 'describe-referrers',
    text: `SELECT m.digest::text, m.media_type, octet_length(m.bytes), m.artifact_type, m.annotations
           FROM repositories r JOIN manifests m ON m.repository_id = r.id
           WHERE r.name = $1 AND m.digest = ANY ($2::bytea[]) ORDER BY m.digest`,
    values: [repository, digestsToColumn(digests)],
    rowMode: 'array',
  });
  return rows.map(([digest, mediaType, size, type, annotations]) => ({
    mediaType,
    digest: digestFromText(digest),
    size,
    ...(type === null ? {} : { artifactType: type }),
    ...(annotations === null ? {} : { annotations }),
  }));
}
