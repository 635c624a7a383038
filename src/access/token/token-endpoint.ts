// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** GET and POST /token: who somebody is, in exchange for a token that says what they may do, as docker and its relatives ask for it. */
import type { ClientAddress } from '../../http/client-address.js';
import { BodyTooLarge, type Reply, type Request } from '../../http/contract.js';
import { RegistryError } from '../../oci/errors.js';
import { repositoryActions, verbFor, type Action } from '../actions.js';
import { InvalidCredentials, parseBasic } from '../authenticate.js';
import type { ClientCertificates } from '../certificate/client-certificates.js';
import { withCertificate } from '../certificate/with-certificate.js';
import type { Authorizer } from '../policy/authorize.js';
import { basicChallenge, type ChallengeSettings } from '../challenge.js';
import { anonymous, isAnonymous, type Identity } from '../identity.js';
import type { Logins } from '../password/logins.js';
import type { Passwords, SourcedLogin } from '../password/passwords.js';
import { failedLogin, type Recorder } from '../verdict.js';
import type { Revocations } from './revocations.js';
import { parseScopes, type Grant, type Scope } from './scopes.js';
import type { Tokens } from './tokens.js';

export interface TokenService {
  readonly logins: Logins;
  readonly passwords: Pick<Passwords, 'find'>;
  readonly tokens: Tokens;
  readonly revocations: Revocations;
  readonly authorizer: Authorizer;
  readonly challenge: ChallengeSettings;
  readonly addressOf: ClientAddress;
  readonly recorder?: Recorder | undefined;
  /** Undefined where no client is asked for one. */
  readonly certificates: Pick<ClientCertificates, 'identityOf'> | undefined;
}

/** A form of a refresh token and many scopes. */
const largestForm = 64 * 1024;

/** Anonymous clients get a token, too, for what anybody may do. */
export async function getToken(service: TokenService, request: Request, query: URLSearchParams): Promise<Reply> {
  const header = request.header('authorization');
  const login = header === undefined ? undefined : await logIn(service, request, parseBasic(header));
  const isOffline = query.get('offline_token') === 'true';
  return tokenReply(service, request, login, query.getAll('scope'), isOffline, {});
}

/** RFC 6749, as the distribution project uses it: grant_type password or refresh_token. */
export async function postToken(service: TokenService, request: Request): Promise<Reply> {
  const form = new URLSearchParams(await readForm(request));
  const scopes = form.getAll('scope');
  const isOffline = form.get('access_type') === 'offline';
  const grantType = form.get('grant_type');
  if (grantType === 'password') {
    const [username, password] = [form.get('username'), form.get('password')];
    const login = await logIn(service, request, username === null || password === null ? undefined : { username, password });
    return tokenReply(service, request, login, scopes, isOffline, {});
  }
  if (grantType === 'refresh_token') {
    const refreshToken = form.get('refresh_token') ?? '';
    const login = await refreshed(service, request, refreshToken);
    return tokenReply(service, request, login, scopes, false, { refresh_token: refreshToken });
  }
  throw new RegistryError('UNSUPPORTED', 'grant_type must be password or refresh_token', { status: 400 });
}

async function readForm(request: Request): Promise<string> {
  try {
    return Buffer.from(await request.body.bytes(largestForm)).toString('utf8');
  } catch (error) {
    if (error instanceof BodyTooLarge) throw new RegistryError('SIZE_INVALID', 'the form is too long', { status: 413 });
    throw error;
  }
}

async function logIn(
  service: TokenService,
  request: Request,
  credentials: { username: string; password: string } | undefined,
): Promise<SourcedLogin> {
  try {
    if (credentials === undefined) throw new InvalidCredentials('basic');
    return await service.logins.logIn(request, credentials.username, credentials.password);
  } catch (error) {
    throw error instanceof InvalidCredentials ? refused(service, request, error) : error;
  }
}

