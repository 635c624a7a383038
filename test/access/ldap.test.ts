// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Logging in with a directory's passwords, on the wire: a real slapd with a certificate of a private authority, behind StartTLS for one engine and LDAPS for the other. */
import t, { type Test } from 'tap';
import { addPerson, base, dnOf, searcher, type LdapServer } from '../support/ldap-server.js';
import { Attribute, Change } from 'ldapts';
import { startConfigured } from '../support/configured-node.js';
import { errorCode, HttpClient, jsonOf, type Answer } from '../support/http-client.js';
import { makePrivateAuthority } from '../support/private-authority.js';
import { digestOf, engines, imageOf, startWireNode, stopWireNode, types, until, type WireNode } from '../support/wire-suite.js';
import { directoryPasswords, ldapSettings, startDirectory } from './directory.js';
import { basic, bearer, hashOf } from './people.js';

const localPassword = 'local-ci-pass-8f8f';
const tokenSecret = 'secret-of-the-tokens-ldap-1';

interface TokenReply {
  readonly token: string;
  readonly scope: string;
  readonly refresh_token?: string;
}

t.jobs = 2;
const authority = await makePrivateAuthority();
for (const engine of engines) {
  void t.test(engine, { buffered: true }, async (t) => {
    const directory = await startDirectory(authority);
    if ('missing' in directory) return t.plan(0, directory.missing);
    t.teardown(() => directory.stop());
    const secure = engine === 'uws' ? ldapSettings([directory.url], { start_tls: true }) : ldapSettings([directory.secureUrl]);
    const node = await startWireNode(engine, {
      identity: { ci: { password: await hashOf(localPassword) } },
      access: { token: { secret: tokenSecret } },
      ldap: { ...secure, ca_file: authority.caFile },
      repository: [
        { namespace: 'foo/img/locked', policy_default_allow: true, policies: ['identity.id != "ci"'] },
        { namespace: 'mine', policies: ['identity.id == "jürgen"'] },
      ],
    });
    t.teardown(() => stopWireNode(node));
    await t.test('who may log in', (t) => logins(t, node));
    // Which is the same behind both engines, and each wrong name costs a hash.
    if (engine === 'uws') await t.test('what is written into a name changes no filter', (t) => injection(t, node));
    await t.test('groups, and what they may do', (t) => groups(t, node));
    await t.test('refresh tokens', (t) => refresh(t, node, directory));
    await t.test('a directory that is away', (t) => away(t, node, directory));
    await t.test('a directory that does not answer', (t) => frozen(t, node, directory));
    await t.test('no secret is in the log', (t) => {
      for (const secret of [...Object.values(directoryPasswords), searcher.password, localPassword, tokenSecret])
        t.notMatch(node.log(), secret);
      t.end();
    });
  });
}

void t.test('settings that change, and what is remembered', { buffered: true }, async (t) => {
  const directory = await startDirectory();
  if ('missing' in directory) return t.plan(0, directory.missing);
  t.teardown(() => directory.stop());
  const without = { identity: { ci: { password: await hashOf(localPassword) } }, access: { challenge: 'basic' } };
  const node = await startConfigured(t, 'uws', without);
  const client = new HttpClient(node.port);
  t.teardown(() => client.close());
  const status = async (name: string, password: string) => (await ping(client, name, password)).status;
  t.equal(await status('alice', directoryPasswords.alice), 401, 'nobody is called that');
  const ldap = ldapSettings([directory.url], { cache_ttl: '1h' });
  t.equal(await node.reload({ ...without, ldap }), 'taken');
  t.equal(await status('alice', directoryPasswords.alice), 200, 'a directory is asked from then on');
  await directory.stop();
  t.equal(await status('alice', directoryPasswords.alice), 200, 'a password that was right is remembered');
  t.equal(await status('alice', 'wrong'), 503, 'and no other');
  t.equal(await node.reload({ ...without, ldap }), 'taken');
  t.equal(await status('alice', directoryPasswords.alice), 200, 'also when the configuration is read again');
  t.equal(await node.reload({ ...without, ldap: { ...ldap, timeout: '2s' } }), 'taken');
  t.equal(await status('alice', directoryPasswords.alice), 503, 'but not of a directory with other settings');
  t.equal(await node.reload({ ...without, ldap: { ...ldap, bind_password: '' } }), 'refused');
  t.equal(await node.reload(without), 'taken');
  t.equal(await status('alice', directoryPasswords.alice), 401, 'but not without the directory');
});

