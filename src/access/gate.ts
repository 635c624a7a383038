// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The one place that every request passes before its handler is called. */
import type { ClientAddress } from '../http/client-address.js';
import type { Request } from '../http/contract.js';
import { isDirectFromLoopback, requireDirectLoopback } from '../http/direct-loopback.js';
import type { Resource } from '../http/path.js';
import { findDigest } from '../oci/digest.js';
import { RegistryError } from '../oci/errors.js';
import { findRepositoryName } from '../oci/repository-name.js';
import type { Action, RepositoryAction } from './actions.js';
import { InvalidCredentials, type Authenticated, type Authenticator } from './authenticate.js';
import type { Authorizer, Decision } from './policy/authorize.js';
import { anybody, type Caller } from './caller.js';
import { unauthorized, type ChallengeSettings } from './challenge.js';
import { anonymous, isAnonymous, type Identity } from './identity.js';
import type { PolicyRequest } from './policy/policy.js';
import { covers, scopeFor, type Grant } from './token/scopes.js';
import { failedLogin, type Recorder } from './verdict.js';

export interface GateParts {
  readonly authenticator: Authenticator;
  readonly authorizer: Authorizer;
  /** Of those who come with a token of another issuer. */
  readonly external: Authorizer;
  readonly challenge: ChallengeSettings;
  readonly addressOf: ClientAddress;
  /** There is a way to be somebody, so that nobody in particular is told to log in. */
  readonly hasIdentities: boolean;
  /** Connections show certificates, which policies may ask about also where they make nobody known. */
  readonly hasCertificates: boolean;
  readonly hasPolicies: boolean;
  readonly openToAll: boolean;
  /** Undefined where nobody keeps a record. */
  readonly recorder?: Recorder | undefined;
}

export interface Gate {
  /**
   * Throws, or rejects with, UNAUTHORIZED or DENIED; the answer never depends on what there is. `onDenied` hears before that of whoever is known and may not, or is
   * nobody, and may throw something else.
   */
  admit(request: Request, action: Action, resource: Resource, onDenied?: OnDenied): Caller | Promise<Caller>;
}

export type OnDenied = (id: string) => void;

export function openGate(parts: GateParts): Gate {
  const { authenticator, challenge, hasIdentities, hasCertificates, hasPolicies, recorder } = parts;
  if (!hasIdentities && !hasPolicies) {
    return {
      admit(request, action, resource) {
        const rule = action === 'admin' ? 'no identities are configured: processes of this machine' : 'access.anonymous';
        recorder?.decided(request, { identity: '', action, outcome: 'allowed', rule });
        if (action === 'admin') refuseElsewhere(request, resource);
        return anybody;
      },
    };
  }
  const external = { ...parts, authorizer: parts.external };
  return {
    admit(request, action, resource, onDenied) {
      const enter = (authenticated: Authenticated | undefined): Caller =>
        check(authenticated?.isExternal === true ? external : parts, { request, action, resource, onDenied }, authenticated);
      const refuse = (error: unknown): never => {
        if (!(error instanceof InvalidCredentials)) throw error;
        recorder?.decided(request, failedLogin(error, action));
        const scope = scopesFor(action, resource, mountOf(request, resource));
        const wanted = { scope, basic: action === 'admin', error: error.scheme === 'bearer' ? ('invalid_token' as const) : undefined };
        throw unauthorized(challenge, request, error.message, wanted);
      };
      if (!hasIdentities && !hasCertificates) return enter(undefined);
      try {
        const authenticated = authenticator.authenticate(request);
        return authenticated instanceof Promise ? authenticated.then(enter, refuse) : enter(authenticated);
      } catch (error) {
        return refuse(error);
      }
    },
  };
}

interface Asked {
  readonly request: Request;
  readonly action: Action;
  readonly resource: Resource;
  readonly onDenied: OnDenied | undefined;
}

function check(parts: GateParts, { request, action, resource, onDenied }: Asked, authenticated: Authenticated | undefined): Caller {
  const { hasIdentities, challenge, authorizer, openToAll, recorder } = parts;
  const { identity = anonymous, grants, source } = authenticated ?? {};
  const caller = new RequestCaller(parts, request, identity, grants);
  const repository = repositoryOf(resource);
  const mount = mountOf(request, resource);
  const scope = (): string | undefined => scopesFor(action, resource, mount);
  /** A certificate that says no name makes nobody known. */
  const isNobody = isAnonymous(identity) && grants === undefined;
  const record = (outcome: 'allowed' | 'denied', rule: string): void => {
    recorder?.decided(request, { identity: identity.id, source, action, outcome, rule });
    // Whoever can log in learns the way from a refusal, and many ask for nothing else before.
    if (outcome === 'denied' && action !== 'get-api-version' && !(isNobody && hasIdentities)) onDenied?.(identity.id);
  };
  const allow = (rule: string): Caller => {
    record('allowed', rule);
    return caller;
  };
  const refuse = (rule: string): never => {
    record('denied', rule);
    if (hasIdentities && isAnonymous(identity)) {
      const error = isNobody ? undefined : ('insufficient_scope' as const);
      throw unauthorized(challenge, request, 'authentication is required', { scope: scope(), error, basic: action === 'admin' });
    }
    throw new RegistryError('DENIED', 'access to this is denied');
  };
  // Who may pull there gets a token for both; who may not uploads what is not mounted.
  const mayMount = mount !== undefined && caller.decide('get-blob', mount).outcome === 'allowed' && authenticated?.isExternal !== true;
  if (grants !== undefined && (!covers(grants, action, repository) || (mayMount && !covers(grants, 'get-blob', mount.namespace)))) {
    record('denied', 'the token is not for this');
    throw unauthorized(challenge, request, 'the token is not for this', { scope: scope(), error: 'insufficient_scope' });
  }
  if (action === 'get-api-version') {
    // Clients learn here, and nowhere else, that there is something to log in to.
    const isOpen = !isNobody || !hasIdentities || (openToAll && challenge.kind === 'basic');
    const rule = 'whoever is logged in';
    return isOpen ? allow(rule) : refuse(rule);
  }
  if (action === 'admin' && !hasIdentities) {
    record('allowed', 'no identities are configured: processes of this machine');
    refuseElsewhere(request, resource);
    return caller;
  }
  const { outcome, rule } =
    action === 'list-catalog' ? authorizer.decideAnywhere(identity, caller.ask(action)) : caller.decide(action, named(resource));
  return outcome === 'denied' ? refuse(rule) : allow(rule);
}

