// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The specification's error codes with the status each is answered with; the last group is what clients know beyond it. */
const statusOf = {
  BLOB_UNKNOWN: 404,
  BLOB_UPLOAD_INVALID: 400,
  BLOB_UPLOAD_UNKNOWN: 404,
  DIGEST_INVALID: 400,
  MANIFEST_BLOB_UNKNOWN: 404,
  MANIFEST_INVALID: 400,
  MANIFEST_UNKNOWN: 404,
  NAME_INVALID: 400,
  NAME_UNKNOWN: 404,
  SIZE_INVALID: 400,
  UNAUTHORIZED: 401,
  DENIED: 403,
  UNSUPPORTED: 405,
  TOOMANYREQUESTS: 429,

  NOT_FOUND: 404,
  PAGINATION_NUMBER_INVALID: 400,
  RANGE_INVALID: 416,
  REQUEST_TIMEOUT: 408,
  TAG_INVALID: 400,
  UNKNOWN: 500,
  UNAVAILABLE: 503,
  INSUFFICIENT_STORAGE: 507,
} as const;

export type ErrorCode = keyof typeof statusOf;

export interface RegistryErrorOptions {
  /** Only where the code's own status is not the right one. */
  readonly status?: number;
  readonly detail?: unknown;
  readonly headers?: Record<string, string>;
  /** The setting that refused it: for the audit log, not for the client. */
  readonly rule?: string;
  readonly cause?: unknown;
}

/** A fault that the client is told of. Anything else that is thrown is a bug. */
export class RegistryError extends Error {
  override readonly name = 'RegistryError';
  readonly code: ErrorCode;
  readonly status: number;
  readonly detail: unknown;
  readonly headers: Record<string, string>;
  readonly rule: string | undefined;

  constructor(code: ErrorCode, message: string, options: RegistryErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.status = options.status ?? statusOf[code];
    this.detail = options.detail;
    this.headers = options.headers ?? {};
    this.rule = options.rule;
  }
}

/** The body of an error reply: `{"errors":[{code, message, detail}]}`. */
export function errorBody(code: ErrorCode, message: string, detail?: unknown): string {
  return JSON.stringify({ errors: [{ code, message, detail }] });
}
