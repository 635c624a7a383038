// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Reply, Request } from '../http/contract.js';
import { algorithmOf, isDigestAlgorithm, parseDigest, type Digest, type DigestAlgorithm } from '../oci/digest.js';
import { RegistryError } from '../oci/errors.js';
import { findRepositoryName, type RepositoryName } from '../oci/repository-name.js';
import type { Caller } from '../access/caller.js';
import { mountBlob } from '../blob/link-blob.js';
import { findHolders, listRepositoriesOf } from '../blob/link-queries.js';
import { parseContentRange } from '../http/byte-range.js';
import type { Uploads } from './active-upload.js';
import { sessionLocation, sessionRange, uploadUnknown } from './session-answers.js';
import { cancelSession } from './session-queries.js';
import { beginUpload, openSession, resumeUpload, sessionBytes } from './upload-sessions.js';

export interface SessionPath {
  readonly repository: RepositoryName;
  readonly id: string;
}

const sessionId = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** end-4a, 4b, 4c and 11: POST /v2/<name>/blobs/uploads/. Mounts, takes a whole blob, or opens a session. */
export async function postSession(
  uploads: Uploads,
  request: Request,
  { repository }: { repository: RepositoryName },
  query: URLSearchParams,
  caller: Caller,
): Promise<Reply> {
  const mount = query.get('mount');
  if (mount !== null) {
    const digest = parseDigest(mount);
    const from = await mountSources(uploads, caller, repository, digest, mountSource(query.get('from')));
    if (from !== 'refused' && (await mountBlob(uploads.journal, repository, digest, from, request.signal)))
      return blobCreated(repository, digest);
    // What cannot be mounted, or may not be, is uploaded.
    return sessionOpened(repository, await openSession(uploads, repository, algorithmOf(digest), caller.id));
  }
  const digestText = query.get('digest');
  if (digestText !== null) {
    const digest = parseDigest(digestText);
    const upload = await beginUpload(uploads, repository, algorithmOf(digest), request.body, caller.id);
    await upload.finish(digest, request.signal);
    return blobCreated(repository, digest);
  }
  return sessionOpened(repository, await openSession(uploads, repository, algorithmAsked(query), caller.id));
}

/** end-5: PATCH <location>. A chunk, or a stream of unknown length. */
export async function patchSession(uploads: Uploads, request: Request, { repository, id }: SessionPath, caller: Caller): Promise<Reply> {
  const upload = await resumeUpload(uploads, { repository, id: checkId(id), owner: caller.id }, startOf(request), request.body);
  const received = await upload.suspend();
  return { status: 202, headers: sessionHeaders(repository, id, received) };
}

/** end-6: PUT <location>?digest=. The last chunk, or nothing more than the digest. */
export async function putSession(
  uploads: Uploads,
  request: Request,
  { repository, id }: SessionPath,
  query: URLSearchParams,
  caller: Caller,
): Promise<Reply> {
  const digestText = query.get('digest');
  if (digestText === null) throw new RegistryError('DIGEST_INVALID', 'the digest parameter is missing');
  const digest = parseDigest(digestText);
  const upload = await resumeUpload(uploads, { repository, id: checkId(id), owner: caller.id }, startOf(request), request.body);
  await upload.finish(digest, request.signal);
  return blobCreated(repository, digest);
}

/** end-13: GET <location>. Where the upload stands. */
export async function getSession(uploads: Uploads, _request: Request, { repository, id }: SessionPath, caller: Caller): Promise<Reply> {
  return {
    status: 204,
    headers: sessionHeaders(repository, id, await sessionBytes(uploads, { repository, id: checkId(id), owner: caller.id })),
  };
}

/** end-14: DELETE <location>. */
export async function deleteSession(uploads: Uploads, _request: Request, { repository, id }: SessionPath, caller: Caller): Promise<Reply> {
  if (!(await cancelSession(uploads.journal.writes, uploads.journal.node.id, { repository, id: checkId(id), owner: caller.id })))
    throw uploadUnknown(id);
  return { status: 204 };
}

function checkId(id: string): string {
  if (!sessionId.test(id)) throw uploadUnknown(id.slice(0, 60));
  return id;
}

/** A `from` that is no repository name is like one that does not have the blob. Without it, any repository will do. */
function mountSource(from: string | null): RepositoryName[] | undefined {
  if (from === null || from === '') return undefined;
  const repository = findRepositoryName(from);
  return repository === undefined ? [] : [repository];
}

/**
 * Those that the caller may read from; undefined: any that has it. Where that is none, or where the caller may not read what it pushes and none of them has it, not even
 * what the repository has already is told.
 */
async function mountSources(
  { journal }: Uploads,
  caller: Caller,
  repository: RepositoryName,
  digest: Digest,
  asked: readonly RepositoryName[] | undefined,
): Promise<readonly RepositoryName[] | 'refused' | undefined> {
  if (caller.isUnlimited) return asked;
  if (!caller.may('mount-blob', repository, { digest })) return 'refused';
  const sources = asked ?? (await listRepositoriesOf(journal.writes, digest, mostSources));
  const readable = sources.filter((source) => caller.may('get-blob', source, { digest }));
  const counted = caller.may('get-blob', repository, { digest }) ? readable : await findHolders(journal.writes, digest, readable);
  return counted.length === 0 ? 'refused' : counted;
}

/** A layer that more repositories have than this is uploaded again where none of the first ones may be read. */
const mostSources = 1_000;

function algorithmAsked(query: URLSearchParams): DigestAlgorithm {
  const asked = query.get('digest-algorithm') ?? 'sha256';
  if (!isDigestAlgorithm(asked)) throw new RegistryError('DIGEST_INVALID', 'unsupported digest algorithm', { detail: asked.slice(0, 60) });
  return asked;
}

/** Where the chunk says that it begins, if it says so. */
function startOf(request: Request): number | undefined {
  const header = request.header('content-range');
  if (header === undefined) return undefined;
  const range = parseContentRange(header);
  if (range === undefined)
    throw new RegistryError('BLOB_UPLOAD_INVALID', 'Content-Range must be <first byte>-<last byte>', { detail: header.slice(0, 100) });
  const announced = range.last - range.first + 1;
  if (request.body.length !== undefined && request.body.length !== announced) {
    throw new RegistryError('SIZE_INVALID', `Content-Range has ${announced} bytes, the body ${request.body.length}`);
  }
  return range.first;
}

function sessionOpened(repository: RepositoryName, id: string): Reply {
  return { status: 202, headers: sessionHeaders(repository, id, 0) };
}

function sessionHeaders(repository: RepositoryName, id: string, received: number): Record<string, string> {
  return { Location: sessionLocation(repository, id), Range: sessionRange(received), 'Docker-Upload-UUID': id };
}

function blobCreated(repository: RepositoryName, digest: Digest): Reply {
  return { status: 201, headers: { Location: `/v2/${repository}/blobs/${digest}`, 'Docker-Content-Digest': digest } };
}
