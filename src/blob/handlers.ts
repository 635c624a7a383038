// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Reply, Request } from '../http/contract.js';
import { parseRange, type ByteRange } from '../http/byte-range.js';
import { isNotModified } from '../http/conditional.js';
import { writeEntries, type Journal, type Prepared } from '../journal/write-entries.js';
import type { Digest } from '../oci/digest.js';
import { RegistryError } from '../oci/errors.js';
import type { RepositoryName } from '../oci/repository-name.js';
import type { BlobStore } from '../storage/blob-store.js';
import { deletionTemplate, linkPrefix } from '../storage/keys.js';
import type { MetadataReads } from '../reads/metadata-reads.js';
import { openData, type LostData } from './open-data.js';
import { commitLinkDeletion, prepareLinkDeletion } from './link-queries.js';
import { multipartBody } from './multipart-body.js';

export interface BlobReads {
  readonly reads: MetadataReads;
  readonly store: BlobStore;
  readonly lost: LostData;
}

export interface BlobPath {
  readonly repository: RepositoryName;
  readonly digest: Digest;
}

/** end-2: GET and HEAD /v2/<name>/blobs/<digest>. Answers 404 BLOB_UNKNOWN unless this repository is linked to the digest. */
export async function getBlob({ reads, store, lost }: BlobReads, request: Request, { repository, digest }: BlobPath): Promise<Reply> {
  const blob = await reads.links.find({ repository, digest });
  if (blob === undefined) throw blobUnknown(digest);
  if (blob.damaged) throw blobDamaged(digest);
  const headers = {
    'Content-Type': 'application/octet-stream',
    'Docker-Content-Digest': digest,
    ETag: `"${digest}"`,
    'Accept-Ranges': 'bytes',
    'Cache-Control': 'max-age=31536000, immutable',
  };
  if (isNotModified(request, digest)) return { status: 304, headers };
  const { key } = blob;
  const isHead = request.method === 'HEAD';
  const range = isHead ? undefined : request.header('range');
  const ranges = range === undefined || !rangeApplies(request, digest) ? undefined : parseRange(range, blob.size);
  // One plain range goes to the store with the client; what else may be asked of ranges stores answer each in its own way. Nor does a store say what HEAD is asked for.
  const goes = range === undefined || (ranges?.length === 1 && request.header('if-range') === undefined);
  const elsewhere = isHead || !goes ? undefined : await store.presign(key, 'application/octet-stream');
  if (elsewhere !== undefined)
    return { status: 307, headers: { Location: elsewhere, 'Docker-Content-Digest': digest, 'Cache-Control': 'no-store' } };
  const stream = ({ start, end }: ByteRange) => ({
    length: end - start,
    open: () => openData({ store, lost, damaged: () => blobDamaged(digest) }, digest, blob, start, end),
  });
  if (ranges === undefined) return { status: 200, headers, body: stream({ start: 0, end: blob.size }) };
  const [first] = ranges;
  if (first === undefined) {
    throw new RegistryError('RANGE_INVALID', 'the range lies outside of the blob', {
      headers: { 'Content-Range': `bytes */${blob.size}` },
    });
  }
  if (ranges.length === 1) {
    return {
      status: 206,
      headers: { ...headers, 'Content-Range': `bytes ${first.start}-${first.end - 1}/${blob.size}` },
      body: stream(first),
    };
  }
  const { contentType, body } = multipartBody(ranges, blob.size, stream);
  return { status: 206, headers: { ...headers, 'Content-Type': contentType }, body };
}

/** end-10: DELETE /v2/<name>/blobs/<digest>. Manifests that refer to it go on naming it, as something that is missing. */
export async function deleteBlob(journal: Journal, request: Request, { repository, digest }: BlobPath): Promise<Reply> {
  const template = deletionTemplate(linkPrefix(repository, digest));
  const prepare = async (node: string): Promise<Prepared<boolean>> => {
    const sequence = await prepareLinkDeletion(journal.writes, node, { repository, digest }, template);
    if (sequence === undefined) return { done: false };
    const commit = () => commitLinkDeletion(journal.writes, node, sequence, { repository, digest });
    return { sequence, objects: [{ template, bytes: new Uint8Array() }], commit, outcome: true };
  };
  const deleted = await writeEntries(journal, prepare, request.signal);
  if (!deleted) throw blobUnknown(digest);
  return { status: 202 };
}

function blobUnknown(digest: Digest): RegistryError {
  return new RegistryError('BLOB_UNKNOWN', 'blob unknown to this repository', { detail: digest });
}

/** As not there, also for HEAD: so whoever pushes brings it again, which heals it. */
function blobDamaged(digest: Digest): RegistryError {
  return new RegistryError(
    'BLOB_UNKNOWN',
    'the bytes of this blob are damaged in the store and are not served; pushing it again heals it',
    {
      detail: { digest, damaged: true },
    },
  );
}

/** RFC 9110, 13.1.5: a range asked for under If-Range counts only while the blob is the one the client knows. */
function rangeApplies(request: Request, digest: Digest): boolean {
  const condition = request.header('if-range');
  return condition === undefined || condition === `"${digest}"`;
}
