// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Which of an issuer's tokens are let in, and what they are called. */
import { makeIdentity, type Identity } from '../identity.js';
import { claimPattern } from './claim-pattern.js';

export interface ClaimRule {
  /** Claim → patterns of which one must match; all of them must be met. */
  readonly claims: Readonly<Record<string, readonly string[]>>;
  readonly groups: readonly string[];
}

export interface Naming {
  /** The issuer's name in the configuration: the beginning of its workloads' ids. */
  readonly name: string;
  readonly id_claim: string;
  readonly groups_claim?: string | undefined;
  readonly rules: readonly ClaimRule[];
}

export type Claims = Readonly<Record<string, unknown>>;

const longestId = 1_024;

/** Undefined for whom no rule lets in. What an issuer says is in its own name: no local identity, name or group is meant by it. */
export function openClaimRules({ name, id_claim: idClaim, groups_claim: groupsClaim, rules }: Naming) {
  const compiled = rules.map(({ claims, groups }) => ({
    groups,
    tests: Object.entries(claims).map(([claim, patterns]) => ({ claim, patterns: patterns.map(claimPattern) })),
  }));
  return (claims: Claims): Identity | undefined => {
    const met = compiled.filter(({ tests }) =>
      tests.every(({ claim, patterns }) => textsOf(claims, claim).some((text) => patterns.some((matches) => matches(text)))),
    );
    const [id = '', second] = textsOf(claims, idClaim);
    if (met.length === 0 || second !== undefined || id === '' || id.length > longestId || /\p{Cc}/u.test(id)) return undefined;
    const own = groupsClaim === undefined ? [] : textsOf(claims, groupsClaim).map((group) => `${name}:${group}`);
    const groups = [...new Set([...met.flatMap((rule) => rule.groups), ...own])];
    return makeIdentity(`${name}:${id}`, `${name}:${id}`, { groups, claims });
  };
}

/** Of one claim, or of the elements of a list. */
function textsOf(claims: Claims, claim: string): string[] {
  const value = valueOf(claims, claim);
  return (Array.isArray(value) ? value : [value])
    .filter((one) => typeof one === 'string' || typeof one === 'number' || typeof one === 'boolean')
    .map(String);
}

/** A claim by its name, or by a JSON pointer (RFC 6901): Kubernetes' claims have dots in their names. */
function valueOf(claims: Claims, claim: string): unknown {
  if (!claim.startsWith('/')) return own(claims, claim);
  return claim
    .slice(1)
    .split('/')
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'))
    .reduce<unknown>(own, claims);
}

function own(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, name) ? (value as Claims)[name] : undefined;
}