class RequestCaller implements Caller {
  readonly isUnlimited = false;
  private readonly parts: GateParts;
  private readonly request: Request;
  private readonly identity: Identity;
  private readonly grants: readonly Grant[] | undefined;

  constructor(parts: GateParts, request: Request, identity: Identity, grants: readonly Grant[] | undefined) {
    this.parts = parts;
    this.request = request;
    this.identity = identity;
    this.grants = grants;
  }

  get id(): string {
    return this.identity.id;
  }

  ask<A extends Action>(action: A): { action: A; ip: string; method: string } {
    return { action, ip: this.parts.addressOf(this.request), method: this.request.method };
  }

  may(action: RepositoryAction, repository: string, reference: { readonly tag?: string; readonly digest?: string } = {}): boolean {
    const { recorder } = this.parts;
    if (this.grants !== undefined && !covers(this.grants, action, repository)) {
      recorder?.refused(this.request, `${action} ${repository}: the token is not for this`);
      return false;
    }
    const digest = reference.digest ?? '';
    const { outcome, rule } = this.decide(action, { namespace: repository, reference: reference.tag ?? digest, digest });
    if (outcome !== 'allowed') recorder?.refused(this.request, `${action} ${repository}: ${rule}`);
    return outcome === 'allowed';
  }

  tagFilter(repository: string): ((tag: string) => boolean) | undefined {
    const decide = (reference: string | undefined, digest: string | undefined): string =>
      this.decide('get-manifest', { namespace: repository, reference, digest }).outcome;
    const outcome = decide(undefined, undefined);
    if (outcome === 'allowed') return undefined;
    return outcome === 'denied' ? () => false : (tag) => decide(tag, '') === 'allowed';
  }

  referrerFilter(repository: string): ((digest: string) => boolean) | undefined {
    const asked = this.parts.authorizer.mentionedFor(repository);
    const decide = (digest: string | undefined): string =>
      this.decide('get-manifest', { namespace: repository, reference: digest, digest }).outcome;
    // Whoever pulls by digest names it by `request.reference`, too.
    const tellsApart = asked.has('digest') || (asked.has('reference') && decide(undefined) === 'unsure');
    return tellsApart ? (digest) => decide(digest) === 'allowed' : undefined;
  }

  catalogFilter(): (repository: string) => boolean {
    return (repository) => this.decide('list-catalog', { namespace: repository, reference: '', digest: '' }).outcome === 'allowed';
  }

  decide(action: Action, subject: Subject): Decision {
    return this.parts.authorizer.decide(this.identity, new AskedRequest(this.parts.addressOf, this.request, action, subject));
  }
}

type Subject = Pick<PolicyRequest, 'namespace' | 'reference' | 'digest'>;

/** hot: to find the address takes longer than all the rest, and few policies mention it. */
class AskedRequest implements PolicyRequest {
  readonly action: Action;
  readonly namespace: string | undefined;
  readonly reference: string | undefined;
  readonly digest: string | undefined;
  private readonly addressOf: ClientAddress;
  private readonly request: Request;

  constructor(addressOf: ClientAddress, request: Request, action: Action, { namespace, reference, digest }: Subject) {
    this.action = action;
    this.namespace = namespace;
    this.reference = reference;
    this.digest = digest;
    this.addressOf = addressOf;
    this.request = request;
  }

  get ip(): string {
    return this.addressOf(this.request);
  }

  get method(): string {
    return this.request.method;
  }
}

function repositoryOf(resource: Resource): string | undefined {
  return 'repository' in resource ? resource.repository : undefined;
}

/** The blob that is to be mounted, where it is to come from. */
function mountOf(request: Request, resource: Resource): Subject | undefined {
  if (resource.kind !== 'uploads' || !request.query.includes('from=')) return undefined;
  const query = new URLSearchParams(request.query);
  const [digest, namespace] = [findDigest(query.get('mount') ?? ''), findRepositoryName(query.get('from') ?? '')];
  return digest === undefined || namespace === undefined ? undefined : { namespace, reference: digest, digest };
}

function scopesFor(action: Action, resource: Resource, mount: Subject | undefined): string | undefined {
  const scope = scopeFor(action, repositoryOf(resource));
  return mount === undefined ? scope : `${scope} ${scopeFor('get-blob', mount.namespace)}`;
}

function named(resource: Resource): Subject {
  const reference = 'reference' in resource ? resource.reference : undefined;
  const digest = reference?.digest ?? ('digest' in resource ? resource.digest : '');
  return { namespace: repositoryOf(resource) ?? '', reference: reference?.tag ?? digest, digest };
}

/** Where nobody can be told from anybody, whoever may log in to this machine counts as the operator; what only tells something may be asked for by any name. */
function refuseElsewhere(request: Request, resource: Resource): void {
  if (resource.kind === 'metrics' && isDirectFromLoopback(request)) return;
  requireDirectLoopback(request);
}
