// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Keys of issuers, patterns of claims and what is remembered of tokens, without a node around them. */
import { createServer, type RequestListener } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { readFile, writeFile } from 'node:fs/promises';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { exportJWK, generateKeyPair, type JWK } from 'jose';
import t, { type Test } from 'tap';
import { makeIdentity } from '../../src/access/identity.js';
import { parseKeySet } from '../../src/access/token/key-set.js';
import { rememberTokens } from '../../src/access/token/remember-tokens.js';
import { claimPattern } from '../../src/access/workload/claim-pattern.js';
import { openClaimRules } from '../../src/access/workload/claim-rules.js';
import { fetchDocument } from '../../src/access/workload/fetch-document.js';
import { openPublishedKeys, type KeyEvents } from '../../src/access/workload/issuer-keys.js';
import { SharedKeys } from '../../src/access/workload/shared-keys.js';
import { openWorkloads, type WorkloadIssuer } from '../../src/access/workload/workloads.js';
import { ConfigurationError, loadConfig } from '../../src/config/config.js';
import { RegistryError } from '../../src/oci/errors.js';
import { TestIssuer } from '../support/issuer.js';
import { makePrivateAuthority } from '../support/private-authority.js';
import { temporaryDirectory } from '../support/registry.js';
import { audience, githubClaims, gitlabClaims, kubernetesClaims } from './workload-claims.js';

const second = 1_000;
const hour = 3_600 * second;

async function publicKey(kid: string): Promise<JWK> {
  const { publicKey: key } = await generateKeyPair('ES256', { extractable: true });
  return { ...(await exportJWK(key)), kid, alg: 'ES256' };
}

const [one, two] = [await publicKey('one'), await publicKey('two')];

/** Keys whose issuer does what the test says, and whose clock the test moves. */
function openStage() {
  const events: string[] = [];
  const stage = {
    now: 1_000 * hour,
    asked: 0,
    publish: (): Promise<readonly JWK[]> => Promise.resolve([one]),
    events,
  };
  const load = () => {
    stage.asked++;
    return stage.publish();
  };
  const keys = openPublishedKeys(
    load,
    { onChange: () => events.push('change'), onError: (error) => events.push((error as Error).message) },
    () => stage.now,
  );
  const find = async (kid: string): Promise<string> => {
    try {
      await keys.find({ alg: 'ES256', kid }, { payload: '', signature: '' });
      return 'found';
    } catch (error) {
      return error instanceof RegistryError ? `${error.code} ${error.headers['Retry-After']}` : (error as { code: string }).code;
    }
  };
  return { stage, keys, find };
}

const unknown = 'ERR_JWKS_NO_MATCHING_KEY';
const unavailable = 'UNAVAILABLE 5';
const gone = (): Promise<never> => Promise.reject(new Error('gone'));

void t.test('published keys', async (t) => {
  const { stage, keys, find } = openStage();
  t.strictSame(await Promise.all([find('one'), find('one'), find('one')]), ['found', 'found', 'found']);
  t.equal(stage.asked, 1, 'asked once at the start, by all together');
  stage.now += hour - second;
  await find('one');
  t.equal(stage.asked, 1, 'young keys are not asked for again');
  stage.publish = () => Promise.resolve([one, two]);
  stage.now += 2 * second;
  t.equal(await find('one'), 'found');
  t.equal(stage.asked, 2, 'old ones are');
  t.equal(await find('two'), 'found');
  t.strictSame([stage.asked, stage.events], [2, ['change']]);

  const many = await Promise.all(Array.from({ length: 100 }, (_, index) => find(`invented-${index}`)));
  t.ok(many.every((one) => one === unknown));
  t.equal(stage.asked, 3, 'a fetch is shared');
  for (let index = 0; index < 50; index++) t.equal(await find(`again-${index}`), unknown);
  t.ok(stage.asked <= 8, `names that are invented are looked for a few times only: ${stage.asked}`);
  const before = stage.asked;
  stage.now += 5 * second;
  await find('x');
  await find('y');
  t.equal(stage.asked, before + 1, 'and then once in a while');
  keys.close();
});

