// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Policies, and the keys and scopes of tokens, without a node around them. */
import { execFileSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t, { type Test } from 'tap';
import type { Action } from '../../src/access/actions.js';
import { openAuthorizer, type NamespaceRules } from '../../src/access/policy/authorize.js';
import type { GroupGrant } from '../../src/access/policy/group-grants.js';
import { anonymous, makeIdentity, type Identity } from '../../src/access/identity.js';
import { idsOfOthers, openLocalUsers, parseHtpasswd, type LocalUser } from '../../src/access/password/local-users.js';
import { faultOfHash } from '../../src/access/password/password-hash.js';
import type { PasswordSource } from '../../src/access/password/password-source.js';
import { openPasswords, RememberedPasswords, type Passwords } from '../../src/access/password/passwords.js';
import { compilePolicy, PolicyFault, type PolicyRequest } from '../../src/access/policy/policy.js';
import { openRevocations } from '../../src/access/token/revocations.js';
import { covers, parseScopes } from '../../src/access/token/scopes.js';
import { openStoreKeys } from '../../src/access/token/store-keys.js';
import { rememberTokens } from '../../src/access/token/remember-tokens.js';
import type { KeyRing } from '../../src/access/token/signing-key.js';
import { openTokens } from '../../src/access/token/tokens.js';
import { ConfigurationError, loadConfig } from '../../src/config/config.js';
import { memoryStore } from './memory-store.js';

const ci = makeIdentity('ci', 'robot', {
  groups: ['dev', 'ops'],
  claims: { repository: 'org/app', run: 7, nested: { list: ['a'] } },
  certificate: { common_names: ['host.example'], organizations: ['Example'] },
});

function request(action: Action, namespace: string, more: Partial<PolicyRequest> = {}): PolicyRequest {
  return { action, namespace, reference: '', digest: '', ip: '192.0.2.7', method: 'GET', ...more };
}

void t.test('expressions', (t) => {
  const asked = request('get-manifest', 'team/app', { reference: 'v1.2', digest: 'sha256:ab' });
  for (const [expression, expected] of [
    ['identity.id == "ci" && identity.username == "robot"', true],
    ['"dev" in identity.groups', true],
    ['identity.groups.exists(g, g.startsWith("o"))', true],
    ['identity.certificate.common_names[0] == "host.example" && "Example" in identity.certificate.organizations', true],
    ['request.action in ["get-manifest", "get-blob"]', true],
    ['request.namespace.startsWith("team/") && request.reference.matches("^v[0-9.]+$")', true],
    ['request.digest == "sha256:ab" && request.ip == "192.0.2.7" && request.method == "GET"', true],
    ['identity.claims.repository == "org/app" && identity.claims.run == 7 && "a" in identity.claims.nested.list', true],
    ['has(identity.claims.nothing) && identity.claims.nothing == "x"', false],
    ['size(identity.groups) > 2', false],
    // An expression that takes a backtracking engine for ever is a matter of microseconds.
    ['request.namespace.matches("^(([a-z])+.)+[A-Z]([a-z])+$")', false],
  ] as const) {
    t.equal(compilePolicy(expression).evaluate(ci, asked), expected, expression);
  }
  const nobody =
    'identity.id == "" && identity.username == "" && identity.groups == [] && identity.claims == {} && identity.certificate.common_names == [] && identity.certificate.organizations == []';
  t.equal(compilePolicy(nobody).evaluate(anonymous, asked), true, 'every variable always exists');
  t.ok(compilePolicy('identity.claims.nothing == "x"').evaluate(ci, asked) instanceof Error, 'a claim that is not there is an error');
  t.end();
});

/** Of one policy, in turn. */
function decisions(policy: string, asked: readonly Partial<PolicyRequest>[]): string[] {
  const rules = {
    repository: [{ namespace: '', policy_default_allow: false, policies: [policy] }],
    admin: [],
    openToAll: false,
    hasIdentities: true,
  };
  const authorizer = openAuthorizer(rules, () => undefined);
  return asked.map((more) => authorizer.decide(ci, request('get-manifest', 'team', more)).outcome);
}

void t.test('what an expression depends on', (t) => {
  const all = ['action', 'digest', 'ip', 'method', 'namespace', 'reference'];
  for (const [expression, expected] of [
    ['identity.id == "ci"', []],
    ['request.action == "get-blob" && request . ip != ""', ['action', 'ip']],
    ['request.reference.matches("^v") || request.digest != "" || request.method == "GET"', ['digest', 'method', 'reference']],
    ['request["ip"] == ""', all],
    ['[request].exists(r, r.ip == "")', all],
    ['request // whose part follows\n.ip == ""', ['ip']],
    ['identity.id == "request.digest"', []],
    ['["request"].exists(request, request == "")', all],
  ] as const) {
    t.strictSame([...compilePolicy(expression).mentions].toSorted(), expected, expression);
  }
  for (const [policy, right, wrong] of [
    ['request.reference == "v1"', { reference: 'v1' }, { reference: 'v2' }],
    ['request.digest == "a"', { digest: 'a' }, { digest: 'b' }],
    ['request.ip == "192.0.2.1"', { ip: '192.0.2.1' }, { ip: '192.0.2.2' }],
    ['request.method == "HEAD"', { method: 'HEAD' }, { method: 'GET' }],
    ['request.namespace == "team"', { namespace: 'team' }, { namespace: 'teams' }],
    ['request.action == "get-blob"', { action: 'get-blob' }, { action: 'get-manifest' }],
  ] as const) {
    t.strictSame(decisions(policy, [right, wrong, right]), ['allowed', 'denied', 'allowed'], `what is remembered for ${policy}`);
  }
  const claim = 'identity.claims.nothing == "x"';
  t.strictSame(
    decisions(claim, [{ reference: undefined }, {}, { reference: undefined }]),
    ['unsure', 'denied', 'unsure'],
    'what is not known yet',
  );
  t.end();
});

void t.test('expressions that cannot work', (t) => {
  for (const [expression, offset, message] of [
    ['identity.id = "ci"', 12, /found =/],
    ['identity.name == "ci"', 8, /there is no name here, only id, username/],
    ['identity.id == "ci" || user == "x"', 23, /user is not known/],
    ['identity.id == 5', 12, /never the same/],
    ['identity.id in "ci"', 12, /does not take/],
    [
      'request.action == "get-manifets"',
      18,
      /"get-manifets" fits no action: there are get-api-version, put-blob, get-blob, .*list-tags, admin$/,
    ],
    ['identity.id == "" || "pull" != request.action', 21, /"pull" fits no action/],
    ['request.action in ["get-blob", "get_manifest"]', 31, /"get_manifest" fits no action/],
    ['identity.groups.exists(g, g == "x" && request.action.startsWith("git-"))', 64, /"git-" fits no action/],
    ['5 in identity.groups', 1, /never in a list/],
    ['identity.groups.startsWith("a")', 15, /does not take/],
    ['identity.id.beginsWith("a")', 11, /no function beginsWith/],
    ['identity.id', 8, /true or false, not a string/],
    ['identity.id && true', 0, /true or false is needed/],
    ['identity.groups.exists(g, g == 1)', 27, /never the same/],
    ['request.action[0] == "g"', 14, /no elements/],
    ['', 0, /./],
  ] as const) {
    try {
      compilePolicy(expression);
      t.fail(`${expression}: was taken`);
    } catch (error) {
      t.ok(error instanceof PolicyFault, String(error));
      t.match((error as Error).message, message);
      t.equal((error as PolicyFault).offset, offset, expression);
    }
  }
  t.end();
});

interface RuleSettings {
  readonly repository?: readonly NamespaceRules[];
  readonly groups?: readonly GroupGrant[];
  readonly openToAll?: boolean;
  readonly hasIdentities?: boolean;
}

function rulesOf({ repository = [], groups = [], openToAll = false, hasIdentities = true }: RuleSettings, errors: string[] = []) {
  const rules = { repository, groups, admin: ['"admin" in identity.groups'], openToAll, hasIdentities };
  return openAuthorizer(rules, (error, rule) => errors.push(`${rule}: ${error.message}`));
}

const namespace = (name: string, allow: boolean, ...policies: string[]): NamespaceRules => ({
  namespace: name,
  policy_default_allow: allow,
  policies,
});

void t.test('which policies, and in which order', (t) => {
  const errors: string[] = [];
  const rules = rulesOf(
    {
      repository: [
        namespace('team', false, 'identity.id == "ci"'),
        namespace('team/secret', false, 'identity.id == "boss"'),
        namespace('free', true, 'identity.id == ""', 'request.reference == "locked"'),
        namespace('broken', false, 'identity.claims.nothing == "x"', 'true'),
        namespace('broken/open', true, 'identity.claims.nothing == "x"'),
      ],
    },
    errors,
  );
  const outcome = (identity: Identity, name: string, more: Partial<PolicyRequest> = {}) =>
    rules.decide(identity, request('get-manifest', name, more));
  for (const [identity, name, expected, rule] of [
    [ci, 'team', 'allowed', 'repository[0].policies[0]: identity.id == "ci"'],
    [ci, 'team/app/x', 'allowed', 'repository[0].policies[0]: identity.id == "ci"'],
    [ci, 'teams', 'denied', 'repository: no namespace covers it'],
    [ci, 'team/secret/x', 'denied', 'repository[1].policy_default_allow: false'],
    [ci, 'free/x', 'allowed', 'repository[2].policy_default_allow: true'],
    [anonymous, 'free/x', 'denied', 'repository[2].policies[0]: identity.id == ""'],
    [anonymous, 'team', 'denied', 'repository[0].policy_default_allow: false'],
  ] as const) {
    t.strictSame(outcome(identity, name), { outcome: expected, rule }, `${identity.id} ${name}`);
  }
  t.equal(outcome(ci, 'free/x', { reference: 'locked' }).outcome, 'denied', 'the second policy denies');
  t.strictSame(errors, []);
  t.equal(outcome(ci, 'broken/x').outcome, 'denied', 'an error denies, whatever comes after it');
  t.equal(outcome(ci, 'broken/open').outcome, 'denied', 'also where the default allows');
  t.equal(errors.length, 2);
  t.match(errors[0], /^repository\[3\]\.policies\[0\].*nothing/, 'and is told');
  t.equal(outcome(ci, 'broken/x').outcome, 'denied');
  t.equal(errors.length, 2, 'once');
  const unknown = { reference: undefined, digest: undefined };
  t.equal(outcome(ci, 'free/x', unknown).outcome, 'unsure', 'what depends on a tag is not known without it');
  t.equal(outcome(anonymous, 'free/x', unknown).outcome, 'denied', 'unless it does not matter');
  t.equal(rules.decide(ci, request('admin', '')).outcome, 'denied');
  t.equal(rules.decide(makeIdentity('root', 'root', { groups: ['admin'] }), request('admin', '')).outcome, 'allowed');
  const asked = { action: 'list-catalog', ip: '192.0.2.7', method: 'GET' } as const;
  const somewhere = rulesOf({
    repository: [namespace('a', false, 'identity.id == "ci" && request.namespace == "a/b"'), namespace('b', true, 'true')],
  });
  t.equal(somewhere.decideAnywhere(ci, asked).outcome, 'unsure', 'there may be a repository for somebody');
  t.equal(somewhere.decideAnywhere(anonymous, asked).outcome, 'denied', 'and none for anybody else');
  t.end();
});

void t.test('without policies', (t) => {
  for (const [settings, identity, expected] of [
    [{}, ci, 'allowed'],
    [{}, anonymous, 'denied'],
    [{ openToAll: true }, anonymous, 'allowed'],
    [{ hasIdentities: false }, anonymous, 'allowed'],
    [{ hasIdentities: false, repository: [namespace('a', false)] }, anonymous, 'denied'],
    [{ openToAll: true, repository: [namespace('a', false)] }, anonymous, 'allowed'],
    [{ repository: [namespace('a', false)] }, ci, 'denied'],
  ] as const) {
    t.equal(rulesOf(settings).decide(identity, request('put-blob', 'x/y')).outcome, expected, `${identity.id} ${JSON.stringify(settings)}`);
  }
  t.end();
});

void t.test('scopes', (t) => {
  t.strictSame(
    parseScopes([
      'repository:a/b:pull,push repository:c:*',
      'registry:catalog:*',
      'repository(plugin):p:pull',
      'repository:BAD:pull',
      'nonsense',
      'repository:d:fly',
      'registry:other:*',
    ]),
    [
      { type: 'repository', name: 'a/b', verbs: ['pull', 'push'] },
      { type: 'repository', name: 'c', verbs: ['pull', 'push', 'delete'] },
      { type: 'registry', action: 'list-catalog' },
      { type: 'repository', name: 'p', verbs: ['pull'] },
      { type: 'repository', name: 'd', verbs: [] },
    ],
  );
  t.throws(() => parseScopes(['repository:a:pull '.repeat(101)]), /at most 100/);
  const grants = [{ type: 'repository', name: 'a', actions: ['pull'] }];
  t.ok(covers(grants, 'get-blob', 'a'));
  for (const [action, repository] of [
    ['get-blob', 'b'],
    ['put-blob', 'a'],
    ['delete-manifest', 'a'],
    ['list-catalog', undefined],
    ['admin', undefined],
  ] as const)
    t.notOk(covers(grants, action, repository), `${action} ${repository}`);
  t.end();
});

const day = 86_400_000;
const minute = 60_000;
/** Tokens are given, and what they open is remembered. */
function openBoth(keys: KeyRing, now: () => number) {
  const tokens = openTokens(keys, tokenSettings, now);
  return { ...tokens, ...rememberTokens(tokens.check, now) };
}

const tokenSettings = { service: 'registry', lifetimeMs: 5 * minute, refreshLifetimeMs: 30 * day };

void t.test('keys in the store', async (t) => {
  const store = memoryStore();
  let now = Date.now();
  const errors: unknown[] = [];
  const open = (secret: string) =>
    openStoreKeys({
      store,
      secret,
      rotateAfterMs: 30 * day,
      longestTokenMs: 30 * day,
      onChange: () => undefined,
      onError: (error) => errors.push(error),
      now: () => now,
    });
  const one = await open('a secret of the cluster');
  const two = await open('a secret of the cluster');
  t.equal(store.objects.size, 1, 'the second node takes what the first made');
  t.equal(one.current().id, two.current().id);
  for (const bytes of store.objects.values()) t.notMatch(Buffer.from(bytes).toString('latin1'), /PRIVATE|-----/, 'encrypted');
  const tokens = [openBoth(one, () => now), openBoth(two, () => now)] as const;
  const grants = [{ type: 'repository', name: 'a', actions: ['pull'] }];
  const { token } = await tokens[0].issue(ci, grants);
  const seen = await tokens[1].verify(token);
  const identity = { ...ci, certificate: anonymous.certificate };
  t.strictSame(seen, { identity, grants, source: 'token' }, 'another node knows who it is; a certificate is not told on');
  t.equal(tokens[1].verify(token), seen, 'and remembers it');

  const refresh = await tokens[0].issueRefresh({ id: 'ci', username: 'robot', source: 'identity', stamp: 's' });
  await t.rejects(async () => tokens[1].verify(refresh), { name: 'Error' }, 'a refresh token opens nothing');
  t.equal(await tokens[1].readRefresh(token), undefined, 'and the other is none');

  now += 31 * day - 4 * minute;
  await one.refresh();
  const old = two.current().id;
  t.equal(store.objects.size, 2, 'a key is old: there is another one');
  t.equal(one.current().id, old, 'which does not sign before all nodes have seen it');
  const { token: live } = await tokens[0].issue(ci, grants);
  now += 3 * minute;
  t.not(one.current().id, old, 'now it signs');
  t.ok(await tokens[1].verify(live), 'what the key before signed still counts');
  const { token: fresh } = await tokens[0].issue(ci, grants);
  t.ok(await tokens[1].verify(fresh), 'a node that has not looked yet looks when it sees it');
  now += 32 * day;
  await two.refresh();
  t.ok([...store.objects.keys()].length >= 2 && !(await two.find(old)), 'a key that no token can be of any more is dropped');

  const before = store.objects.size;
  const three = await open('a secret of somebody else');
  t.equal(errors.length, before, 'keys of another secret are told');
  t.equal(await three.find(one.current().id), undefined, 'and do not count');
  for (const ring of [one, two, three]) ring.close();
});

function encode(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}

void t.test('tokens that are not valid', async (t) => {
  const store = memoryStore();
  let now = Date.now();
  const keys = await openStoreKeys({
    store,
    secret: 'x'.repeat(20),
    rotateAfterMs: day,
    longestTokenMs: day,
    onChange: () => undefined,
    onError: (error) => t.error(error),
    now: () => now,
  });
  const tokens = openBoth(keys, () => now);
  const { token } = await tokens.issue(ci, []);
  const refused = (text: string, what: string) => t.rejects(async () => tokens.verify(text), /not valid/, what);
  const [header = '', payload = '', signature = ''] = token.split('.');
  const decoded = JSON.parse(Buffer.from(payload, 'base64url').toString()) as object;
  await refused(`${encode({ alg: 'none', typ: 'JWT' })}.${payload}.`, 'no algorithm');
  await refused(`${encode({ alg: 'HS256', typ: 'JWT', kid: keys.current().id })}.${payload}.${signature}`, 'another algorithm');
  await refused(`${header}.${encode({ ...decoded, sub: 'admin' })}.${signature}`, 'tampered');
  await refused(`${header}.${payload}.${signature.slice(0, -4)}AAAA`, 'another signature');
  await refused('abc', 'no token');
  const other = openTokens(keys, { ...tokenSettings, service: 'elsewhere' }, () => now);
  await refused((await other.issue(ci, [])).token, 'for another audience');
  now += 60_000;
  const { token: early } = await tokens.issue(ci, []);
  now -= 60_000;
  await refused(early, 'not yet valid');
  t.ok(await tokens.verify(token));
  now += 6 * minute;
  await refused(token, 'expired, though it was seen before');
  await refused((await openTokens(keys, tokenSettings, () => now - 6 * minute).issue(ci, [])).token, 'expired');
  keys.close();
});

void t.test('revocations', async (t) => {
  const store = memoryStore();
  let now = 1_000_000;
  const open = () =>
    openRevocations(
      store,
      30 * day,
      (error) => t.error(error),
      () => now,
    );
  const [one, two] = [await open(), await open()];
  await one.revoke('ci');
  t.ok(await one.covers('ci', now - 1), 'what was given before');
  t.notOk(await one.covers('ci', now + 1_000), 'not what was given later');
  t.notOk(await one.covers('other', now - 1));
  now += 5_000;
  t.ok(await two.covers('ci', 999_000), 'another node sees it');
  now += 31 * day;
  await two.refresh();
  t.ok(await two.covers('ci', 999_000), 'also what was given for longer than it would be now');
  now += 370 * day;
  await two.refresh();
  t.equal(store.objects.size, 0, 'until there is nothing that it could stop');
  await store.put(`access/revoked/${String(now).padStart(15, '0')}-${Buffer.from('old').toString('hex')}`, new Uint8Array());
  now += 5_000;
  t.ok(await two.covers('old', 999_000), 'as an earlier version wrote it');
  await one.revoke('ä'.repeat(255));
  for (const key of store.objects.keys())
    t.ok(Math.max(...key.split('/').map((part) => Buffer.byteLength(part))) <= 255, 'a file can be called so');
  one.close();
  two.close();
});

void t.test('passwords are checked once', async (t) => {
  let now = 0;
  let checked = 0;
  let wasted = 0;
  const source = {
    name: 'test',
    logIn: async (username: string, password: string) => {
      if (username === 'nobody') return undefined;
      checked++;
      await Promise.resolve();
      return password === 'right' ? { identity: ci, stamp: '' } : ('wrong' as const);
    },
    find: () => Promise.resolve(undefined),
    recall: (_username: string, { source }: { readonly source: string }) => (source === 'test' ? { identity: ci, stamp: '' } : undefined),
  };
  const passwords = openPasswords([source, { ...source, name: 'second' }], { waste: () => Promise.resolve(wasted++), now: () => now });
  const all = await Promise.all(Array.from({ length: 6 }, () => passwords.logIn('ci', 'right')));
  t.strictSame([all.every((login) => typeof login !== 'string' && login.source === 'test'), checked], [true, 1], 'six at once');
  t.equal(await passwords.logIn('ci', 'wrong'), 'wrong password');
  t.equal(await passwords.logIn('ci', 'wrong'), 'wrong password');
  t.equal(checked, 3, 'a wrong one is not remembered, and no other source is asked');
  t.equal(await passwords.logIn('nobody', 'right'), 'unknown name');
  t.equal(wasted, 1, 'nobody takes as long as somebody');
  await passwords.logIn('ci', 'right');
  t.equal(checked, 3, 'a right one is');
  now += 3_600_000;
  await passwords.logIn('ci', 'right');
  t.equal(checked, 4, 'not for ever');
});

const user = (hash: string, groups: readonly string[] = []) => new Map([['ci', { id: 'ci', username: 'ci', hash, groups }]]);

void t.test('what is remembered of passwords outlives a configuration as far as it holds', async (t) => {
  const remembered = new RememberedPasswords();
  let checked = 0;
  const verify = (password: string, hash: string) => {
    checked++;
    return Promise.resolve(password === 'right' && hash.startsWith('hash'));
  };
  const none = new Map<string, never>();
  let file: ReadonlyMap<string, LocalUser> = none;
  const open = (configured: ReadonlyMap<string, LocalUser>, more: readonly PasswordSource[] = []) =>
    openPasswords([openLocalUsers('identity', () => configured, verify), openLocalUsers('htpasswd', () => file, verify), ...more], {
      waste: () => Promise.resolve(),
      remembered,
    });
  const asks = async (passwords: Passwords, expected: object | string, hashes: number, what: string) => {
    const before = checked;
    t.match(await passwords.logIn('ci', 'right'), expected, what);
    t.equal(checked - before, hashes, what);
  };
  await asks(open(user('hash 1')), { source: 'identity' }, 1, 'at first');
  await asks(open(user('hash 1', ['dev'])), { identity: { groups: ['dev'] } }, 0, 'the same hash, as somebody in another group');
  await asks(open(user('other')), 'wrong password', 1, 'another hash');
  file = user('hash 1');
  const fromFile = open(none);
  await asks(fromFile, { source: 'htpasswd' }, 1, 'from a file');
  file = user('hash 2');
  await asks(fromFile, { source: 'htpasswd' }, 1, 'which has changed');
  await asks(open(none), { source: 'htpasswd' }, 0, 'and then not');
  await asks(open(user('hash 2')), { source: 'identity' }, 1, 'whoever goes before is asked');
  file = none;
  await asks(open(none), 'unknown name', 0, 'gone');
  const asked: string[] = [];
  const directory = (under: string): PasswordSource => ({
    name: 'ldap',
    logIn: () => (asked.push(under), Promise.resolve({ identity: ci, stamp: '', under })),
    find: () => Promise.resolve(undefined),
    recall: (_name, login) => (login.source === 'ldap' && login.under === under ? login : undefined),
  });
  for (const under of ['a', 'a', 'b', 'b']) await asks(open(none, [directory(under)]), { source: 'ldap' }, 0, 'of a directory');
  t.strictSame(asked, ['a', 'b'], 'as long as its settings are the same');
});

const argon2 = (costs: string, salt = 'c2FsdHNhbHQ') => `$argon2id$v=19$${costs}$${salt}$aGFzaGhhc2g`;

void t.test('htpasswd', (t) => {
  const bcrypt = `$2y$05$${'a'.repeat(53)}`;
  const users = parseHtpasswd(`# people\n\nalice:${bcrypt}\r\nbob:$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g\n`);
  t.strictSame([...users.keys()], ['alice', 'bob']);
  for (const [line, text] of [
    [1, 'alice:secret\n'],
    [2, `alice:${bcrypt}\nbob:$apr1$x$y\n`],
    [1, 'nothing\n'],
    [1, 'alice:$argon2id$v=19$m=4194304,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g\n'],
  ] as const)
    t.throws(() => parseHtpasswd(text), new RegExp(`line ${line}\\b`), text.trim());
  for (const [hash, fault] of [
    [argon2('m=19456,t=2,p=1'), undefined],
    [argon2('m=262144,t=4,p=4'), undefined],
    [argon2('m=1048577,t=1,p=1'), /m \(KiB\) is to be 8 .* to 1048576/],
    [argon2('m=15,t=1,p=2'), /m \(KiB\) is to be 16/],
    [argon2('m=0,t=1,p=1'), /m \(KiB\)/],
    [argon2('m=65536,t=17,p=1'), /t \(passes\) is to be 1 to 16 with this m/],
    [argon2('m=8,t=0,p=1'), /t \(passes\)/],
    [argon2('m=65536,t=1,p=0'), /p \(lanes\)/],
    [argon2('m=65536,t=1,p=65'), /p \(lanes\)/],
    [argon2('m=99999999999,t=1,p=1'), /expected a bcrypt or argon2 hash/],
    [argon2('m=8,t=1,p=1', 'c2FsdA'), /salt/],
    [bcrypt, undefined],
    [bcrypt.replace('$05$', '$16$'), undefined],
    [bcrypt.replace('$05$', '$17$'), /bcrypt's cost is to be 4 to 16/],
    [bcrypt.replace('$05$', '$03$'), /bcrypt's cost/],
  ] as const)
    t.match(faultOfHash(hash) ?? 'good', fault ?? 'good', hash);
  const ids = idsOfOthers({ robot: { username: 'ci' }, alice: {}, bob: { username: 'bob' } });
  t.throws(() => parseHtpasswd(`alice:${bcrypt}\nrobot:${bcrypt}\n`, ids), /line 2 .* id of an identity/, 'nobody becomes another');
  t.strictSame([...parseHtpasswd(`alice:${bcrypt}\nbob:${bcrypt}\nci:${bcrypt}\n`, ids).keys()], ['alice', 'bob', 'ci']);
  t.end();
});

void t.test('configuration', async (t) => {
  const directory = await mkdtemp(path.join(tmpdir(), 'access-'));
  t.teardown(() => rm(directory, { recursive: true }));
  await configuration(t, directory);
});

function policiesOf(text: string): string {
  return `repository:\n  - namespace: team\n    policies:\n${text}`;
}

async function configuration(t: Test, directory: string): Promise<void> {
  const file = path.join(directory, 'registry.yaml');
  const load = async (yaml: string) => {
    await writeFile(file, yaml);
    return loadConfig(file);
  };
  const hash = '$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g';
  await writeFile(path.join(directory, 'htpasswd'), 'alice:plain\n');
  await writeFile(path.join(directory, 'others'), `alice:${hash}\nci:${hash}\n`);
  const ci = `identity:\n  ci:\n    username: robot\n    password: '${hash}'\n`;
  execFileSync('mkfifo', [path.join(directory, 'pipe')]);
  for (const [what, yaml, place, message] of [
    ['a plain expression', policiesOf('      - identity.id == 5\n'), '4:21', 'repository.0.policies.0'],
    ['in quotes', policiesOf(`      - 'identity.id == ''x'' && foo'\n`), '4:34', 'foo is not known'],
    ['in double quotes', policiesOf('      - "identity.id == \\"x\\" && foo"\n'), '4:34', 'foo is not known'],
    ['over two lines', policiesOf('      - identity.id == "x" &&\n        foo\n'), '5:9', 'foo is not known'],
    ['as a block', policiesOf('      - |\n        true &&\n        identity.nam == "x"\n'), '6:17', 'there is no nam here'],
    ['a syntax', policiesOf('      - "true"\n      - identity.id = 1\n'), '5:21', 'repository.0.policies.1'],
    ['who administrates', 'access:\n  admin:\n    - nobody\n', '3:7', 'access.admin.0'],
    ['a namespace twice', `${policiesOf('      []\n')}  - namespace: team\n`, '5', 'repository.1.namespace'],
    ['a namespace that is none', 'repository:\n  - namespace: Team\n', '2', 'repository.0.namespace'],
    ['a password', 'identity:\n  ci:\n    password: hunter2\n', '3', 'identity.ci.password'],
    ['a pipe of passwords', `access:\n  htpasswd_file: ${directory}/pipe\n`, '2', 'is not a regular file'],
    ['a file of passwords', `access:\n  htpasswd_file: ${directory}/htpasswd\n`, '2', 'line 1'],
    ['a user name twice', `${ci}  robot:\n    password: '${hash}'\n`, '5', 'identity.robot.username'],
    ["a file with an identity's id", `${ci}access:\n  htpasswd_file: ${directory}/others\n`, '6', 'line 2'],
    ['a file of keys', `access:\n  token:\n    key_file: ${file}\n`, '3', 'no private key'],
    ['a short secret', 'access:\n  token:\n    secret: hunter2\n', '3', 'access.token.secret'],
    ['a lifetime below what clients take', 'access:\n  token:\n    lifetime: 59s\n', '3', 'access.token.lifetime'],
  ] as const) {
    const error = (await load(yaml).then(
      () => undefined,
      (reason: unknown) => reason,
    )) as Error | undefined;
    t.ok(error instanceof ConfigurationError, `${what}: ${error?.message ?? 'was taken'}`);
    t.ok(error?.message.startsWith(`${file}:${place}: `), `${what}: ${place}`);
    t.match(error?.message, message);
    t.notMatch(error?.message, /hunter2|\n/);
  }
  const identity = `identity:\n  ci:\n    password: '${hash}'\n`;
  const everywhere = 'server:\n  bind_address: 0.0.0.0\n';
  await t.rejects(load(everywhere), /access\.anonymous/, 'beyond loopback without anybody to be');
  await t.rejects(load(everywhere + policiesOf('      - "true"\n')), /access\.anonymous/, 'policies alone are nobody');
  t.ok(await load(everywhere + identity), 'with an identity');
  const database = 'database:\n  url: postgres://db/x\n';
  await t.rejects(load(identity + database), /access\.token\.secret/, 'nodes need a secret in common');
  t.ok(await load(`${identity}${database}access:\n  challenge: basic\n`), 'unless there are no tokens');
  t.ok(await load(`${identity}${database}access:\n  token:\n    secret: 0123456789abcdef\n`));
}