/** Whoever has it must still be there, with the password that it was given for, and it must not have been taken back. */
async function refreshed(service: TokenService, request: Request, token: string): Promise<SourcedLogin> {
  const refuse = (reason: string, username?: string) => refused(service, request, new InvalidCredentials('bearer', reason, username));
  const claims = await service.tokens.readRefresh(token);
  if (claims === undefined) throw refuse('a refresh token that has expired, or is none of this registry');
  const login = await service.passwords.find(claims.source, claims.username);
  if (login?.stamp !== claims.stamp) throw refuse('a refresh token of an identity that is gone, or has another password now', claims.id);
  // They are two where a name has become somebody else's.
  for (const id of new Set([claims.id, login.identity.id]))
    if (await service.revocations.covers(id, claims.issuedMs)) throw refuse('a revoked refresh token', claims.id);
  return { ...login, source: claims.source };
}

function refused({ challenge, recorder }: TokenService, request: Request, error: InvalidCredentials): RegistryError {
  recorder?.decided(request, failedLogin(error, 'issue-token'));
  return new RegistryError('UNAUTHORIZED', error.message, { headers: { 'WWW-Authenticate': basicChallenge(challenge) } });
}

async function tokenReply(
  service: TokenService,
  request: Request,
  login: SourcedLogin | undefined,
  scopes: readonly string[],
  isOffline: boolean,
  more: { readonly refresh_token?: string },
): Promise<Reply> {
  const shown = service.certificates?.identityOf(request);
  const identity = login === undefined ? (shown ?? anonymous) : withCertificate(login.identity, shown);
  const grants = parseScopes(scopes)
    .map((scope) => granted(service, request, identity, scope))
    .filter(({ actions }) => actions.length > 0);
  const { token, issuedAt, expiresInSeconds } = await service.tokens.issue(identity, grants, login?.expiresMs);
  // What ends by itself is not made to last.
  const refresh =
    isOffline && login !== undefined && login.expiresMs === undefined && !isAnonymous(identity)
      ? {
          refresh_token: await service.tokens.issueRefresh({
            id: identity.id,
            username: login.findBy ?? identity.username,
            source: login.source,
            stamp: login.stamp,
          }),
        }
      : more;
  const scope = grants.map(({ type, name, actions }) => `${type}:${name}:${actions.join(',')}`).join(' ');
  const source = login?.source ?? (isAnonymous(identity) ? undefined : 'certificate');
  const about = { identity: identity.id, source, outcome: 'allowed', rule: 'what the policies grant' } as const;
  service.recorder?.decided(request, { ...about, action: 'issue-token', scope });
  const body = { token, access_token: token, expires_in: expiresInSeconds, issued_at: issuedAt.toISOString(), scope, ...refresh };
  return { status: 200, headers: { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' }, body: JSON.stringify(body) };
}

/** What is not allowed is left out, and nobody is told why. What depends on a tag is decided when there is one. */
function granted({ authorizer, addressOf }: TokenService, request: Request, identity: Identity, scope: Scope): Grant {
  const ip = addressOf(request);
  const ask = (action: Action) => ({ action, ip, method: undefined });
  if (scope.type === 'registry') {
    const { outcome } =
      scope.action === 'admin'
        ? authorizer.decide(identity, { ...ask('admin'), namespace: '', reference: undefined, digest: undefined })
        : authorizer.decideAnywhere(identity, ask('list-catalog'));
    return { type: 'registry', name: scope.action === 'admin' ? 'admin' : 'catalog', actions: outcome === 'denied' ? [] : ['*'] };
  }
  const actions = scope.verbs.filter((verb) =>
    repositoryActions
      .filter((action) => verbFor(action) === verb)
      .some((action) => {
        const asked = { ...ask(action), namespace: scope.name, reference: undefined, digest: undefined };
        return authorizer.decide(identity, asked).outcome !== 'denied';
      }),
  );
  return { type: 'repository', name: scope.name, actions };
}
