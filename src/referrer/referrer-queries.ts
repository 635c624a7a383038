// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { digestFromText, digestsToColumn, digestToColumn } from '../database/columns.js';
import type { Queryer } from '../database/pool.js';
import type { Digest } from '../oci/digest.js';
import type { Tag } from '../oci/reference.js';
import type { RepositoryName } from '../oci/repository-name.js';

/** A referrer as the API lists it. */
export interface ReferrerDescriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly size: number;
  readonly artifactType?: string;
  readonly annotations?: Record<string, string>;
}

type Row = [digest: string, mediaType: string, size: number, artifactType: string | null, annotations: Record<string, string> | null];

const columns = 'm.digest::text, m.media_type, octet_length(m.bytes), m.artifact_type, m.annotations';

export interface ReferrerFilter {
  readonly artifactType: string | undefined;
  /** Only digests after this one. */
  readonly after: Digest | undefined;
  readonly limit: number;
}

/** Manifests whose subject is this digest, and those of `listed` (a fallback tag's index) that the repository has; by digest. */
export async function listReferrers(
  reads: Queryer,
  repository: RepositoryName,
  subject: Digest,
  listed: readonly Digest[],
  { artifactType, after, limit }: ReferrerFilter,
): Promise<ReferrerDescriptor[]> {
  const { rows } = await reads.query<Row>({
    name: 'list-referrers',
    text: `SELECT ${columns} FROM manifests m JOIN repositories r ON r.id = m.repository_id
           WHERE r.name = $1 AND (m.subject = $2 OR m.digest = ANY ($3::bytea[]))
             AND ($4::text IS NULL OR COALESCE(m.artifact_type, '') = $4) AND ($5::bytea IS NULL OR m.digest > $5)
           ORDER BY m.digest LIMIT $6`,
    values: [
      repository,
      digestToColumn(subject),
      digestsToColumn(listed),
      artifactType ?? null,
      after === undefined ? null : digestToColumn(after),
      limit,
    ],
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

/** The bytes of the index that old clients keep under a subject's fallback tag. */
export async function findFallbackIndex(reads: Queryer, repository: RepositoryName, tag: Tag): Promise<Buffer | undefined> {
  const { rows } = await reads.query<[string]>({
    name: 'find-fallback-index',
    text: `SELECT convert_from(m.bytes, 'UTF8') FROM repositories r JOIN tags t ON t.repository_id = r.id
           JOIN manifests m ON m.repository_id = r.id AND m.digest = t.digest WHERE r.name = $1 AND t.name = $2`,
    values: [repository, tag],
    rowMode: 'array',
  });
  return rows[0] === undefined ? undefined : Buffer.from(rows[0][0]);
}