function ping(client: HttpClient, name: string, password: string): Promise<Answer> {
  return client.send('GET', '/v2/', { headers: basic(name, password) });
}

function token(client: HttpClient, name: string, password: string, scope = ''): Promise<Answer> {
  const query = `service=ha-registry&offline_token=true${scope === '' ? '' : `&scope=${encodeURIComponent(scope)}`}`;
  return client.send('GET', `/token?${query}`, { headers: basic(name, password) });
}

function refreshed(client: HttpClient, refreshToken: string, scope: string): Promise<Answer> {
  return client.send('POST', '/token', {
    headers: { 'Content-Type': 'application/x-www-form-urlencoded' },
    body: new URLSearchParams({ grant_type: 'refresh_token', service: 'ha-registry', refresh_token: refreshToken, scope }).toString(),
  });
}

function claimsOf(answer: Answer): {
  readonly sub: string;
  readonly identity: { readonly username: string; readonly groups: readonly string[] };
} {
  const [, claims = ''] = jsonOf<TokenReply>(answer).token.split('.');
  return JSON.parse(Buffer.from(claims, 'base64url').toString()) as ReturnType<typeof claimsOf>;
}

async function logins(t: Test, { client, log }: WireNode): Promise<void> {
  for (const [name, password, status] of [
    ['alice', directoryPasswords.alice, 200],
    ['bob', directoryPasswords.bob, 200],
    ['jürgen', directoryPasswords['jürgen'], 200],
    ['alice@example.org', directoryPasswords.alice, 200],
    ['ci', localPassword, 200],
    ['alice', directoryPasswords.bob, 401],
    ['alice', '', 401],
    ['alice', '\0', 401],
    ['', directoryPasswords.alice, 401],
    ['nobody', directoryPasswords.alice, 401],
    ['nobody', '', 401],
    // Who is known here is not asked for elsewhere, and nobody elsewhere is taken for them.
    ['ci', directoryPasswords.ci, 401],
    ['ci@example.org', directoryPasswords.ci, 401],
    ['twins@example.org', directoryPasswords.twin1, 401],
    ['twin1', directoryPasswords.twin1, 200],
  ] as const) {
    const answer = await ping(client, name, password);
    t.equal(answer.status, status, `${name} with ${JSON.stringify(password)}`);
    if (status === 401) t.equal(errorCode(answer), 'UNAUTHORIZED');
  }
  for (const [name, password] of [
    ['alice', 'wrong'],
    ['alice', ''],
    ['nobody', 'wrong'],
  ] as const)
    t.equal((await token(client, name, password)).status, 401, `/token: ${name} with ${JSON.stringify(password)}`);
  for (const name of ['alice', 'ALICE', 'alice@example.org']) {
    const claims = claimsOf(await token(client, name, directoryPasswords.alice));
    t.match(
      claims,
      { sub: 'alice', identity: { username: 'alice', groups: ['Ops, all', 'dev'] } },
      `${name} is alice, as the directory spells it`,
    );
  }
  t.match(log(), /\\"twins@example.org\\" is the name of several entries/);
  t.match(log(), /uid=ci,[^ ]* cannot log in: \\"ci\\" is somebody else here/);
}

