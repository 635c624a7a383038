// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Opens access control as it is configured: where identities come from, what they may do, and how tokens tell it. */
import { readFileSync } from 'node:fs';
import type { Config } from '../config/config.js';
import { addressesIn, type ClientAddress } from '../http/client-address.js';
import type { BlobStore } from '../storage/blob-store.js';
import { openPasswordPool } from '../worker/password-pool.js';
import { InvalidCredentials, openAuthenticator } from './authenticate.js';
import type { ClientCertificates } from './certificate/client-certificates.js';
import { openAuthorizer, type Authorizer, type OnPolicyError } from './policy/authorize.js';
import type { ChallengeSettings } from './challenge.js';
import type { Explainer } from './policy/explain.js';
import { tellPolicyFailures } from './policy/tell-failures.js';
import { openFileKeys } from './token/file-keys.js';
import { openForeignTokens } from './open-foreign-tokens.js';
import { openGate, type Gate } from './gate.js';
import { makeIdentity } from './identity.js';
import { openLdapUsers } from './ldap/ldap-users.js';
import { idsOfOthers, openLocalUsers, parseHtpasswd, type LocalUser } from './password/local-users.js';
import { openLogins, type AttemptOf } from './password/logins.js';
import { openPasswords, type RememberedPasswords } from './password/passwords.js';
import type { PasswordSource } from './password/password-source.js';
import { readOwnSecret } from './token/own-secret.js';
import { rememberTokens } from './token/remember-tokens.js';
import { openRevocations } from './token/revocations.js';
import type { KeyRing } from './token/signing-key.js';
import { openStoreKeys } from './token/store-keys.js';
import type { TokenService } from './token/token-endpoint.js';
import { openTokens, type Tokens } from './token/tokens.js';
import type { Recorder } from './verdict.js';
import type { SharedKeys } from './workload/shared-keys.js';
import { watchFile } from './watched-file.js';

export interface Access {
  readonly gate: Gate;
  /** Undefined where there is nobody to give a token to. */
  readonly tokens: TokenService | undefined;
  readonly explainer: Explainer;
  /** Undefined where no client is asked for one. */
  readonly certificates: ClientCertificates | undefined;
  close(): Promise<void>;
}

export interface AccessParts {
  readonly config: Config;
  readonly store: BlobStore;
  readonly addressOf: ClientAddress;
  readonly warn: (message: string, error: unknown) => void;
  /** Undefined where nobody keeps a record. */
  readonly recorder?: Recorder | undefined;
  /** Refuses who fails too often. */
  readonly attemptOf?: AttemptOf | undefined;
  readonly issuerKeys: SharedKeys;
  readonly remembered?: RememberedPasswords | undefined;
}

