// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What decides about somebody, in the words of the configuration: POST /api/v1/policy/explain, and the command `policy explain`. */
import { z } from 'zod';
import type { Reply, Request } from '../../http/contract.js';
import { RegistryError } from '../../oci/errors.js';
import { findDigest } from '../../oci/digest.js';
import { findTag } from '../../oci/reference.js';
import { findRepositoryName } from '../../oci/repository-name.js';
import { actions } from '../actions.js';
import type { Authorizer } from './authorize.js';
import { anonymous, isAnonymous, makeIdentity, type Identity } from '../identity.js';
import { checked, readJson } from '../read-json.js';

/** Who is known by an id here; undefined for whom nobody has heard of. */
export type FindIdentity = (id: string) => Identity | undefined;

export interface Explainer {
  readonly authorizer: Authorizer;
  readonly find: FindIdentity;
  readonly hasIdentities: boolean;
}

export interface Explanation {
  readonly allowed: boolean;
  /** As in the configuration: `repository[0].policies[1]: …`. */
  readonly rule: string;
  readonly identity: { readonly id: string; readonly groups: readonly string[]; readonly known: boolean };
}

const question = z.strictObject({
  /** Empty, or nothing: anonymous. */
  identity: z.string().default(''),
  /** Where it is not known here: of what else is assumed of it. */
  groups: z.array(z.string()).optional(),
  claims: z.record(z.string(), z.unknown()).optional(),
  action: z.enum(actions),
  /** `name`, `name:tag` or `name@digest`. */
  name: z.string().default(''),
  ip: z.string().default('127.0.0.1'),
  method: z.string().default('GET'),
});

export type Question = z.input<typeof question>;

export async function postExplain(explainer: Explainer, request: Request): Promise<Reply> {
  const explanation = explain(explainer, await readJson(request, question));
  return { status: 200, headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(explanation) };
}

/** Throws a RegistryError (400) where the question makes no sense. */
export function explain({ authorizer, find, hasIdentities }: Explainer, asked: unknown): Explanation {
  const { identity: id, groups, claims, action, name, ip, method } = checked(asked, question);
  const known = id === '' ? anonymous : find(id);
  const more = { ...(groups === undefined ? {} : { groups }), ...(claims === undefined ? {} : { claims }) };
  const found = known ?? makeIdentity(id, id);
  const identity = Object.keys(more).length === 0 ? found : { ...found, ...more };
  const about = { id, groups: identity.groups, known: known !== undefined };
  if (action === 'get-api-version')
    return { allowed: !hasIdentities || !isAnonymous(identity), rule: 'whoever is logged in', identity: about };
  if (action === 'admin' && !hasIdentities)
    return { allowed: true, rule: 'no identities are configured: processes of this machine', identity: about };
  if (action === 'list-catalog' && name === '') {
    const { outcome, rule } = authorizer.decideAnywhere(identity, { action, ip, method });
    return { allowed: outcome !== 'denied', rule, identity: about };
  }
  const { outcome, rule } = authorizer.decide(identity, { action, ip, method, ...parseName(name, action === 'admin') });
  return { allowed: outcome === 'allowed', rule, identity: about };
}

function parseName(text: string, mayBeEmpty: boolean): { namespace: string; reference: string; digest: string } {
  if (text === '' && mayBeEmpty) return { namespace: '', reference: '', digest: '' };
  const [, name = '', tag, digest] = /^([^:@]*)(?::([^@]*)|@(.*))?$/.exec(text) ?? [];
  const isReference = (tag === undefined || findTag(tag) !== undefined) && (digest === undefined || findDigest(digest) !== undefined);
  if (findRepositoryName(name) === undefined || !isReference)
    throw new RegistryError('NAME_INVALID', 'name: expected <repository>, <repository>:<tag> or <repository>@<digest>');
  return { namespace: name, reference: tag ?? digest ?? '', digest: digest ?? '' };
}
