// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** A directory of users without a node around it: connections, servers, filters, names and settings. */
import { createServer, connect, type AddressInfo, type Socket } from 'node:net';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t, { type Test } from 'tap';
import { makeIdentity } from '../../src/access/identity.js';
import { nameBelow } from '../../src/access/ldap/distinguished-name.js';
import { openLdapUsers, type LdapUsers } from '../../src/access/ldap/ldap-users.js';
import type { LdapSettings } from '../../src/access/ldap/ldap-settings.js';
import { compileFilter } from '../../src/access/ldap/search-filter.js';
import { parseAnswer } from '../../src/access/ldap/start-tls.js';
import { openPasswords } from '../../src/access/password/passwords.js';
import type { Login, PasswordSource } from '../../src/access/password/password-source.js';
import { ConfigurationError, loadConfig } from '../../src/config/config.js';
import { ldap as schema } from '../../src/config/ldap-schema.js';
import { RegistryError } from '../../src/oci/errors.js';
import { CommandFailed, run } from '../support/command.js';
import { base, type LdapServer } from '../support/ldap-server.js';
import { makePrivateAuthority } from '../support/private-authority.js';
import { freePort } from '../support/registry.js';
import { until } from '../support/wire-suite.js';
import { directoryPasswords, ldapSettings, startDirectory } from './directory.js';

interface Opened {
  readonly users: LdapUsers;
  /** What the log was told. */
  readonly told: string[];
  readonly logIn: (name: string, password?: string) => Promise<string>;
}

function open(t: Test, urls: readonly string[], more: object = {}, isTaken = (_id: string) => false): Opened {
  const told: string[] = [];
  const settings = schema.parse(ldapSettings(urls, more)) as LdapSettings;
  const warn = (message: string, error: unknown): void => {
    const causes: string[] = [];
    for (let cause = error; cause instanceof Error; cause = cause.cause) causes.push(cause.message);
    told.push([message, ...causes].join(': '));
  };
  const users = openLdapUsers({ settings, isTaken, waste: () => Promise.resolve(), warn });
  t.teardown(() => users.close());
  const logIn = async (name: string, password: string = directoryPasswords[name as 'alice']): Promise<string> => {
    try {
      const login = await users.logIn(name, password);
      return login === undefined ? 'nobody' : login === 'wrong' ? 'wrong' : login.identity.groups.join('|');
    } catch (error) {
      return error instanceof RegistryError ? `${error.status}` : String(error);
    }
  };
  return { users, told, logIn };
}