void t.test('an issuer that goes away', async (t) => {
  const { stage, keys, find } = openStage();
  t.equal(await find('one'), 'found');
  stage.publish = gone;
  stage.now += 20 * hour;
  t.equal(await find('one'), 'found', 'what was known goes on');
  t.equal(await find('two'), unavailable, 'of what was not, nobody can tell');
  t.equal(await find('three'), unavailable);
  t.strictSame(stage.events, ['gone'], 'it is told once');
  stage.now += 5 * hour;
  t.equal(await find('one'), unavailable, 'but not for ever');
  stage.publish = () => Promise.resolve([two]);
  stage.now += 10 * second;
  t.strictSame([await find('two'), await find('one')], ['found', unknown], 'it is back');
  t.strictSame(stage.events, ['gone', 'change']);
  stage.publish = gone;
  stage.now += 30 * hour;
  await find('two');
  t.strictSame(stage.events, ['gone', 'change', 'gone'], 'the next time it is told again');
  keys.close();
});

void t.test('an issuer that is slow', async (t) => {
  const { stage, keys, find } = openStage();
  t.equal(await find('one'), 'found');
  const answer: { give?: (keys: readonly JWK[]) => void } = {};
  stage.publish = () => new Promise((resolve) => (answer.give = resolve));
  stage.now += 2 * hour;
  t.equal(await find('one'), 'found', 'nobody waits for what is only old');
  const waiting = [find('two'), find('two')];
  t.equal(stage.asked, 2, 'and who must waits for the same answer');
  answer.give?.([two]);
  t.strictSame(await Promise.all(waiting), ['found', 'found']);
  keys.close();
});

void t.test('keys that two configurations share', (t) => {
  const shared = new SharedKeys();
  const events: string[] = [];
  let closed = 0;
  const told: KeyEvents[] = [];
  const make = (all: KeyEvents) => {
    told.push(all);
    return { find: () => Promise.reject(new Error('never asked')), close: () => void closed++ };
  };
  const listen = (name: string) => ({ onChange: () => events.push(name), onError: () => events.push(`${name} failed`) });
  const before = shared.open('x', listen('before'), make);
  const after = shared.open('x', listen('after'), make);
  t.equal(told.length, 1, 'opened once');
  told[0]?.onChange();
  told[0]?.onError(new Error('away'));
  t.strictSame(events.splice(0), ['before', 'after', 'before failed'], 'both hear of changes, and a failure is told once');
  before.close();
  told[0]?.onChange();
  t.strictSame([events, closed], [['after'], 0]);
  after.close();
  t.equal(closed, 1, 'the last one ends them');
  shared.open('x', listen('later'), make).close();
  t.strictSame([told.length, closed], [2, 2], 'and who comes later has new ones');
  t.end();
});

const set = (...keys: readonly unknown[]) => JSON.stringify({ keys });

void t.test('sets of keys', async (t) => {
  const { privateKey } = await generateKeyPair('ES256', { extractable: true });
  const secret = { kty: 'oct', k: 'c2VjcmV0', kid: 'secret' };
  t.strictSame(parseKeySet(set(secret, one, { ...two, use: 'enc' }, await exportJWK(privateKey), { kty: 'EC', crv: 'P-256', x: 'x' }, 5)), [
    one,
  ]);
  for (const text of [set(secret), set(), '{}', '[]', 'null', 'x', '{"keys":5}'])
    t.throws(() => parseKeySet(text), { name: /Error/ }, text);
});

