// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Workloads that show a token of an issuer that is trusted (`oidc`): GitHub Actions, GitLab CI, Kubernetes. */
import type { JWK } from 'jose';
import type { Config } from '../../config/config.js';
import { InvalidCredentials } from '../authenticate.js';
import { believedUntilMs, verifyForeign } from '../token/foreign-token.js';
import { parseKeySet } from '../token/key-set.js';
import type { CheckedToken, TokenCheck } from '../token/remember-tokens.js';
import { openClaimRules } from './claim-rules.js';
import { fetchDocument } from './fetch-document.js';
import type { SharedKeys } from './shared-keys.js';
import { openFileKeys, openPublishedKeys, type IssuerKeys, type KeyEvents } from './issuer-keys.js';

export type WorkloadIssuer = Config['oidc'][number];

export interface Workloads {
  trusts(issuer: string): boolean;
  /** Of a token that says it is this issuer's. Rejects with InvalidCredentials, or UNAVAILABLE where nobody can tell. */
  check(issuer: string, token: string): Promise<CheckedToken>;
  close(): void;
}

export interface WorkloadEvents {
  readonly onChange: () => void;
  readonly warn: (message: string, error: unknown) => void;
  readonly shared: SharedKeys;
}

/** Several may have one issuer's address: clusters of machines of one's own all call themselves `kubernetes.default.svc`. */
export function openWorkloads(
  issuers: readonly WorkloadIssuer[],
  { onChange, warn, shared }: WorkloadEvents,
  now: () => number = Date.now,
): Workloads {
  const opened = issuers.map((settings) => {
    const onError = (error: unknown): void =>
      warn(
        `the keys of ${settings.name} (oidc) cannot be had, so those that were known go on, and tokens of others cannot be checked`,
        error,
      );
    const keys = openKeys(settings, { onChange, onError }, shared, now);
    return { issuer: settings.issuer, check: checkOf(settings, keys, now), close: () => keys.close() };
  });
  return {
    trusts: (issuer) => opened.some((one) => one.issuer === issuer),
    async check(issuer, token) {
      let failure: unknown;
      for (const one of opened) {
        if (one.issuer !== issuer) continue;
        try {
          return await one.check(token);
        } catch (error) {
          // That one of them cannot tell counts more than that another does not know it.
          if (failure === undefined || !(error instanceof InvalidCredentials)) failure = error;
        }
      }
      throw failure ?? new InvalidCredentials('bearer');
    },
    close: () => opened.forEach((one) => one.close()),
  };
}

function checkOf(settings: WorkloadIssuer, { find: keys }: IssuerKeys, now: () => number): TokenCheck {
  const { issuer, audience, algorithms } = settings;
  const admit = openClaimRules(settings);
  return async (token) => {
    const claims = await verifyForeign(token, { issuer, audience, algorithms, keys }, now);
    const identity = admit(claims);
    if (identity === undefined) throw new InvalidCredentials('bearer', `no rule of ${settings.name} (oidc) lets it in`);
    const authenticated = { identity, grants: undefined, source: 'oidc', expiresMs: claims.exp * 1000 };
    return { authenticated, untilMs: believedUntilMs(claims, now) };
  };
}

function openKeys(settings: WorkloadIssuer, events: KeyEvents, shared: SharedKeys, now: () => number): IssuerKeys {
  const { issuer, jwks_uri: uri, jwks_file: file, ca_file: caFile, bearer_token_file: bearerTokenFile } = settings;
  if (file !== undefined) return openFileKeys(file, events);
  const place = JSON.stringify([issuer, uri, caFile, bearerTokenFile]);
  return shared.open(place, events, (all) => openPublishedKeys((signal) => loadKeys(settings, signal), all, now));
}

/** OpenID Connect Discovery 1.0, 4. What is to be shown to the server goes to the configured addresses only. */
async function loadKeys(
  { issuer, jwks_uri: configured, ca_file: caFile, bearer_token_file: bearerTokenFile }: WorkloadIssuer,
  signal: AbortSignal,
): Promise<JWK[]> {
  const own = { caFile, bearerTokenFile, signal };
  if (configured !== undefined) return parseKeySet(await fetchDocument(configured, own));
  const document = JSON.parse(await fetchDocument(`${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`, own)) as unknown;
  const { issuer: said, jwks_uri: uri } = (document ?? {}) as { issuer?: unknown; jwks_uri?: unknown };
  if (said !== issuer || typeof uri !== 'string') throw new Error(`what ${issuer} publishes is another issuer's, or names no jwks_uri`);
  const isOwn = URL.canParse(uri) && new URL(uri).origin === new URL(issuer).origin;
  return parseKeySet(await fetchDocument(uri, isOwn ? own : { caFile, signal }));
}
