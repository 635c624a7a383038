// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What is asked of whom: 401 with a challenge that leads to a token or to a password. */
import { RegistryError } from '../oci/errors.js';
import type { Request } from '../http/contract.js';

export interface ChallengeSettings {
  readonly kind: 'bearer' | 'basic';
  /** Names this registry in challenges and tokens. */
  readonly service: string;
  /** Where tokens are to be had, if not here. */
  readonly realm: string | undefined;
  /** `https://registry.example`: where clients reach it; undefined: as the request says. */
  readonly externalUrl: string | undefined;
  readonly hasTls: boolean;
  readonly isTrustedProxy: (address: string) => boolean;
}

export interface Wanted {
  readonly scope?: string | undefined;
  /** RFC 6750, 3.1. */
  readonly error?: 'invalid_token' | 'insufficient_scope' | undefined;
  /** For what no client of a registry asks: browsers, Prometheus, curl. */
  readonly basic?: boolean;
}

export function unauthorized(settings: ChallengeSettings, request: Request, message: string, wanted: Wanted = {}): RegistryError {
  const header = settings.kind === 'basic' || wanted.basic === true ? basicChallenge(settings) : bearerChallenge(settings, request, wanted);
  return new RegistryError('UNAUTHORIZED', message, { headers: { 'WWW-Authenticate': header } });
}

export function basicChallenge({ service }: ChallengeSettings): string {
  return `Basic realm="${service}", charset="UTF-8"`;
}

function bearerChallenge(settings: ChallengeSettings, request: Request, { scope, error }: Wanted): string {
  const parts = { realm: settings.realm ?? `${originOf(settings, request)}/token`, service: settings.service, scope, error };
  const known = Object.entries(parts).filter(([, value]) => value !== undefined);
  return `Bearer ${known.map(([name, value]) => `${name}="${value}"`).join(',')}`;
}

/** Absolute, since not every client takes a relative realm. */
function originOf({ externalUrl, hasTls, isTrustedProxy }: ChallengeSettings, request: Request): string {
  if (externalUrl !== undefined) return externalUrl;
  const behind = isTrustedProxy(request.remoteAddress);
  const host = (behind ? request.header('x-forwarded-host') : undefined) ?? request.header('host') ?? '';
  const proto = (behind ? request.header('x-forwarded-proto') : undefined) ?? (hasTls ? 'https' : 'http');
  // Nothing that a client sends may end the quotes.
  return `${proto === 'https' ? 'https' : 'http'}://${/^[A-Za-z0-9._:[\]-]+$/.test(host) ? host : 'localhost'}`;
}
