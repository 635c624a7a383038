// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What the engines answer by themselves, and for how long they go on reading what nobody wants. */
import { errorBody, type ErrorCode } from '../../oci/errors.js';
import { BodyAborted, type Reply } from '../contract.js';

export interface ErrorReply extends Reply {
  readonly body: string;
}

export function errorReply(status: number, code: ErrorCode, message: string): ErrorReply {
  return { status, headers: { 'Content-Type': 'application/json' }, body: errorBody(code, message) };
}

export const internalError = errorReply(500, 'UNKNOWN', 'internal error');

/** What a handler fails with when its client went away, which is no fault of its own. */
export function isDeparture(error: unknown): boolean {
  return error instanceof BodyAborted || (error instanceof Error && error.name === 'AbortError');
}

/** A reply that is sent while up to so many announced bytes of the request are still to come keeps the connection: reading them costs less than a new handshake. */
export const discardToKeepBytes = 1024 * 1024;

/**
 * Past that the reply says `Connection: close`, and the rest of the body is read and dropped until one of these, because closing at once makes
 * the kernel send a reset, which takes the reply away from a client that reads only after it has sent everything.
 */
export const lingerBytes = 256 * 1024 * 1024;
export const lingerMs = 10_000;
