// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Why a token does not count: for the audit log, never for whoever showed it. */
import { InvalidCredentials } from '../authenticate.js';

const reasons: Readonly<Record<string, string>> = {
  ERR_JWT_EXPIRED: 'an expired token',
  ERR_JWS_SIGNATURE_VERIFICATION_FAILED: 'a token with a wrong signature',
  ERR_JWKS_NO_MATCHING_KEY: 'a token of an unknown key',
  ERR_JOSE_ALG_NOT_ALLOWED: 'a token with another algorithm',
  ERR_JWT_CLAIM_VALIDATION_FAILED: 'a token that is for others, or not yet valid',
};

/** Of what was thrown while it was checked. */
export function refusalOf(error: unknown): string {
  if (error instanceof InvalidCredentials) return error.reason;
  return reasons[(error as { readonly code?: string }).code ?? ''] ?? 'no token that counts here';
}
