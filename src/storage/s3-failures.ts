// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What went wrong at an S3 server, in the words of the rest of the program. */
import { RegistryError } from '../oci/errors.js';

/** How S3's errors look, those of the SDK and those of the network below it. */
interface S3Failure extends Error {
  readonly code?: string;
  readonly $metadata?: { readonly httpStatusCode?: number };
}

const absent = new Set(['NoSuchKey', 'NotFound']);
const full = new Set(['XMinioStorageFull', 'InsufficientCapacity', 'QuotaExceeded', 'XMinioAdminBucketQuotaExceeded']);
const throttled = /^(SlowDown|Throttl|TooManyRequests|RequestLimitExceeded|ServiceUnavailable|OperationAborted|InternalError|Busy)/;
const unreachable =
  /^(ECONN|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|ENOTFOUND|EAI_AGAIN|ERR_STREAM_PREMATURE_CLOSE|TimeoutError|RequestTimeout|NetworkingError)/;
const retryAfterSeconds = '5';

export function nameOf(error: unknown): string {
  const { name, code } = error as S3Failure;
  // An SDK error's name is S3's code; below the SDK, the system's code tells more than `Error`.
  return code !== undefined && (name === 'Error' || name === 'AggregateError' || name === undefined) ? code : name;
}

function statusOf(error: unknown): number {
  return (error as S3Failure).$metadata?.httpStatusCode ?? 0;
}

export function isAbsent(error: unknown): boolean {
  return absent.has(nameOf(error));
}

export function isFull(error: unknown): boolean {
  return full.has(nameOf(error)) || statusOf(error) === 507;
}

/** Trying again may help. */
export function isPassing(error: unknown): boolean {
  const { code = '' } = error as S3Failure;
  const name = nameOf(error);
  const status = statusOf(error);
  return !isFull(error) && (throttled.test(name) || unreachable.test(name) || unreachable.test(code) || status === 429 || status >= 500);
}

/** 507 where there is no room, 503 where it passes; anything else is a fault of the configuration or of ours. */
export function asStoreFailure(error: unknown, doing: string): Error {
  if (error instanceof RegistryError) return error;
  const { message } = error as Error;
  const text = `S3 ${doing}: ${nameOf(error)}${message === '' || message === nameOf(error) ? '' : `: ${message}`}`;
  if (isFull(error)) return Object.assign(new Error(text, { cause: error }), { code: 'ENOSPC' });
  if (!isPassing(error)) return new Error(text, { cause: error });
  return new RegistryError('UNAVAILABLE', 'the object store cannot serve this request now', {
    headers: { 'Retry-After': retryAfterSeconds },
    cause: new Error(text, { cause: error }),
  });
}

/** One line for who starts the node: the setting to look at, and what is wrong. */
export function startFailure(
  error: unknown,
  { bucket, endpoint }: { readonly bucket: string; readonly endpoint: string | undefined },
): Error {
  const cause = rootOf(error);
  const name = nameOf(cause);
  const place = endpoint ?? 'AWS';
  const said = (cause as Error).message === '' ? name : (cause as Error).message;
  const line = (key: string, text: string) => new Error(`${key}: ${text}`, { cause: error });
  if (name === 'NoSuchBucket') return line('storage.s3.bucket', `there is no bucket ${bucket} at ${place}`);
  if (/^(InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|InvalidToken|CredentialsProviderError|TokenRefreshRequired)/.test(name))
    return line('storage.s3.credentials', `${place} cannot be used with these: ${said}`);
  if (/^(AuthorizationHeaderMalformed|PermanentRedirect|IllegalLocationConstraint)/.test(name) || said === 'Region is missing')
    return line('storage.s3.region', `not that of bucket ${bucket}: ${said}`);
  if (/^(AccessDenied|Forbidden|403)/.test(name))
    return line(
      'storage.s3',
      `access to bucket ${bucket} at ${place} is denied (the README names the permissions that are needed): ${said}`,
    );
  if (/CERT|SELF_SIGNED|UNABLE_TO_VERIFY|ERR_TLS/.test(name))
    return line('storage.s3.ca_file', `the certificate of ${place} is not trusted: ${said}`);
  if (isPassing(cause)) return line('storage.s3.endpoint', `${place} cannot be reached: ${said}`);
  if (cause === error) return line('storage.s3', said);
  return line('storage.s3', `bucket ${bucket} at ${place} cannot be used: ${name}: ${said}`);
}

/** What the SDK, or the network below it, said at first. */
function rootOf(error: unknown): unknown {
  let root = error;
  while (root instanceof Error && root.cause instanceof Error) root = root.cause;
  return root;
}
