// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Who is in the directory of the tests, and what a registry has to be told of it. */
import { base, searcher, startLdapServer, type LdapServer } from '../support/ldap-server.js';
import type { PrivateAuthority } from '../support/private-authority.js';

/** Long and strange, so that a leak of it can be found in any log. */
export const directoryPasswords = {
  alice: 'alice-ldap-pass-9d01',
  bob: 'bob-ldap-pass-77aa',
  carol: 'carol-ldap-pass-c3c3',
  dave: 'dave-ldap-pass-5e5e',
  jürgen: 'jürgens-ldap-påss-0b1f',
  ci: 'other-ci-ldap-pass-4411',
  twin1: 'twins-ldap-pass-2222',
  twin2: 'twins-ldap-pass-2222',
} as const;

const mails: Readonly<Record<string, string>> = {
  alice: 'alice@example.org',
  ci: 'ci@example.org',
  twin1: 'twins@example.org',
  twin2: 'twins@example.org',
};

export function startDirectory(authority?: PrivateAuthority): Promise<LdapServer | { readonly missing: string }> {
  const people = Object.entries(directoryPasswords).map(([uid, password]) => ({
    uid,
    password,
    more: mails[uid] === undefined ? {} : { mail: mails[uid] },
  }));
  return startLdapServer(people, { dev: ['alice', 'jürgen', 'dave'], admin: ['carol'], 'Ops, all': ['alice'] }, authority);
}

export function ldapSettings(urls: readonly string[], more: object = {}) {
  return {
    urls,
    bind_dn: searcher.dn,
    bind_password: searcher.password,
    connect_timeout: '3s',
    timeout: '3s',
    cache_ttl: '0s',
    user_search: { base_dn: `ou=people,${base}`, filter: '(|(uid={username})(mail={username}))' },
    group_search: { base_dn: `ou=groups,${base}` },
    groups: [{ group: 'dev', repositories: ['foo/img/*'], actions: ['pull', 'push'] }],
    ...more,
  };
}