void t.test('patterns', (t) => {
  for (const [pattern, text, expected] of [
    ['org/app', 'org/app', true],
    ['org/app', 'org/app2', false],
    ['org/*', 'org/app', true],
    ['org/*', 'org/', false],
    ['org/*', 'org/app/more', false],
    ['org/**', 'org/app/more', true],
    ['org/*', 'other/org/app', false],
    ['*', 'app', true],
    ['*', '', false],
    ['**', 'a/b:c', true],
    ['*/app', 'org/app', true],
    ['refs/heads/release-*', 'refs/heads/release-1.2', true],
    ['refs/heads/*', 'refs/heads/feature/x', false],
    ['repo:org/*:ref:refs/heads/main', 'repo:org/app:ref:refs/heads/main', true],
    ['repo:org/*:ref:refs/heads/main', 'repo:org/app:environment:x:ref:refs/heads/main', false],
    ['system:serviceaccount:*:builder', 'system:serviceaccount:ci:builder', true],
    ['a.c', 'abc', false],
    ['org/App', 'org/app', false],
    ['ä*', 'äö', true],
    ['*', '𝒳', true],
  ] as const)
    t.equal(claimPattern(pattern)(text), expected, `${pattern} and ${text}`);
  t.equal(claimPattern('*a*a*a*a*a*a*a*a*b')('a'.repeat(2_000)), false, 'time grows with the length and no faster');
  t.equal(claimPattern('**')('a'.repeat(5_000)), false, 'nobody means such a claim');
  t.end();
});

const rules = (claims: Record<string, string[]>, more: object = {}) =>
  openClaimRules({ name: 'n', id_claim: 'sub', rules: [{ claims, groups: ['g'] }], ...more });

void t.test('rules', (t) => {
  const kubernetes = kubernetesClaims('ci', 'builder');
  t.match(rules({ '/kubernetes.io/serviceaccount/name': ['builder'] })(kubernetes), {
    id: 'n:system:serviceaccount:ci:builder',
    username: 'n:system:serviceaccount:ci:builder',
    groups: ['g'],
    claims: { 'kubernetes.io': { namespace: 'ci' } },
  });
  t.equal(rules({ '/kubernetes.io/namespace': ['prod'] })(kubernetes), undefined);
  t.equal(rules({ 'kubernetes.io': ['**'] })(kubernetes), undefined, 'a map is no text');
  t.ok(rules({ aud: [audience] })(kubernetes), 'an element of a list');
  t.ok(rules({ runner_id: ['1'] })(gitlabClaims()), 'a number');
  t.equal(rules({ '/constructor/name': ['**'] })(kubernetes), undefined, 'what no token says is no claim');
  t.equal(rules({ nothing: ['**'] })(kubernetes), undefined);
  t.equal(rules({ sub: ['**'] }, { id_claim: 'groups_direct' })(gitlabClaims()), undefined, 'a list is no name');
  for (const sub of ['', 'a\nb', 'x'.repeat(1_025), undefined, { a: 1 }])
    t.equal(rules({ repository: ['org/app'] })({ ...githubClaims(), sub }), undefined, 'no name');
  t.strictSame(rules({ sub: ['**'] }, { groups_claim: 'groups_direct' })(gitlabClaims())?.groups, ['g', 'n:group/ops', 'n:admin']);
  const all = openClaimRules({
    name: 'n',
    id_claim: '/kubernetes.io/pod/name',
    rules: [
      { claims: { sub: ['**'] }, groups: ['a', 'b'] },
      { claims: { aud: ['else'] }, groups: ['c'] },
      { claims: { iat: ['5'] }, groups: ['b', 'd'] },
    ],
  });
  t.match(all({ ...kubernetes, iat: 5 }), { id: 'n:build-5d4c', groups: ['a', 'b', 'd'] }, 'the groups of all rules that are met');
  t.end();
});

void t.test('what is remembered', async (t) => {
  let now = 0;
  let checked = 0;
  const authenticated = { identity: makeIdentity('a', 'a'), grants: undefined, source: 'test' };
  const tokens = rememberTokens(
    (token) => {
      checked++;
      return token === 'bad' ? Promise.reject(new Error('bad')) : Promise.resolve({ authenticated, untilMs: now + 100 });
    },
    () => now,
  );
  t.equal(await tokens.verify('a'), authenticated);
  t.equal(tokens.verify('a'), authenticated, 'at once');
  now += 100;
  t.ok(tokens.verify('a') instanceof Promise, 'until it is to be checked again');
  const before = checked;
  await t.rejects(Promise.resolve(tokens.verify('bad')));
  await t.rejects(Promise.resolve(tokens.verify('bad')));
  t.equal(checked, before + 2, 'what is bad is not remembered');
  await tokens.verify('a');
  const pending = tokens.verify('b');
  tokens.forget();
  await pending;
  t.ok(tokens.verify('a') instanceof Promise && tokens.verify('b') instanceof Promise, 'all is forgotten, also what was being checked');
  const long = 'x'.repeat(9 * 1024 * 1024);
  await tokens.verify(long);
  await tokens.verify(`${long}y`);
  t.ok(tokens.verify(long) instanceof Promise, 'there is an end to memory');
});

