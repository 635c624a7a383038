// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { RegistryError } from '../oci/errors.js';

/** The SQLSTATEs that the write protocol raises (see migrations/0002_write_protocol.sql). */
export const sqlState = {
  nodeGone: 'HA000',
  startAgain: 'HA001',
  alreadyStored: 'HA002',
  otherWriter: 'HA003',
  referencesMissing: 'HA004',
} as const;

/** Foreign key, deadlock, serialization, lock timeout: what a concurrent writer may cause and a new attempt cures. */
const transient = new Set(['23503', '40P01', '40001', '55P03', sqlState.startAgain]);
/** 25006: the server became a standby, so the connection is one to the wrong server. 25P03: it was ended for its silence amid a transaction. */
const lostConnection = /^(08|57P0|25006|25P03)|^(ECONN|EPIPE|ENOENT|ENOTFOUND|EAI_AGAIN|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH)/;
/** Of the server as a whole, not of the statement: no connection, no access, no resources, an operator, the machine, a defect. */
const serverFailure = /^(08|25006|28|3D|53|57|58|XX)/;
const lostConnectionMessage =
  /^(Connection terminated|timeout exceeded when trying to connect|timeout expired|Client has encountered a connection error|Query read timeout)/;
const wrongPassword = ['28P01', '28000'] as const;
const retryAfterSeconds = '5';

export function sqlStateOf(error: unknown): string | undefined {
  const code = error instanceof Error ? (error as { code?: unknown }).code : undefined;
  return typeof code === 'string' ? code : undefined;
}

export function isTransient(error: unknown): boolean {
  return transient.has(sqlStateOf(error) ?? '');
}

/** The database is not the one that it was, or is behind its store; a class of connection loss, so that reads go on from the store. */
export const databaseChanged = '08HA1';

/** True when Postgres may or may not have done what it was asked. What names a file is of the filesystem, whatever its code: a socket's errors have an address. */
export function isConnectionLoss(error: unknown): boolean {
  return (
    error instanceof Error &&
    !('path' in error) &&
    (lostConnection.test(sqlStateOf(error) ?? '') || lostConnectionMessage.test(error.message))
  );
}

/** The database is not asked, or was lost while it was. */
export class DatabaseAway extends Error {
  override readonly name = 'DatabaseAway';
  /** Of the class that SQL has for lost connections: what was asked may or may not have been done. */
  readonly code = '08006';

  constructor(reason: string) {
    super(`the database is away: ${reason}`);
  }
}

/** True when it is no fault of the statement: a read that fails like this can be answered from the store. */
export function isDatabaseAway(error: unknown): boolean {
  return isConnectionLoss(error) || serverFailure.test(sqlStateOf(error) ?? '');
}

/** Whoever is in stays in, but nobody else is let in: no connection is left, or the password is another one now. */
export function isTurnedAway(error: unknown): boolean {
  return ['53300', ...wrongPassword].includes(sqlStateOf(error) ?? '');
}

/** A server that nobody has to mend: it is away, it is none that takes writes now, or it is short of something. */
export function isPassing(error: unknown): boolean {
  return isConnectionLoss(error) || (sqlStateOf(error) ?? '').startsWith('53');
}

/** The server answers, but takes no writes: a failover is not over yet, or a provider has locked it. */
export class NotPrimary extends Error {
  override readonly name = 'NotPrimary';
  readonly code = '25006';
}

/** What went wrong, in one line; a host with several addresses fails with one error for each, and none of its own. */
export function reasonOf(error: unknown): string {
  if (error instanceof AggregateError && error.message === '') return error.errors.map(reasonOf).join('; ');
  return error instanceof Error ? error.message : String(error);
}

/** For who starts: a line that names the setting. Everything but a lost connection is returned as it is. */
export function unreachable(error: unknown, setting: string): unknown {
  if (!isConnectionLoss(error) || error instanceof NotPrimary) return error;
  return new Error(`the database cannot be reached (${setting}): ${reasonOf(error)}`, { cause: error });
}

/** The disk of the store, or of Postgres. */
export function isDiskFull(error: unknown): boolean {
  return ['53100', 'ENOSPC', 'EDQUOT'].includes(sqlStateOf(error) ?? '');
}

/** True when it may succeed at another time, and the client is told so. */
export function isUnavailable(error: unknown): boolean {
  const failure = asRegistryError(error);
  return failure instanceof RegistryError && failure.code === 'UNAVAILABLE';
}

/** What a client is told when the database or the disk cannot serve: 503 or 507. Everything else is returned as it is. */
export function asRegistryError(error: unknown): unknown {
  if (error instanceof RegistryError) return error;
  const state = sqlStateOf(error);
  if (isDiskFull(error)) {
    return new RegistryError('INSUFFICIENT_STORAGE', 'there is no space left for this write', { cause: error });
  }
  if (isConnectionLoss(error) || isTurnedAway(error) || state === '57014' || isTransient(error) || state === sqlState.nodeGone) {
    return unavailable('the database cannot serve this request now', error);
  }
  return error;
}

export function unavailable(message: string, cause?: unknown): RegistryError {
  return new RegistryError('UNAVAILABLE', message, { headers: { 'Retry-After': retryAfterSeconds }, cause });
}
