// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Tokens that this registry does not sign, but believes: of workloads, and of an issuer in the place of `/token`. */
import type { Config } from '../config/config.js';
import type { TokenVerifier } from './authenticate.js';
import type { Logins } from './password/logins.js';
import { openExternalTokens } from './token/external-tokens.js';
import { claimedIssuer } from './token/foreign-token.js';
import type { TokenCheck } from './token/remember-tokens.js';
import type { SharedKeys } from './workload/shared-keys.js';
import { withWorkloads } from './workload/workload-logins.js';
import { openWorkloads } from './workload/workloads.js';

export interface ForeignTokens {
  /** Undefined for what can only be a token of our own. */
  checkFor(token: string): TokenCheck | undefined;
  /** Where workloads are known, takes their tokens for passwords. */
  orWorkloads(logins: Logins, tokens: TokenVerifier): Logins;
  close(): void;
}

/** `onChange` is told when what was believed may be so no more. */
export async function openForeignTokens(
  { oidc, access }: Config,
  shared: SharedKeys,
  isTaken: (id: string) => boolean,
  onChange: () => void,
  warn: (message: string, error: unknown) => void,
): Promise<ForeignTokens> {
  const onError = (error: unknown): void =>
    warn('the keys of access.token.external are not as they should be, so what was known goes on', error);
  const { external: settings } = access.token;
  // Names of workloads have a colon.
  const isOfOthers = (id: string): boolean => isTaken(id) || (oidc.length > 0 && id.includes(':'));
  const external = settings === undefined ? undefined : await openExternalTokens({ settings, isTaken: isOfOthers, onChange, onError });
  if (oidc.length === 0) return { checkFor: () => external?.check, orWorkloads: (logins) => logins, close: () => external?.close() };
  const workloads = openWorkloads(oidc, { onChange, warn, shared });
  return {
    checkFor(token) {
      const issuer = claimedIssuer(token);
      return issuer !== undefined && workloads.trusts(issuer) ? () => workloads.check(issuer, token) : external?.check;
    },
    orWorkloads: (logins, tokens) => withWorkloads(logins, workloads, tokens),
    close() {
      workloads.close();
      external?.close();
    },
  };
}