async function serve(t: Test, listener: RequestListener): Promise<string> {
  const server = createServer(listener).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

void t.test('documents', async (t) => {
  const { signal } = new AbortController();
  let elsewhere = 0;
  const url = await serve(t, (request, response) => {
    if (request.url === '/away') response.writeHead(302, { Location: '/good' }).end();
    else if (request.url === '/large') response.end('x'.repeat(1024 * 1024 + 1));
    else if (request.url === '/hangs') elsewhere++;
    else if (request.url === '/good') response.end(`good ${request.headers.authorization}`);
    else response.writeHead(500).end();
  });
  t.equal(await fetchDocument(`${url}/good`, { signal }), 'good undefined');
  await t.rejects(fetchDocument(`${url}/away`, { signal }), /answered 302/, 'a redirect is not followed');
  await t.rejects(fetchDocument(`${url}/large`, { signal }), /more than/);
  await t.rejects(fetchDocument(`${url}/else`, { signal }), /answered 500/);
  for (const bad of [
    'http://192.0.2.1/',
    'http://registry.example/',
    'http://127.0.0.1.example/',
    'ftp://127.0.0.1/',
    'file:///etc/passwd',
    'x',
  ])
    await t.rejects(fetchDocument(bad, { signal }), /neither https nor on this machine/, bad);
  const closing = new AbortController();
  const hanging = fetchDocument(`${url}/hangs`, { signal: closing.signal });
  closing.abort();
  await t.rejects(hanging, { name: 'AbortError' });
  t.equal(elsewhere, 0);

  const { caFile, certificateFile, keyFile } = await makePrivateAuthority();
  const secure = createTlsServer({ cert: await readFile(certificateFile), key: await readFile(keyFile) }, (request, response) =>
    response.end(request.headers.authorization),
  ).listen(0, '127.0.0.1');
  await once(secure, 'listening');
  t.teardown(() => secure.close());
  const bearerTokenFile = path.join(await temporaryDirectory('bearer-'), 'token');
  await writeFile(bearerTokenFile, 'abc\n');
  const address = `https://127.0.0.1:${(secure.address() as AddressInfo).port}/`;
  t.equal(
    await fetchDocument(address, { caFile, bearerTokenFile, signal }),
    'Bearer abc',
    'a private authority, and a token that is asked for',
  );
  await t.rejects(fetchDocument(address, { bearerTokenFile, signal }), /certificate/, 'an authority that nobody knows');
});

function issuerOf(more: Partial<WorkloadIssuer> & Pick<WorkloadIssuer, 'name' | 'issuer'>): WorkloadIssuer {
  return { audience: [audience], algorithms: ['RS256'], id_claim: 'sub', rules: [{ claims: { sub: ['**'] }, groups: [] }], ...more };
}

void t.test('discovery', async (t) => {
  const published = new Map<string, unknown>();
  const seen: string[] = [];
  const listener: RequestListener = (request, response) => {
    seen.push(`${request.url} ${request.headers.authorization}`);
    response.end(JSON.stringify(published.get(request.url ?? '')));
  };
  const [url, other] = [await serve(t, listener), await serve(t, listener)];
  const directory = await temporaryDirectory('discovery-');
  const bearerFile = path.join(directory, 'token');
  await writeFile(bearerFile, 'abc');
  const outcome = async (document: unknown): Promise<string> => {
    published.set('/realms/a/.well-known/openid-configuration', document).set('/keys', { keys: [one] });
    const told: string[] = [];
    const settings = issuerOf({ name: 'n', issuer: `${url}/realms/a`, bearer_token_file: bearerFile });
    const workloads = openWorkloads([settings], {
      onChange: () => undefined,
      warn: (_message, error) => told.push((error as Error).message),
      shared: new SharedKeys(),
    });
    const header = Buffer.from('{"alg":"RS256","kid":"one"}').toString('base64url');
    await workloads.check(`${url}/realms/a`, `${header}.e30.AAAA`).catch((error: unknown) => told.push((error as Error).name));
    workloads.close();
    return told.join(', ');
  };
  const issuer = `${url}/realms/a`;
  t.equal(await outcome({ issuer, jwks_uri: `${url}/keys` }), 'Error', 'the keys are there, and none of them signed this');
  t.strictSame([...new Set(seen.splice(0))], ['/realms/a/.well-known/openid-configuration Bearer abc', '/keys Bearer abc']);
  t.equal(await outcome({ issuer, jwks_uri: `${other}/keys` }), 'Error', 'keys may be elsewhere');
  t.equal(seen.splice(0).at(-1), '/keys undefined', 'where nothing is shown that was meant for the issuer');
  for (const document of [{ issuer: url, jwks_uri: `${url}/keys` }, { issuer }, null, 5])
    t.match(await outcome(document), /another issuer.*RegistryError/, JSON.stringify(document));
  t.match(await outcome({ issuer, jwks_uri: 'http://192.0.2.1/keys' }), /neither https nor on this machine, RegistryError/);
  t.match(await outcome({ issuer, jwks_uri: `${url}/none` }), /JSON.*RegistryError/);
});

void t.test('two issuers of one address', async (t) => {
  const [first, second] = [await TestIssuer.start(), await TestIssuer.start()];
  t.teardown(() => Promise.all([first.stop(), second.stop()]));
  const issuer = 'https://kubernetes.default.svc';
  const settings = [first, second].map(({ url, jwksPath }, index) =>
    issuerOf({ name: `cluster-${index}`, issuer, jwks_uri: url + jwksPath }),
  );
  const workloads = openWorkloads(settings, { onChange: () => undefined, warn: () => undefined, shared: new SharedKeys() });
  t.teardown(() => workloads.close());
  const idOf = async (from: TestIssuer) =>
    (await workloads.check(issuer, await from.sign(kubernetesClaims('a', 'b', { iss: issuer })))).authenticated.identity.id;
  t.equal(await idOf(first), 'cluster-0:system:serviceaccount:a:b');
  t.equal(await idOf(second), 'cluster-1:system:serviceaccount:a:b');
  await second.stop();
  await second.rotate();
  await t.rejects(idOf(second), { code: 'UNAVAILABLE' }, 'one of them cannot tell');
  t.equal(await idOf(first), 'cluster-0:system:serviceaccount:a:b');
});

const oidc = (more: string, base = 'name: n, issuer: "https://i.example", audience: a, rules: [{claims: {sub: a}}]') =>
  `oidc:\n  - {${base}${more === '' ? '' : `, ${more}`}}\n`;

void t.test('settings', async (t) => {
  const directory = await temporaryDirectory('settings-');
  const file = (name: string): string => path.join(directory, name);
  await writeFile(file('good.json'), JSON.stringify({ keys: [one] }));
  await writeFile(file('secret.json'), '{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}');
  const load = async (yaml: string) => {
    await writeFile(file('registry.yaml'), yaml);
    return loadConfig(file('registry.yaml'));
  };
  const good = await load(oidc(`jwks_file: ${file('good.json')}`));
  t.match(good.oidc[0], { audience: ['a'], id_claim: 'sub', rules: [{ claims: { sub: ['a'] }, groups: [] }] });
  t.ok(good.access.hasIdentities);
  t.notOk(good.oidc[0]?.algorithms.some((one) => /^(none|HS)/.test(one)));
  t.strictSame(
    (await load(oidc('', 'name: n, issuer: "http://localhost:1", audience: [a, b], rules: [{claims: {a: [1, true]}}]'))).oidc[0]?.rules[0]
      ?.claims,
    {
      a: ['1', 'true'],
    },
  );
  const external = 'realm: "https://a.example/token", service: s, issuer: i';
  const settings = (more: string, base = external) => `access:\n  token:\n    external: {${base}${more === '' ? '' : `, ${more}`}}\n`;
  t.ok((await load(settings(`jwks: ${file('good.json')}`))).access.hasIdentities);
  for (const [what, yaml, line, key] of [
    ['a shared secret', oidc('algorithms: [HS256]'), 2, 'oidc.0.algorithms.0'],
    ['no algorithm', oidc('algorithms: [none]'), 2, 'oidc.0.algorithms.0'],
    ['no rules', oidc('', 'name: n, issuer: "https://i.example", audience: a'), 2, 'oidc.0.rules'],
    ['an empty rule', oidc('', 'name: n, issuer: "https://i.example", audience: a, rules: [{claims: {}}]'), 2, 'oidc.0.rules.0.claims'],
    ['no audience', oidc('', 'name: n, issuer: "https://i.example", rules: [{claims: {sub: a}}]'), 2, 'oidc.0.audience'],
    ['plain HTTP', oidc('jwks_uri: "http://i.example/keys"'), 2, 'oidc.0.jwks_uri'],
    [
      'a name with a colon',
      oidc('', 'name: "a:b", issuer: "https://i.example", audience: a, rules: [{claims: {sub: a}}]'),
      2,
      'oidc.0.name',
    ],
    ['a name twice', oidc('') + oidc('').replace('oidc:\n', ''), 3, 'oidc.1.name'],
    ['keys of two places', oidc(`jwks_uri: "https://i.example/k", jwks_file: ${file('good.json')}`), 2, 'oidc.0.jwks_file'],
    ['a file of secrets', oidc(`jwks_file: ${file('secret.json')}`), 2, 'oidc.0.jwks_file'],
    ['a file that is not there', oidc('ca_file: /none'), 2, 'oidc.0.ca_file'],
    ['an issuer without keys', settings(''), 3, 'access.token.external'],
    ['a realm that is not absolute', settings(`jwks: ${file('good.json')}`, 'realm: /token, service: s, issuer: i'), 3, 'external.realm'],
    ['a quote', settings(`jwks: ${file('good.json')}`, `realm: 'https://a.example/"x', service: s, issuer: i`), 3, 'external.realm'],
    [
      'what no header may have',
      settings(`jwks: ${file('good.json')}`, `realm: 'https://a.example/', service: реестр, issuer: i`),
      3,
      'external.service',
    ],
    ['a set that is no bundle', settings(`rootcertbundle: ${file('good.json')}`), 3, 'external.rootcertbundle'],
    ['passwords only', `${settings(`jwks: ${file('good.json')}`)}  challenge: basic\n`, undefined, 'access.token.external'],
  ] as const) {
    const error = await load(yaml).then(
      () => new Error('was taken'),
      (thrown: Error) => thrown,
    );
    t.ok(error instanceof ConfigurationError && error.message.includes(key), `${what}: ${error.message}`);
    if (line !== undefined) t.ok(error.message.startsWith(`${file('registry.yaml')}:${line}: `), 'its line');
  }
});

void t.test('the example of the README is good', async (t) => {
  const readme = await readFile(path.resolve(import.meta.dirname, '../../README.md'), 'utf8');
  const [, example = ''] = /### Workloads\n[^]*?```yaml\n([^]*?)```/.exec(readme) ?? [];
  const directory = await temporaryDirectory('readme-');
  const keys = path.join(directory, 'keys.json');
  await writeFile(keys, set(one));
  const file = path.join(directory, 'registry.yaml');
  await writeFile(file, example.replace('/etc/ha-registry/cluster.json', keys));
  const { oidc } = loadConfig(file);
  const idOf = (index: number, claims: object) => openClaimRules(oidc[index] as WorkloadIssuer)({ ...claims })?.id;
  const github = { repository_owner: 'acme', repository: 'acme/app' };
  t.equal(idOf(0, githubClaims(github)), 'github:repo:org/app:ref:refs/heads/main');
  t.strictSame(openClaimRules(oidc[0] as WorkloadIssuer)(githubClaims(github))?.groups, ['publish']);
  t.equal(idOf(0, githubClaims()), undefined);
  t.equal(idOf(1, gitlabClaims({ namespace_path: 'acme/sub', project_path: 'acme/sub/app' })), 'gitlab:acme/sub/app');
  t.equal(idOf(2, kubernetesClaims('ci', 'builder')), 'kubernetes:system:serviceaccount:ci:builder');
});