async function injection(t: Test, { client }: WireNode): Promise<void> {
  const names = [
    '*',
    'al*',
    '*)(uid=*',
    'alice)(uid=*',
    'alice)(|(uid=*',
    'alice))(|(uid=*',
    '\\2a',
    'al\\69ce',
    'x)(!(uid=x',
    '(uid=alice)',
    ',',
  ];
  for (const name of names) t.equal((await ping(client, name, directoryPasswords.alice)).status, 401, name);
  const post = await client.send('POST', '/token', {
    headers: { 'Content-Type': 'application/x-www-form-urlencoded' },
    body: new URLSearchParams({ grant_type: 'password', username: 'ali\0ce', password: directoryPasswords.alice }).toString(),
  });
  t.equal(post.status, 401, 'a name with a NUL');
}

async function groups(t: Test, { client }: WireNode): Promise<void> {
  const headers = basic('alice', directoryPasswords.alice);
  const put = (repository: string, who = headers) =>
    client.send('PUT', `/v2/${repository}/manifests/v1`, { headers: { ...who, 'Content-Type': types.manifest }, body: imageOf(['layer']) });
  for (const repository of ['foo/img/one', 'foo/img/locked'])
    for (const blob of ['{}', 'layer']) {
      const who = repository.endsWith('locked') ? basic('ci', localPassword) : headers;
      const answer = await client.send('POST', `/v2/${repository}/blobs/uploads/?digest=${digestOf(blob)}`, { headers: who, body: blob });
      t.equal(answer.status, 201);
    }
  t.equal((await put('foo/img/one')).status, 201, 'pushes');
  t.equal((await put('foo/img/locked', basic('ci', localPassword))).status, 201);
  t.equal((await client.send('GET', '/v2/foo/img/one/manifests/v1', { headers })).status, 200, 'and pulls');
  for (const repository of ['foo/img', 'foo/img/one/deeper', 'foo/other', 'mine', 'elsewhere', 'foo/img/locked'])
    t.equal((await client.send('GET', `/v2/${repository}/manifests/v1`, { headers })).status, 403, repository);
  t.equal((await client.send('DELETE', '/v2/foo/img/one/manifests/v1', { headers })).status, 403, 'but deletes nothing');
  const bob = basic('bob', directoryPasswords.bob);
  t.equal((await client.send('GET', '/v2/foo/img/one/manifests/v1', { headers: bob })).status, 403, 'who is in no group may nothing');
  t.equal(
    (await client.send('GET', '/v2/mine/manifests/v1', { headers: basic('jürgen', directoryPasswords['jürgen']) })).status,
    404,
    'policies hold, too',
  );

  const { repositories } = jsonOf<{ repositories: string[] }>(await client.send('GET', '/v2/_catalog', { headers }));
  t.strictSame(repositories, ['foo/img/one'], 'lists show what one may see');
  t.equal((await client.send('GET', '/v2/_catalog', { headers: bob })).status, 403);
  t.strictSame(jsonOf(await client.send('GET', '/v2/foo/img/one/tags/list', { headers })), { name: 'foo/img/one', tags: ['v1'] });

  const scopes = 'repository:foo/img/one:pull,push,delete repository:foo/other:pull registry:catalog:*';
  const reply = jsonOf<TokenReply>(await token(client, 'alice', directoryPasswords.alice, scopes));
  t.equal(reply.scope, 'repository:foo/img/one:pull,push registry:catalog:*', 'tokens are for what groups may do');
  t.equal((await client.send('GET', '/v2/foo/img/one/manifests/v1', { headers: bearer(reply.token) })).status, 200);

  const carol = basic('carol', directoryPasswords.carol);
  t.equal((await client.send('GET', '/metrics', { headers: carol })).status, 200, 'the group admin administrates');
  t.equal((await client.send('GET', '/metrics', { headers })).status, 403);
  const explained = await client.send('POST', '/api/v1/policy/explain', {
    headers: { ...carol, 'Content-Type': 'application/json' },
    body: JSON.stringify({ identity: 'alice', groups: ['dev'], action: 'put-manifest', name: 'foo/img/one:v1' }),
  });
  t.match(jsonOf(explained), { allowed: true, rule: 'ldap.groups[0]: dev may pull, push in foo/img/*' });
}

