// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What groups of a directory may do (`ldap.groups`), alone and beside policies. */
import t from 'tap';
import type { Action } from '../../src/access/actions.js';
import { makeIdentity } from '../../src/access/identity.js';
import { openAuthorizer, type NamespaceRules } from '../../src/access/policy/authorize.js';
import type { GroupGrant } from '../../src/access/policy/group-grants.js';

const namespace = (name: string, allow: boolean, ...policies: string[]): NamespaceRules => ({
  namespace: name,
  policy_default_allow: allow,
  policies,
});

const rulesOf = (groups: readonly GroupGrant[], repository: readonly NamespaceRules[] = []) =>
  openAuthorizer({ groups, repository, admin: ['"admin" in identity.groups'], openToAll: false, hasIdentities: true }, () => undefined);

const ask = (action: Action, name: string, reference: string | undefined = '') =>
  ({ action, namespace: name, reference, digest: reference, ip: '192.0.2.7', method: 'GET' }) as const;

void t.test('what groups may do', (t) => {
  const grants: readonly GroupGrant[] = [
    { group: 'dev', repositories: ['foo/img/*'], actions: ['pull', 'push'] },
    { group: 'ops', repositories: ['foo/**', 'free/x'], actions: ['get-manifest', 'delete'] },
  ];
  const dev = makeIdentity('dora', 'dora', { groups: ['dev'] });
  const ops = makeIdentity('otto', 'otto', { groups: ['ops'] });
  const none = makeIdentity('nina', 'nina');
  const first = 'ldap.groups[0]: dev may pull, push in foo/img/*';
  const alone = rulesOf(grants);
  const beside = rulesOf(grants, [
    namespace('foo/img', false, 'identity.id == "nina"', 'identity.claims.nothing == "x"'),
    namespace('foo/img/locked', true, 'request.action == "get-manifest"'),
  ]);
  for (const [rules, identity, action, name, outcome, rule] of [
    [alone, dev, 'get-manifest', 'foo/img/a', 'allowed', first],
    [alone, dev, 'list-tags', 'foo/img/a', 'allowed', first],
    [alone, dev, 'list-catalog', 'foo/img/a', 'allowed', first],
    [alone, dev, 'mount-blob', 'foo/img/a', 'allowed', first],
    [alone, dev, 'delete-manifest', 'foo/img/a', 'denied', 'ldap.groups: none allows it'],
    [alone, dev, 'get-manifest', 'foo/img/a/b', 'denied', 'ldap.groups: none allows it'],
    [alone, dev, 'get-manifest', 'foo/img', 'denied', 'ldap.groups: none allows it'],
    [alone, dev, 'get-manifest', 'xfoo/img/a', 'denied', 'ldap.groups: none allows it'],
    [alone, dev, 'admin', 'foo/img/a', 'denied', 'access.admin: none is true'],
    [alone, ops, 'get-manifest', 'foo/img/a/b', 'allowed', /^ldap\.groups\[1\]/],
    [alone, ops, 'get-blob', 'foo/img/a/b', 'denied', 'ldap.groups: none allows it'],
    [alone, ops, 'delete-blob', 'free/x', 'allowed', /^ldap\.groups\[1\]/],
    [alone, none, 'get-manifest', 'foo/img/a', 'denied', 'ldap.groups: none allows it'],
    [beside, none, 'get-manifest', 'foo/img/a', 'allowed', /^repository\[0\]\.policies\[0\]/],
    [beside, dev, 'get-manifest', 'foo/img/a', 'allowed', first],
    [beside, ops, 'get-manifest', 'elsewhere', 'denied', 'repository: no namespace covers it'],
    [beside, dev, 'get-manifest', 'foo/img/locked', 'denied', /^repository\[1\]\.policies\[0\]/],
    [beside, dev, 'get-blob', 'foo/img/locked', 'allowed', 'repository[1].policy_default_allow: true'],
  ] as const) {
    const decision = rules.decide(identity, ask(action, name));
    t.match(decision, { outcome, rule }, `${identity.id}: ${action} ${name}`);
    t.match(rules.decide(identity, ask(action, name)), decision, 'also when it is remembered');
  }
  t.equal(alone.decide(dev, ask('get-manifest', 'foo/img/a', undefined)).outcome, 'allowed', 'whatever the tag');
  const anywhere = (identity: typeof dev) => alone.decideAnywhere(identity, { action: 'list-catalog', ip: '', method: 'GET' }).outcome;
  t.strictSame([dev, ops, none].map(anywhere), ['allowed', 'denied', 'denied']);
  t.end();
});
