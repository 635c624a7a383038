// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The keys that an issuer signs with: those of a file, or what it publishes. */
import { createLocalJWKSet, errors, type JWK, type JWTVerifyGetKey } from 'jose';
import { RegistryError } from '../../oci/errors.js';
import { parseKeySet } from '../token/key-set.js';
import { watchFile } from '../watched-file.js';

export interface IssuerKeys {
  /** Rejects with UNAVAILABLE (503) where it cannot be told whether there is such a key. */
  readonly find: JWTVerifyGetKey;
  close(): void;
}

export interface KeyEvents {
  /** Keys came or went. */
  readonly onChange: () => void;
  /** Told once, until it works again. */
  readonly onError: (error: unknown) => void;
}

export function openFileKeys(file: string, { onChange, onError }: KeyEvents): IssuerKeys {
  const watched = watchFile(file, (text) => createLocalJWKSet({ keys: parseKeySet(text) }), onChange, onError);
  return { find: (header, token) => watched.current(header, token), close: () => watched.close() };
}

const refreshAfterMs = 3_600_000;
/** So long what was known counts while the issuer is away. */
const mostStaleMs = 24 * 3_600_000;
/** Whoever invents names of keys makes us ask no more often than this, after the first few. */
const lookEveryMs = 5_000;
const looksAtOnce = 5;
const retryAfterSeconds = '5';

/** `load` asks the issuer: at the start, when what is known is old, and for a key that is not known; never twice at a time. */
export function openPublishedKeys(
  load: (signal: AbortSignal) => Promise<readonly JWK[]>,
  { onChange, onError }: KeyEvents,
  now: () => number = Date.now,
): IssuerKeys {
  const closing = new AbortController();
  let known: { readonly find: JWTVerifyGetKey; readonly text: string; readonly atMs: number } | undefined;
  let pending: Promise<void> | undefined;
  let isAway = false;
  let paidUntilMs = 0;
  const take = (keys: readonly JWK[]): void => {
    const before = known?.text;
    isAway = false;
    known = { find: createLocalJWKSet({ keys: [...keys] }), text: JSON.stringify(keys), atMs: now() };
    if (before !== undefined && before !== known.text) onChange();
  };
  const fail = (error: unknown): void => {
    if (!isAway && !closing.signal.aborted) onError(error);
    isAway = true;
  };
  const look = (): Promise<void> | undefined => {
    if (pending !== undefined) return pending;
    const paid = Math.max(paidUntilMs, now());
    if (paid - now() > (looksAtOnce - 1) * lookEveryMs) return undefined;
    paidUntilMs = paid + lookEveryMs;
    pending = load(closing.signal)
      .then(take)
      .catch(fail)
      .finally(() => (pending = undefined));
    return pending;
  };
  const current = () => (known !== undefined && now() - known.atMs <= mostStaleMs ? known : undefined);
  void look();
  return {
    async find(header, token) {
      if (current() === undefined) await look();
      const keys = current();
      if (keys === undefined) throw away();
      if (now() - keys.atMs > refreshAfterMs) void look();
      try {
        return await keys.find(header, token);
      } catch (error) {
        if (!(error instanceof errors.JWKSNoMatchingKey)) throw error;
        await look();
        if (isAway) throw away();
        return (current() ?? keys).find(header, token);
      }
    },
    close: () => closing.abort(),
  };
}

/** The log was told why, once, and not for each token. */
export class IssuerAway extends Error {
  override readonly name = 'IssuerAway';
}

function away(): RegistryError {
  return new RegistryError('UNAVAILABLE', 'the keys of the issuer of this token cannot be had at the moment', {
    headers: { 'Retry-After': retryAfterSeconds },
    cause: new IssuerAway(),
  });
}