async function refresh(t: Test, { client }: WireNode, directory: LdapServer): Promise<void> {
  const scope = 'repository:foo/img/one:pull';
  const first = jsonOf<TokenReply>(await token(client, 'dave', directoryPasswords.dave, scope));
  const again = async () => refreshed(client, first.refresh_token ?? '', scope);
  t.equal(jsonOf<TokenReply>(await again()).scope, scope);
  const members = new Change({ operation: 'delete', modification: new Attribute({ type: 'member', values: [dnOf('dave')] }) });
  await directory.manage((manager) => manager.modify(`cn=dev,ou=groups,${base}`, members));
  t.equal(jsonOf<TokenReply>(await again()).scope, '', 'a new token has the groups of now');
  t.equal(
    (await client.send('GET', '/v2/foo/img/one/manifests/v1', { headers: bearer(first.token) })).status,
    200,
    'an old one those of then',
  );
  await directory.manage((manager) => manager.del(dnOf('dave')));
  t.equal((await again()).status, 401, 'whoever is gone gets nothing');
  await directory.manage((manager) => addPerson(manager, { uid: 'dave', password: directoryPasswords.dave }));
  t.equal((await token(client, 'dave', directoryPasswords.dave)).status, 200);
  t.equal((await again()).status, 401, 'who has the name later is somebody else');
}

async function unavailable(t: Test, answer: Answer, what: string): Promise<void> {
  t.strictSame([answer.status, errorCode(answer), answer.headers['retry-after']], [503, 'UNAVAILABLE', '5'], what);
}

async function away(t: Test, { client, log }: WireNode, directory: LdapServer): Promise<void> {
  const { refresh_token: refreshToken = '' } = jsonOf<TokenReply>(await token(client, 'alice', directoryPasswords.alice));
  await directory.stop();
  for (const password of [directoryPasswords.alice, 'wrong'])
    await unavailable(t, await ping(client, 'alice', password), 'nobody knows whether it is right');
  await unavailable(t, await token(client, 'alice', directoryPasswords.alice), '/token');
  await unavailable(t, await refreshed(client, refreshToken, ''), 'a refresh token');
  t.equal((await ping(client, 'ci', localPassword)).status, 200, 'who is known here logs in');
  t.equal((await ping(client, 'ci', 'wrong')).status, 401);
  t.equal((await ping(client, 'alice', '')).status, 401);
  await directory.start();
  await until('alice logs in again', async () => (await ping(client, 'alice', directoryPasswords.alice)).status === 200);
  t.equal((await refreshed(client, refreshToken, '')).status, 200);
  const told = (pattern: RegExp) =>
    log()
      .split('\n')
      .filter((line) => pattern.test(line)).length;
  t.equal(told(/cannot be asked/), 1, 'the log tells it once');
  t.equal(told(/answers again/), 1);
  t.match(log(), /ldap.urls\) cannot be asked.*ECONNREFUSED|ECONNREFUSED.*cannot be asked/, 'with the cause');
}

async function frozen(t: Test, { client }: WireNode, directory: LdapServer): Promise<void> {
  await directory.freeze();
  const order: string[] = [];
  const waiting = ping(client, 'alice', directoryPasswords.alice).then((answer) => {
    order.push('alice');
    return answer;
  });
  t.equal((await ping(client, 'ci', localPassword)).status, 200);
  order.push('ci');
  await unavailable(t, await waiting, 'whoever it has to be asked about');
  t.strictSame(order, ['ci', 'alice'], 'who is known here does not wait');
  directory.thaw();
  await until('alice logs in again', async () => (await ping(client, 'alice', directoryPasswords.alice)).status === 200);
}
