// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Who may do what: the policies of the namespace that a repository lies in, and what holds where there are none. */
import type { Action } from '../actions.js';
import { isAnonymous, type Identity } from '../identity.js';
import { compileGrants, type GroupGrant } from './group-grants.js';
import { compilePolicy, type Policy, type PolicyRequest } from './policy.js';

/** As it is configured (`repository`). */
export interface NamespaceRules {
  /** A repository's name, or the beginning of one up to a slash; empty for all. */
  readonly namespace: string;
  /** With it the first policy that is true denies; without it the first that is true allows. */
  readonly policy_default_allow: boolean;
  readonly policies: readonly string[];
}

export interface AccessRules {
  readonly repository: readonly NamespaceRules[];
  /** They allow what no policy needs to: a namespace's policies that deny (`policy_default_allow: true`) are not asked less for it. */
  readonly groups?: readonly GroupGrant[];
  /** The first that is true allows. */
  readonly admin: readonly string[];
  /** What no policy covers is for everybody. */
  readonly openToAll: boolean;
  /** Whoever asks has a token of another issuer: what no policy covers is decided by that alone. */
  readonly isExternal?: boolean;
  /** There is a way to be somebody. */
  readonly hasIdentities: boolean;
}

export interface Decision {
  /** `unsure`: it depends on a reference or a digest that is not known yet. */
  readonly outcome: 'allowed' | 'denied' | 'unsure';
  /** What decided, in words of the configuration. */
  readonly rule: string;
}

export interface Authorizer {
  /** hot: answers are remembered, since policies know nothing but what they are asked about. */
  decide(identity: Identity, request: PolicyRequest): Decision;
  /** What the policies of a repository ask about a request. */
  mentionedFor(repository: string): ReadonlySet<keyof PolicyRequest>;
  /** Whether there is a repository for which the answer may be yes. */
  decideAnywhere(identity: Identity, request: Omit<PolicyRequest, 'namespace' | 'reference' | 'digest'>): Decision;
}

interface CompiledRules {
  readonly path: string;
  readonly defaultAllow: boolean;
  readonly policies: readonly Policy[];
  readonly mentioned: ReadonlySet<keyof PolicyRequest>;
}

export type OnPolicyError = (error: Error, rule: string, identity: Identity, request: PolicyRequest) => void;

/** Answers per identity; a client asks the same few things again and again. */
const mostRemembered = 2_000;

/** Throws PolicyFault. */
export function openAuthorizer(rules: AccessRules, onError: OnPolicyError): Authorizer {
  const namespaces = new Map(rules.repository.map((entry, index) => [entry.namespace, compileRules(entry, `repository[${index}]`)]));
  const admin = compileRules({ policy_default_allow: false, policies: rules.admin }, 'access.admin');
  const mentioned = new Set([admin, ...namespaces.values()].flatMap((entry) => [...entry.mentioned]));
  const grants = compileGrants(rules.groups ?? []);
  const granted = (identity: Identity, action: Action, repository: string | undefined): Decision | undefined => {
    const rule = grants.find(identity.groups, action, repository);
    return rule === undefined ? undefined : { outcome: 'allowed', rule };
  };
  const decideAfresh = (identity: Identity, request: PolicyRequest): Decision => {
    if (request.action === 'admin') return evaluate(admin, identity, request, onError);
    const found = request.namespace === undefined ? undefined : rulesFor(namespaces, request.namespace);
    const grant = found?.defaultAllow === true ? undefined : granted(identity, request.action, request.namespace);
    if (grant !== undefined) return grant;
    return found === undefined ? uncovered(rules, identity) : evaluate(found, identity, request, onError);
  };
  const remembered = new WeakMap<Identity, Map<string, Decision>>();
  const decide: Authorizer['decide'] = (identity, request) => {
    if (namespaces.size === 0 && !grants.any && request.action !== 'admin') return uncovered(rules, identity);
    const key = keyOf(request, mentioned);
    let answers = remembered.get(identity);
    if (answers === undefined || answers.size >= mostRemembered) remembered.set(identity, (answers = new Map()));
    let decision = answers.get(key);
    if (decision === undefined) answers.set(key, (decision = decideAfresh(identity, request)));
    return decision;
  };
  return {
    decide,
    mentionedFor: (repository) => rulesFor(namespaces, repository)?.mentioned ?? nothing,
    decideAnywhere(identity, asked) {
      const request: PolicyRequest = { ...asked, namespace: undefined, reference: '', digest: '' };
      const decisions = [...namespaces.values()].map((entry) => evaluate(entry, identity, request, onError));
      const grant = granted(identity, asked.action, undefined);
      const all = [...(grant === undefined ? [] : [grant]), ...decisions, uncovered(rules, identity)];
      return all.find(({ outcome }) => outcome !== 'denied') ?? (all[0] as Decision);
    },
  };
}