/** In front of a server: how many connections there are, and the end of all of them. */
async function openGate(t: Test, port: number) {
  const open = new Set<Socket>();
  const counts = { most: 0, ever: 0 };
  const server = createServer((client) => {
    const upstream = connect(port, '127.0.0.1');
    open.add(client);
    counts.ever++;
    counts.most = Math.max(counts.most, open.size);
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      socket.on('error', () => undefined).pipe(other);
      socket.on('close', () => {
        open.delete(client);
        other.destroy();
      });
    }
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const cut = (): void => {
    for (const socket of open) socket.destroy();
  };
  return { url: `ldap://127.0.0.1:${(server.address() as AddressInfo).port}`, counts, open, cut };
}

const authority = await makePrivateAuthority();

void t.test('with a directory', { buffered: true }, async (t) => {
  const directory = await startDirectory(authority);
  if ('missing' in directory) return t.plan(0, directory.missing);
  t.teardown(() => directory.stop());
  await t.test('certificates', (t) => certificates(t, directory));
  await t.test('what is wrong with the settings, or the directory', (t) => faults(t, directory));
  await t.test('several servers', (t) => failover(t, directory));
  await t.test('answers that come too late', (t) => lateAnswers(t, directory));
  await t.test('connections', (t) => connections(t, directory));
  await t.test('groups', (t) => groupNames(t, directory));
});

async function certificates(t: Test, { url, secureUrl }: LdapServer): Promise<void> {
  const other = await makePrivateAuthority();
  for (const [title, place, settings] of [
    ['LDAPS', secureUrl, {}],
    ['StartTLS', url, { start_tls: true }],
  ] as const) {
    const right = open(t, [place], { ...settings, ca_file: authority.caFile });
    t.equal(await right.logIn('alice'), 'Ops, all|dev', title);
    t.equal(await right.logIn('alice', 'wrong'), 'wrong');
    for (const [what, where, caFile] of [
      ['another authority', place, other.caFile],
      ['no authority that Node knows', place, undefined],
      ['the certificate of another name', place.replace('127.0.0.1', 'localhost'), authority.caFile],
    ] as const) {
      const wrong = open(t, [where], { ...settings, ...(caFile === undefined ? {} : { ca_file: caFile }) });
      t.equal(await wrong.logIn('alice'), '503', `${title}: ${what}`);
      t.match(wrong.told, [/cannot be asked: .*(certificate|Hostname)/i]);
    }
  }
}

async function faults(t: Test, { url }: LdapServer): Promise<void> {
  for (const [what, settings, message] of [
    ['the account is refused', { bind_password: 'not the password' }, /does not take the account \(ldap.bind_dn\)/],
    ['there is no such place', { user_search: { base_dn: `ou=nowhere,${base}` } }, /refuses a search \(ldap.user_search\)/],
    ['there is no such place for groups', { group_search: { base_dn: `ou=nowhere,${base}` } }, /refuses a search \(ldap.group_search\)/],
  ] as const) {
    const { logIn, told } = open(t, [url], settings);
    t.equal(await logIn('alice'), '503', what);
    t.equal(await logIn('alice'), '503');
    t.equal(told.length, 1, 'told once');
    t.match(told[0], message);
  }
  const nameless = open(t, [url], { user_search: { base_dn: `ou=people,${base}`, id_attribute: 'employeeNumber' } });
  t.equal(await nameless.logIn('alice'), 'wrong');
  t.match(nameless.told, [/"alice" has no employeeNumber/]);
  const taken = open(t, [url], {}, (id) => id === 'alice');
  t.equal(await taken.logIn('ALICE', directoryPasswords.alice), 'wrong', 'nobody is taken for somebody else');
  t.equal(await taken.users.find('ALICE'), undefined);
  const plain = createServer((socket) =>
    socket.on('data', () => socket.write(Buffer.from('300c02010178070a01020400040030', 'hex').subarray(0, 14))),
  ).listen(0);
  await once(plain, 'listening');
  t.teardown(() => plain.close());
  const refuses = open(t, [`ldap://127.0.0.1:${(plain.address() as AddressInfo).port}`], { start_tls: true });
  t.equal(await refuses.logIn('alice'), '503', 'a server without StartTLS is told no password');
  t.match(refuses.told, [/does not start TLS: result code 0x02/]);
}

async function failover(t: Test, directory: LdapServer): Promise<void> {
  const dead = `ldap://127.0.0.1:${await freePort()}`;
  const { logIn, told } = open(t, [dead, directory.url]);
  t.equal(await logIn('alice'), 'Ops, all|dev', 'the next one is asked');
  t.equal(await logIn('alice', 'wrong'), 'wrong');
  t.match(told, [/cannot be asked.*ECONNREFUSED/]);

  const second = await startDirectory();
  if ('missing' in second) throw new Error(second.missing);
  t.teardown(() => second.stop());
  const both = open(t, [second.url, directory.url], { timeout: '2s' });
  t.equal(await both.logIn('alice'), 'Ops, all|dev');
  await second.freeze();
  t.equal(await both.logIn('alice'), 'Ops, all|dev', 'also while it waits for one that does not answer');
  second.thaw();
  await second.stop();
  t.equal(await both.logIn('bob'), '');
}

/** In front of a server that says nothing any more where a password was shown that has this in it; or, where it is `dead` then, nothing to anybody. */
async function openLateGate(t: Test, port: number, late: string) {
  const state = { dead: false, isDeadAfter: false, binds: 0 };
  const server = createServer((client) => {
    const upstream = connect(port, '127.0.0.1');
    let isLate = false;
    for (const socket of [client, upstream]) socket.on('error', () => undefined);
    client.on('data', (bytes) => {
      if (bytes.includes(late)) {
        isLate = true;
        state.binds++;
        state.dead ||= state.isDeadAfter;
      }
      upstream.write(bytes);
    });
    upstream.on('data', (bytes) => void (isLate || state.dead || client.write(bytes)));
    client.on('close', () => upstream.destroy());
    upstream.on('close', () => client.destroy());
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  return { url: `ldap://127.0.0.1:${(server.address() as AddressInfo).port}`, state };
}

async function lateAnswers(t: Test, { port, url }: LdapServer): Promise<void> {
  const timeout = '3s';
  const [first, second] = [await openLateGate(t, port, 'late'), await openLateGate(t, port, 'late')];
  const { logIn, told } = open(t, [first.url, second.url], { timeout });
  for (const round of [1, 2]) t.equal(await logIn('alice', 'late and wrong'), '503', `nobody can tell (${round})`);
  t.strictSame([first.state.binds, second.state.binds], [2, 2], 'each server was asked');
  t.equal(await logIn('alice'), 'Ops, all|dev', 'others log in meanwhile');
  t.equal(await logIn('alice', 'wrong'), 'wrong');
  t.equal(told.length, 2, 'each server once');
  for (const line of told) t.match(line, /works, but said nothing of a password within ldap.timeout: .*timed out/);

  first.state.isDeadAfter = true;
  const dying = open(t, [first.url], { timeout });
  t.equal(await dying.logIn('alice', 'late and wrong'), '503');
  t.match(dying.told, [/cannot be asked: .*timed out/], 'one that answers nobody has failed');

  const hangs = await openLateGate(t, port, directoryPasswords.alice);
  const both = open(t, [hangs.url, url], { timeout });
  t.equal(await both.logIn('alice'), 'Ops, all|dev', 'right, says the other one');
  t.match(both.told, [/works, but said nothing/, /cannot be asked/], 'so it was the fault of the first');
}

async function connections(t: Test, { port }: LdapServer): Promise<void> {
  const gate = await openGate(t, port);
  const { logIn, told } = open(t, [gate.url], { pool_size: 2, idle_timeout: '2s' });
  const many = await Promise.all(
    Array.from({ length: 30 }, (_, index) => logIn('alice', index % 3 === 0 ? 'wrong' : directoryPasswords.alice)),
  );
  t.strictSame(
    many,
    many.map((_, index) => (index % 3 === 0 ? 'wrong' : 'Ops, all|dev')),
    'all have their own answer',
  );
  t.ok(gate.counts.most <= 4, `${gate.counts.most} connections: two to search, two for passwords`);
  t.ok(gate.counts.ever <= 4, 'which are used again');
  await until('idle connections are closed', () => gate.open.size === 0);
  t.equal(await logIn('alice'), 'Ops, all|dev');
  gate.cut();
  t.equal(await logIn('alice'), 'Ops, all|dev', 'broken ones are replaced');
  t.strictSame(told, [], 'which is no fault of the server');
}

async function groupNames(t: Test, { url }: LdapServer): Promise<void> {
  const without = { group_search: undefined, groups: [] };
  const memberOf = { member_of: { base_dn: `OU=Groups, ${base}` } };
  t.equal(await open(t, [url], { ...without, ...memberOf }).logIn('alice'), 'Ops, all|dev', 'by memberOf');
  t.equal(await open(t, [url], { ...without, member_of: { base_dn: `ou=people,${base}` } }).logIn('alice'), '', 'elsewhere there are none');
  t.equal(await open(t, [url], memberOf).logIn('carol'), 'admin', 'both ways');
  t.equal(await open(t, [url], without).logIn('alice'), '');
}

void t.test('names of groups', (t) => {
  for (const [dn, name] of [
    ['cn=dev,ou=groups,dc=example,dc=org', 'dev'],
    ['CN=Dev Ops, OU=Groups, DC=Example, DC=org', 'Dev Ops'],
    ['cn=a\\, b\\2c c,ou=sub,ou=groups,dc=example,dc=org', 'a, b, c'],
    ['cn=j\\c3\\bcrgen,ou=groups,dc=example,dc=org', 'jürgen'],
    ['cn=dev,ou=people,dc=example,dc=org', undefined],
    ['cn=dev,ou=groups,dc=example,dc=com', undefined],
    ['cn=admin\\,ou=groups\\,dc=example\\,dc=org', undefined],
    ['cn=dev\\,ou=groups,dc=example,dc=org', undefined],
    ['ou=groups,dc=example,dc=org', undefined],
    ['', undefined],
  ] as const)
    t.equal(nameBelow(dn, 'ou=groups,dc=example,dc=org'), name, dn);
  t.end();
});

void t.test('filters', (t) => {
  const fill = compileFilter('(&(objectClass=person)(|(uid={username})(cn=a{username}*)))', ['username']);
  for (const name of ['alice', '*', '*)(uid=*', ')', '(', '\\', '\\2a', '$&', '{username}', 'jürgen', '\0', '&', ''])
    t.match(fill({ username: name }), {
      filters: [
        { attribute: 'objectClass' },
        {
          filters: [
            { attribute: 'uid', value: name },
            { attribute: 'cn', initial: `a${name}`, final: '' },
          ],
        },
      ],
    });
  const dn = 'cn=a\\, b (c)*,dc=example';
  t.match(compileFilter('(member={dn})', ['dn', 'username'])({ dn }), { attribute: 'member', value: dn });
  for (const template of [
    'uid={username}',
    '(&(objectCategory=person)(objectClass=user)(sAMAccountName={username})(!(userAccountControl:1.2.840.113556.1.4.803:=2)))',
    '(&(objectClass=inetOrgPerson)(uid={username})(!(pwdAccountLockedTime=000001010000Z)))',
  ])
    t.doesNotThrow(() => compileFilter(template, ['username']), template);
  const nested = compileFilter('(member:1.2.840.113556.1.4.1941:={dn})', ['dn', 'username']);
  t.match(nested({ dn }), { matchType: 'member', rule: '1.2.840.113556.1.4.1941', value: dn });
  for (const [template, message] of [
    ['(uid=x)', /with \{username\}/],
    ['(uid={name}{username})', /\{name\} is not known: there is \{username\}/],
    ['({username}=x)', /behind a =/],
    ['(&(uid={username})(member:{username}:=x))', /behind a =/],
    ['(uid={username}', /parenthesis is not closed/],
    ['(&(uid={username})', /parenthesis is not closed/],
    ['', /with \{username\}/],
  ] as const)
    t.throws(() => compileFilter(template, ['username']), { message }, template);
  t.end();
});

void t.test('the answer to StartTLS', (t) => {
  const started = '300c02010178070a010004000400';
  for (const [hex, expected] of [
    [started, 'started'],
    ['3084000000100201017884000000070a010004000400', 'started'],
    [started.slice(0, 10), 'incomplete'],
    ['', 'incomplete'],
    ['300c02010178070a010204000400', 'result code 0x02'],
    // What comes along in clear would be taken for what the server says later.
    [`${started}300c0201026107`, 'there is more than an answer'],
    ['300c02010161070a010004000400', 'the answer is not understood'],
    ['3084000000100201017884000000070a010004000400'.slice(0, -2), 'incomplete'],
    ['160301', 'incomplete'],
    ['31020500', 'the answer is not understood'],
    ['30ff', 'incomplete'],
    ['30ff'.padEnd(10_000, '0'), 'the answer is too long'],
  ] as const)
    t.equal(parseAnswer(Buffer.from(hex, 'hex')), expected, hex.slice(0, 40));
  t.end();
});

void t.test('what is remembered of a login', async (t) => {
  let now = 0;
  let asked = 0;
  const login: Login = { identity: makeIdentity('alice', 'alice'), stamp: 's', rememberMs: 1_000 };
  const source: PasswordSource = {
    name: 'ldap',
    logIn: (_name, password) => {
      asked++;
      return Promise.resolve(password === 'right' ? login : 'wrong');
    },
    find: () => Promise.resolve(undefined),
    recall: (_name, remembered) => remembered,
  };
  const passwords = openPasswords([source], { waste: () => Promise.resolve(), now: () => now });
  await Promise.all([1, 2, 3, 4].map(() => passwords.logIn('alice', 'right')));
  t.equal(asked, 1, 'equal logins at the same time are one');
  now = 999;
  t.match(await passwords.logIn('alice', 'right'), { source: 'ldap' });
  t.equal(asked, 1);
  now = 1_000;
  await passwords.logIn('alice', 'right');
  t.equal(asked, 2, 'as long as the source says');
  for (const expected of [3, 4]) {
    t.equal(await passwords.logIn('alice', 'wrong'), 'wrong password');
    t.equal(asked, expected, 'nothing of a wrong password');
  }
});

void t.test('settings', async (t) => {
  const directory = await mkdtemp(path.join(tmpdir(), 'ha-registry-ldap-settings-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const file = path.join(directory, 'registry.yaml');
  const users = 'user_search: { base_dn: "ou=people,dc=example" }';
  const load = async (...lines: string[]) => {
    await writeFile(file, ['ldap:', ...lines.map((line) => `  ${line}`)].join('\n'));
    try {
      return loadConfig(file);
    } catch (error) {
      if (error instanceof ConfigurationError) return error.message.replace(`${file}:`, '');
      throw error;
    }
  };
  const notACertificate = path.join(directory, 'none.pem');
  await writeFile(notACertificate, 'nothing');
  for (const [message, ...lines] of [
    [/^2: ldap.urls.0: passwords would be sent in clear/, 'urls: [ldap://directory.example]', users],
    [/^3: ldap.urls.1: passwords would be sent in clear/, 'urls:\n    [ldaps://one.example, ldap://10.0.0.1]', users],
    [/^2: ldap.urls.0: ldaps:\/\/ is TLS from its beginning/, 'urls: ldaps://directory.example', 'start_tls: true', users],
    [/^2: ldap.urls.0: expected ldap:/, 'urls: [https://directory.example]', users],
    [/^2: ldap.urls.0: expected ldap:/, 'urls: [ldap://user@localhost]', users],
    [/^1: ldap.urls: /, users],
    [/^1: ldap.user_search: /, 'urls: ldap://localhost'],
    [
      /^3: ldap.user_search.filter: no filter \(RFC 4515\): expected a filter with \{username\}/,
      'urls: ldap://localhost',
      'user_search: { base_dn: "dc=example", filter: (uid=x) }',
    ],
    [/^3: ldap.user_search.base_dn: expected a distinguished name/, 'urls: ldap://localhost', 'user_search: { base_dn: people }'],
    [/^3: ldap.user_search.scope: /, 'urls: ldap://localhost', 'user_search: { base_dn: "dc=example", scope: all }'],
    [/^4: ldap.bind_dn: .* belong together/, 'urls: ldap://localhost', users, 'bind_dn: cn=x'],
    [/^4: ldap.bind_password: .* belong together/, 'urls: ldap://localhost', users, 'bind_password: x'],
    [/^5: ldap.bind_password: expected a password/, 'urls: ldap://localhost', users, 'bind_dn: cn=x', 'bind_password: ""'],
    [/^4: ldap.ca_file: .*there is no certificate in it/, 'urls: ldap://localhost', users, `ca_file: ${notACertificate}`],
    [/^4: ldap.timeout: expected 100ms to 1m/, 'urls: ldap://localhost', users, 'timeout: 5m'],
    [
      /^4: ldap.groups: nothing tells who is in a group/,
      'urls: ldap://localhost',
      users,
      'groups: [{ group: dev, repositories: x, actions: pull }]',
    ],
    [
      /^4: ldap.groups.0.actions.0: /,
      'urls: ldap://localhost',
      users,
      'groups: [{ group: dev, repositories: x, actions: admin }]',
      'member_of: { base_dn: dc=example }',
    ],
    [
      /^4: ldap.groups.0.repositories.0: expected a name/,
      'urls: ldap://localhost',
      users,
      'groups: [{ group: dev, repositories: "A B", actions: pull }]',
      'member_of: { base_dn: dc=example }',
    ],
    [/^4: ldap.user_filter: unknown setting/, 'urls: ldap://localhost', users, 'user_filter: x'],
  ] as const)
    t.match(await load(...lines), message);
  t.notMatch(
    await load('urls: ldap://localhost', users, 'bind_dn: cn=x', 'bind_password: [secret-x7]'),
    'secret-x7',
    'secrets are not repeated',
  );
  t.type(await load('urls: [ldap://localhost, "ldap://[::1]:1389", ldaps://directory.example]', users), 'object');
  t.match(await load('urls: ldap://directory.example', 'start_tls: true', users), { access: { hasIdentities: true } });
  t.match(await load('urls: ldap://directory.example', 'allow_plaintext: true', users), {
    ldap: { account: undefined, cache_ttl: 30_000 },
  });

  await load('urls: ldap://directory.example', users);
  const main = path.resolve(import.meta.dirname, '../../dist/main.js');
  const failed: unknown = await run(process.execPath, [main, 'serve', '--config', file]).catch((error: unknown) => error);
  t.ok(failed instanceof CommandFailed);
  t.match(failed, { outcome: 'exit 2', result: { stderr: /registry.yaml:2: ldap.urls.0: passwords would be sent in clear/ } });
});