export async function openAccess(parts: AccessParts): Promise<Access> {
  const closers: (() => Promise<unknown> | void)[] = [];
  const close = async (): Promise<void> => {
    for (const each of closers.splice(0).toReversed()) await each();
  };
  try {
    return { ...(await openParts(parts, closers)), close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function openParts(
  { config, store, addressOf, warn, recorder, attemptOf, issuerKeys, remembered }: AccessParts,
  closers: (() => Promise<unknown> | void)[],
): Promise<Omit<Access, 'close'>> {
  const { access, server, repository } = config;
  const { hasIdentities } = access;
  const { external } = access.token;
  const onPolicyError = tellPolicyFailures(warn);
  const authorizer = authorizerFor(config, onPolicyError);
  const challenge: ChallengeSettings = {
    kind: access.challenge,
    realm: external?.realm,
    service: external?.service ?? access.token.service,
    externalUrl: server.external_url,
    hasTls: server.tls !== undefined,
    isTrustedProxy: addressesIn(server.trusted_proxies),
  };
  const { sources, waste, users, isTaken } = openSources(config, () => verifier.forget(), warn, closers);
  const foreign = await openForeignTokens(config, issuerKeys, isTaken, () => verifier.forget(), warn);
  closers.push(() => foreign.close());
  let issued: Tokens | undefined;
  const verifier = rememberTokens((token) => (foreign.checkFor(token) ?? issued?.check ?? refuseToken)(token));
  const passwords = openPasswords(sources, { waste, remembered });
  const logins = foreign.orWorkloads(openLogins(passwords, attemptOf, recorder), verifier);
  const certificates = await openCertificates(config, warn);
  if (certificates !== undefined) closers.push(() => certificates.close());
  let tokens: TokenService | undefined;
  if (hasIdentities && access.challenge === 'bearer' && external === undefined) {
    const { refresh_lifetime: refreshLifetimeMs, lifetime: lifetimeMs, service } = access.token;
    const keys = await openKeys(config, store, () => verifier.forget(), warn);
    closers.push(() => keys.close());
    const revocations = await openRevocations(store, refreshLifetimeMs, (error) => warn('revocations cannot be read', error));
    closers.push(() => revocations.close());
    issued = openTokens(keys, { service, lifetimeMs, refreshLifetimeMs });
    tokens = { logins, passwords, tokens: issued, revocations, authorizer, challenge, addressOf, recorder, certificates };
  }
  const gate = openGate({
    authenticator: openAuthenticator(logins, verifier, certificates),
    authorizer,
    external: external === undefined ? authorizer : authorizerFor(config, onPolicyError, true),
    challenge,
    addressOf,
    hasIdentities,
    hasCertificates: certificates !== undefined,
    hasPolicies: repository.length > 0,
    openToAll: access.anonymous,
    recorder,
  });
  const find = (id: string) => identityCalled(id, users());
  return {
    gate,
    tokens,
    explainer: { authorizer, find, hasIdentities },
    certificates,
  };
}

async function openCertificates({ server: { tls }, access }: Config, warn: AccessParts['warn']): Promise<ClientCertificates | undefined> {
  if (tls?.client_ca_bundle === undefined) return undefined;
  // Its libraries are loaded only where they are needed.
  const { openClientCertificates } = await import('./certificate/client-certificates.js');
  const settings = {
    authoritiesFile: tls.client_ca_bundle,
    listFile: tls.client_crl_file,
    isRequired: tls.client_certificate === 'required',
    idFrom: access.certificate.id_from,
    hasGroups: access.certificate.groups_from_organizations,
  };
  return openClientCertificates(settings, warn);
}

const refuseToken = () => Promise.reject(new InvalidCredentials('bearer', 'no tokens are issued here'));

export function authorizerFor({ access, repository, ldap }: Config, onError: OnPolicyError, isExternal = false): Authorizer {
  const { admin, anonymous: openToAll, hasIdentities } = access;
  return openAuthorizer({ repository, groups: ldap?.groups ?? [], admin, openToAll, hasIdentities, isExternal }, onError);
}

/** Everybody with a password that is kept here; a configured identity goes before one of the file with the same name. */
export function localUsers({ identity, access }: Config): LocalUser[] {
  const { htpasswd_file: file } = access;
  const fromFile = file === undefined ? [] : [...parseHtpasswd(readFileSync(file, 'utf8'), idsOfOthers(identity)).values()];
  return [...configuredUsers(identity).values(), ...fromFile];
}

export function identityCalled(id: string, users: readonly LocalUser[]) {
  const user = users.find((candidate) => candidate.id === id);
  return user === undefined ? undefined : makeIdentity(user.id, user.username, { groups: user.groups });
}

function configuredUsers(identity: Config['identity']): Map<string, LocalUser> {
  const users = Object.entries(identity).map(([id, { username = id, password, groups }]) => ({ id, username, hash: password, groups }));
  return new Map(users.map((user) => [user.username, user]));
}

interface Sources {
  readonly sources: readonly PasswordSource[];
  readonly waste: () => Promise<unknown>;
  readonly users: () => LocalUser[];
  /** Belongs to somebody with a password that is kept here. */
  readonly isTaken: (name: string) => boolean;
}

function openSources(config: Config, onChange: () => void, warn: AccessParts['warn'], closers: (() => Promise<unknown> | void)[]): Sources {
  if (!config.access.hasIdentities) return { sources: [], waste: () => Promise.resolve(), users: () => [], isTaken: () => false };
  const pool = openPasswordPool();
  closers.push(() => pool.close());
  const verify = (password: string, hash: string) => pool.verify(password, hash);
  const configured = configuredUsers(config.identity);
  const sources = [openLocalUsers('identity', () => configured, verify)];
  const lists = [() => configured];
  const { htpasswd_file: file } = config.access;
  if (file !== undefined) {
    const onError = (error: unknown): void =>
      warn(`${file} (access.htpasswd_file) is not as it should be, so its last good state goes on`, error);
    const taken = idsOfOthers(config.identity);
    const onNew = (): void => {
      onChange();
      if (htpasswd.current.size === 0) warn(`${file} (access.htpasswd_file) has nobody in it any more`, undefined);
    };
    const htpasswd = watchFile(file, (text) => parseHtpasswd(text, taken), onNew, onError);
    closers.push(() => htpasswd.close());
    lists.push(() => htpasswd.current);
    sources.push(openLocalUsers('htpasswd', () => htpasswd.current, verify));
  }
  const waste = () => verify('nobody', hashOfNobody);
  const users = (): LocalUser[] => lists.flatMap((list) => [...list().values()]);
  const isTaken = (name: string): boolean => users().some(({ id, username }) => id === name || username === name);
  if (config.ldap !== undefined) {
    const ldap = openLdapUsers({ settings: config.ldap, isTaken, waste, warn });
    closers.push(() => ldap.close());
    sources.push(ldap);
  }
  return { sources, waste, users, isTaken };
}

/** Costs what our own hashes cost; no password has it. */
const hashOfNobody = '$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA';

async function openKeys({ access }: Config, store: BlobStore, onChange: () => void, warn: AccessParts['warn']): Promise<KeyRing> {
  const { key_file: file, secret, ownSecretFile, rotate_after: rotateAfterMs, refresh_lifetime: longestTokenMs } = access.token;
  const onError = (error: unknown): void => warn('the keys of tokens are not as they should be', error);
  if (file !== undefined) return openFileKeys(file, onChange, onError);
  return openStoreKeys({ store, secret: secret ?? readOwnSecret(ownSecretFile), rotateAfterMs, longestTokenMs, onChange, onError });
}