/** hot: what no policy mentions makes no difference, so that one answer is for all tags of a repository; what is not known yet does. */
function keyOf(request: PolicyRequest, mentioned: ReadonlySet<keyof PolicyRequest>): string {
  const { action, namespace, reference, digest } = request;
  let key = `${action} ${namespace ?? '?'} `;
  if (reference === undefined) key += '?';
  else if (mentioned.has('reference')) key += reference;
  if (mentioned.has('digest')) key += ` ${digest ?? '?'}`;
  if (mentioned.has('method')) key += ` ${request.method ?? '?'}`;
  if (mentioned.has('ip')) key += ` ${request.ip}`;
  return key;
}

const nothing: ReadonlySet<never> = new Set();

function compileRules(
  { policy_default_allow: defaultAllow, policies: expressions }: Pick<NamespaceRules, 'policy_default_allow' | 'policies'>,
  path: string,
): CompiledRules {
  const policies = expressions.map(compilePolicy);
  return { path, defaultAllow, policies, mentioned: new Set(policies.flatMap(({ mentions }) => [...mentions])) };
}

/** Those of the longest namespace that the name lies in. */
function rulesFor(namespaces: ReadonlyMap<string, CompiledRules>, name: string): CompiledRules | undefined {
  for (let namespace = name; namespace !== ''; namespace = namespace.slice(0, Math.max(0, namespace.lastIndexOf('/')))) {
    const found = namespaces.get(namespace);
    if (found !== undefined) return found;
  }
  return namespaces.get('');
}

function evaluate(
  { path, defaultAllow, policies }: CompiledRules,
  identity: Identity,
  request: PolicyRequest,
  onError: OnPolicyError,
): Decision {
  const isComplete = request.namespace !== undefined && request.reference !== undefined;
  let doubt: Decision | undefined;
  for (const [index, policy] of policies.entries()) {
    const rule = `${path}${path === 'access.admin' ? '' : '.policies'}[${index}]: ${policy.expression}`;
    const result = policy.evaluate(identity, request);
    if (result === true) return { outcome: defaultAllow ? 'denied' : (doubt?.outcome ?? 'allowed'), rule };
    if (result === false) continue;
    if (!isComplete) doubt = { outcome: 'unsure', rule };
    else {
      onError(result, rule, identity, request);
      return { outcome: 'denied', rule: `${rule} (${result.message})` };
    }
  }
  return (
    doubt ?? {
      outcome: defaultAllow ? 'allowed' : 'denied',
      rule: `${path}${path === 'access.admin' ? ': none is true' : `.policy_default_allow: ${defaultAllow}`}`,
    }
  );
}

function uncovered({ isExternal, openToAll, hasIdentities, repository, groups = [] }: AccessRules, identity: Identity): Decision {
  if (isExternal === true) return { outcome: 'allowed', rule: 'access.token.external' };
  if (openToAll) return { outcome: 'allowed', rule: 'access.anonymous' };
  if (repository.length === 0 && groups.length > 0) return { outcome: 'denied', rule: 'ldap.groups: none allows it' };
  if (repository.length > 0) return { outcome: 'denied', rule: 'repository: no namespace covers it' };
  if (!hasIdentities) return { outcome: 'allowed', rule: 'no identities and no policies are configured' };
  if (isAnonymous(identity)) return { outcome: 'denied', rule: 'access.anonymous: false' };
  return { outcome: 'allowed', rule: 'no policies are configured: whoever is logged in' };
}
