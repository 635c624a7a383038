// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Workloads on the wire: tokens of GitHub Actions, GitLab CI and Kubernetes, in the place of a password and as they are. */
import { createHmac, type KeyObject } from 'node:crypto';
import { rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { JWTPayload } from 'jose';
import t, { type Test } from 'tap';
import { startConfigured } from '../support/configured-node.js';
import { errorCode, HttpClient, jsonOf, type Answer } from '../support/http-client.js';
import { TestIssuer } from '../support/issuer.js';
import { temporaryDirectory } from '../support/registry.js';
import { digestOf, engines, startWireNode, stopWireNode, until, type Engine, type WireNode } from '../support/wire-suite.js';
import { basic, bearer, hashOf, secretsOf } from './people.js';
import { audience, githubClaims, gitlabClaims, kubernetesClaims } from './workload-claims.js';

const clusterIssuer = 'https://kubernetes.default.svc.cluster.local';

interface Stage extends WireNode {
  readonly github: TestIssuer;
  readonly gitlab: TestIssuer;
  readonly cluster: TestIssuer;
  readonly away: TestIssuer;
  readonly keyFile: string;
}

async function startStage(engine: Engine): Promise<Stage> {
  const [github, gitlab, cluster, away] = await Promise.all([
    TestIssuer.start(),
    TestIssuer.start({ jwksPath: '/oauth/discovery/keys' }),
    TestIssuer.start({ algorithm: 'ES256' }),
    TestIssuer.start(),
  ]);
  await away.stop();
  const directory = await temporaryDirectory('workloads-');
  const keyFile = path.join(directory, 'cluster.json');
  await writeFile(keyFile, cluster.jwks());
  const bearerFile = path.join(directory, 'bearer');
  await writeFile(bearerFile, 'token-of-the-node\n');
  const node = await startWireNode(engine, {
    identity: { writer: { password: await hashOf('writer-pass-8812') } },
    access: { token: { secret: 'secret-of-the-tokens-91c2' } },
    oidc: [
      {
        name: 'github',
        issuer: github.url,
        audience,
        rules: [
          { claims: { repository_owner: 'org', repository: 'org/*' } },
          { claims: { repository: ['org/app', 'org/web'], ref: 'refs/heads/main', event_name: 'push' }, groups: ['publish'] },
        ],
      },
      {
        name: 'gitlab',
        issuer: gitlab.url,
        audience: ['another.example', audience],
        jwks_uri: gitlab.url + gitlab.jwksPath,
        bearer_token_file: bearerFile,
        algorithms: ['RS256', 'ES256'],
        id_claim: 'project_path',
        groups_claim: 'groups_direct',
        rules: [{ claims: { namespace_path: 'group', ref_protected: true } }],
      },
      {
        name: 'kubernetes',
        issuer: clusterIssuer,
        audience,
        jwks_file: keyFile,
        rules: [{ claims: { '/kubernetes.io/namespace': 'ci', sub: 'system:serviceaccount:ci:*' } }],
      },
      { name: 'away', issuer: away.url, audience, rules: [{ claims: { sub: '**' } }] },
    ],
    repository: [
      {
        namespace: 'org',
        policies: [
          'identity.id == "writer"',
          '"publish" in identity.groups && has(identity.claims.repository) && identity.claims.repository == request.namespace',
          'has(identity.claims.repository_owner) && identity.claims.repository_owner == "org" && request.action.startsWith("get-")',
        ],
      },
      { namespace: 'group', policies: ['identity.id == "gitlab:group/project" && "gitlab:group/ops" in identity.groups'] },
      { namespace: 'cluster', policies: ['identity.id == "kubernetes:system:serviceaccount:ci:builder"'] },
    ],
  });
  return { ...node, github, gitlab, cluster, away, keyFile };
}

t.jobs = 2;
for (const engine of engines) {
  void t.test(engine, { buffered: true }, async (t) => {
    const stage = await startStage(engine);
    t.teardown(async () => {
      await stopWireNode(stage);
      await Promise.all([stage.github, stage.gitlab, stage.cluster, stage.away].map((issuer) => issuer.stop()));
    });
    await t.test('who comes with a good token', (t) => admitted(t, stage));
    await t.test('tokens of /token', (t) => exchanged(t, stage));
    await t.test('keys that change', (t) => rotated(t, stage));
    await t.test('who comes with a bad token', (t) => refused(t, stage));
    await t.test('an issuer that was never there', (t) => neverThere(t, stage));
    await t.test('an issuer that goes away', (t) => goneAway(t, stage));
    await t.test('a token that ends in the middle of a push', (t) => middle(t, stage));
    await t.test('no token is in the log', (t) => {
      const passwords = { writer: 'writer-pass-8812', oauth2: 'eyJhbGciOiJ', 'anything-at-all': 'eyJhbGciOiJ' };
      for (const secret of [...secretsOf(passwords), 'token-of-the-node']) t.notMatch(stage.log(), secret);
      t.end();
    });
  });
}

void t.test('a configuration that is read again while the issuer is away', { buffered: true }, async (t) => {
  const issuer = await TestIssuer.start();
  const settings = (claims: object, more: readonly object[] = []) => ({
    access: { token: { secret: 'secret-of-the-tokens-91c2' } },
    oidc: [{ name: 'jobs', issuer: issuer.url, audience, rules: [{ claims }] }, ...more],
  });
  const node = await startConfigured(t, 'uws', settings({ repository: 'org/*' }));
  const client = new HttpClient(node.port);
  t.teardown(() => client.close());
  const token = await issuer.sign(githubClaims());
  const other = await issuer.sign(githubClaims({ repository: 'other/app' }));
  const statuses = async () => {
    const asked = [token, other].map(async (one) => (await client.send('GET', '/v2/', { headers: bearer(one) })).status);
    return Promise.all(asked);
  };
  t.strictSame(await statuses(), [200, 401]);
  await issuer.stop();
  t.equal(await node.reload(settings({ repository: 'other/*' })), 'taken');
  t.strictSame(await statuses(), [401, 200], 'its keys are still known, and the new rule holds');
  t.equal(await node.reload(settings({ repository: 'org/*' }, [{ name: 'jobs' }])), 'refused');
  t.strictSame(await statuses(), [401, 200], 'what is wrong changes nothing');
});

/** As the password of any name, and as it is. */
function ways(token: string) {
  return [basic('oauth2', token), basic('anything-at-all', token), bearer(token)];
}

async function push(client: HttpClient, repository: string, headers: Record<string, string>): Promise<number> {
  return (await client.send('POST', `/v2/${repository}/blobs/uploads/`, { headers, body: '' })).status;
}

async function pull(client: HttpClient, repository: string, headers: Record<string, string>): Promise<number> {
  return (await client.send('GET', `/v2/${repository}/blobs/${digestOf('nothing')}`, { headers })).status;
}

async function admitted(t: Test, { client, github, gitlab, cluster }: Stage): Promise<void> {
  const kubernetes = (namespace: string, account: string) => cluster.sign(kubernetesClaims(namespace, account, { iss: clusterIssuer }));
  for (const headers of ways(await github.sign(githubClaims()))) {
    t.equal((await client.send('GET', '/v2/', { headers })).status, 200);
    t.strictSame([await push(client, 'org/app', headers), await pull(client, 'org/app', headers)], [202, 404], 'its own repository');
    t.strictSame([await push(client, 'org/web', headers), await pull(client, 'org/web', headers)], [403, 404], 'another of the owner');
    t.equal(await pull(client, 'group/project', headers), 403, 'not of another issuer');
  }
  for (const headers of ways(await github.sign(githubClaims({ ref: 'refs/pull/7/merge', event_name: 'pull_request' }))))
    t.strictSame([await push(client, 'org/app', headers), await pull(client, 'org/app', headers)], [403, 404], 'without the group');
  for (const headers of ways(await gitlab.sign(gitlabClaims()))) t.equal(await push(client, 'group/project', headers), 202);
  t.strictSame([...new Set(gitlab.asked)], ['Bearer token-of-the-node'], 'its server is shown what it asks for');
  t.strictSame([...new Set(github.asked)], [undefined], 'and no other');
  for (const headers of ways(await gitlab.sign(gitlabClaims({ groups_direct: ['other'] }))))
    t.equal(await push(client, 'group/project', headers), 403, 'groups are of a claim');
  for (const headers of ways(await gitlab.sign(gitlabClaims())))
    t.equal((await client.send('GET', '/metrics', { headers })).status, 403, 'what an issuer calls admin is not ours');
  for (const headers of ways(await kubernetes('ci', 'builder'))) t.equal(await push(client, 'cluster/x', headers), 202);
  for (const headers of ways(await kubernetes('ci', 'tester'))) t.equal(await push(client, 'cluster/x', headers), 403);
  for (const headers of ways(await kubernetes('prod', 'builder'))) t.equal((await client.send('GET', '/v2/', { headers })).status, 401);
  t.equal(await push(client, 'org/app', basic('writer', 'writer-pass-8812')), 202, 'passwords go on');
}

interface Reply {
  readonly token: string;
  readonly expires_in: number;
  readonly refresh_token?: string;
}

async function exchanged(t: Test, { client, github }: Stage): Promise<void> {
  const path = '/token?service=ha-registry&offline_token=true&scope=repository:org/app:pull,push&scope=repository:org/web:pull,push';
  const get = async (token: string) => client.send('GET', path, { headers: basic('oauth2', token) });
  const exp = Math.floor(Date.now() / 1000) + 120;
  const reply = jsonOf<Reply>(await get(await github.sign(githubClaims({ exp }))));
  const claims = claimsOf(reply.token);
  t.strictSame(claims['access'], [
    { type: 'repository', name: 'org/app', actions: ['pull', 'push'] },
    { type: 'repository', name: 'org/web', actions: ['pull'] },
  ]);
  t.equal(claims['sub'], 'github:repo:org/app:ref:refs/heads/main');
  t.ok(Number(claims['exp']) <= exp && reply.expires_in <= 120, 'it ends with what it was given for');
  t.equal(reply.refresh_token, undefined, 'and is not made to last');
  t.equal(await push(client, 'org/app', bearer(reply.token)), 202, 'the policies see its claims');
  const long = jsonOf<Reply>(await get(await github.sign(githubClaims({ exp: exp + 3_600 }))));
  t.equal(long.expires_in, 300, 'nor longer than others');
  const form = { grant_type: 'password', username: 'any', password: await github.sign(githubClaims()), access_type: 'offline' };
  const posted = await client.send('POST', '/token', {
    headers: { 'Content-Type': 'application/x-www-form-urlencoded' },
    body: new URLSearchParams({ service: 'ha-registry', scope: 'repository:org/app:push', ...form }).toString(),
  });
  t.equal(posted.status, 200);
  t.equal(jsonOf<Reply>(posted).refresh_token, undefined);
  t.equal(await push(client, 'org/app', basic('x', reply.token)), 401, 'a token of ours is no password');
  t.equal((await get(await github.sign(githubClaims({ aud: 'else' })))).status, 401);
}

function claimsOf(token: string): JWTPayload {
  return JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as JWTPayload;
}

function encode(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}

/** The public key as a shared secret. */
function forged(token: string, key: KeyObject): string {
  const [header = '', payload = ''] = token.split('.');
  const changed = { ...(JSON.parse(Buffer.from(header, 'base64url').toString()) as object), alg: 'HS256' };
  const signed = `${encode(changed)}.${payload}`;
  const secret = key.export({ type: 'spki', format: 'pem' });
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
}

async function refused(t: Test, { client, github, gitlab, cluster }: Stage): Promise<void> {
  const good = await github.sign(githubClaims());
  const [header = '', payload = '', signature = ''] = good.split('.');
  const now = Math.floor(Date.now() / 1000);
  const bad: Readonly<Record<string, string>> = {
    'no algorithm': `${encode({ alg: 'none', typ: 'JWT' })}.${payload}.`,
    'no algorithm, but a signature': `${encode({ alg: 'none', kid: github.keyId })}.${payload}.${signature}`,
    'a public key as a secret': forged(good, github.publicKey),
    expired: await github.sign(githubClaims({ iat: now - 900, nbf: now - 900, exp: now - 60 })),
    'without an end': await github.sign(githubClaims({ exp: undefined })),
    'not yet valid': await github.sign(githubClaims({ nbf: now + 120 })),
    'from the future': await github.sign(githubClaims({ iat: now + 120 })),
    'for another audience': await github.sign(githubClaims({ aud: `${audience}.evil` })),
    'for no audience': await github.sign(githubClaims({ aud: undefined })),
    'of another issuer, by this key': await github.sign(githubClaims({ iss: gitlab.url })),
    'of this issuer, by another key': await gitlab.sign(githubClaims({ iss: github.url })),
    'of this issuer, by the name of its key': await gitlab.sign(githubClaims({ iss: github.url }), { kid: github.keyId }),
    'of an issuer that nobody knows': await github.sign(githubClaims({ iss: 'https://issuer.example' })),
    'of an issuer that is nearly known': await github.sign(githubClaims({ iss: `${github.url}/` })),
    'without an issuer': await github.sign(githubClaims({ iss: undefined })),
    'of our own name': await github.sign(githubClaims({ iss: 'ha-registry', aud: 'ha-registry' })),
    'by a key that nobody knows': await github.sign(githubClaims(), { kid: 'invented' }),
    'with other claims': `${header}.${encode({ ...claimsOf(good), repository: 'org/web' })}.${signature}`,
    'with another signature': `${header}.${payload}.${signature.slice(0, -6)}AAAAAA`,
    'cut short': `${header}.${payload}.`,
    'that no rule lets in': await github.sign(githubClaims({ repository_owner: 'other', repository: 'other/app' })),
    'that a rule nearly lets in': await github.sign(githubClaims({ repository: 'org/app/more' })),
    'that two halves of rules let in': await github.sign(
      githubClaims({ repository_owner: 'other', repository: 'org/app', ref: 'refs/heads/x' }),
    ),
    'that is nobody': await github.sign(githubClaims({ sub: '' })),
    'that is too long': await github.sign(githubClaims({ filling: 'x'.repeat(17_000) })),
    'with an algorithm of the file only': await cluster.sign(githubClaims({ iss: github.url })),
    'of an unprotected branch': await gitlab.sign(gitlabClaims({ ref_protected: 'false' })),
  };
  for (const [what, token] of Object.entries(bad)) {
    const answer = await client.send('GET', '/v2/', { headers: bearer(token) });
    t.strictSame([answer.status, errorCode(answer)], [401, 'UNAUTHORIZED'], `bearer: ${what}`);
    t.match(answer.headers['www-authenticate'], /^Bearer realm=.*error="invalid_token"$/);
    const asPassword = await client.send('GET', '/v2/', { headers: basic('writer', token) });
    const tooLong = what === 'that is too long';
    t.strictSame([asPassword.status, errorCode(asPassword)], [tooLong ? 400 : 401, 'UNAUTHORIZED'], `password: ${what}`);
    t.notMatch(asPassword.body.toString(), /audience|expired|issuer|claim/, 'nobody is told why');
  }
  t.equal((await client.send('GET', '/v2/', { headers: bearer(good) })).status, 200, 'the good one is good all the same');
}

function isAway(t: Test, answer: Answer, what: string): void {
  t.strictSame([answer.status, errorCode(answer)], [503, 'UNAVAILABLE'], what);
  t.match(answer.headers['retry-after'], /^\d+$/);
}

async function neverThere(t: Test, { client, away, github, log }: Stage): Promise<void> {
  const token = await away.sign({ sub: 'a', aud: audience });
  for (const headers of ways(token)) isAway(t, await client.send('GET', '/v2/', { headers }), 'nobody can tell');
  isAway(t, await client.send('GET', '/token?scope=repository:org/app:pull', { headers: basic('x', token) }), 'at /token neither');
  t.equal(
    (await client.send('GET', '/v2/', { headers: bearer(await github.sign(githubClaims())) })).status,
    200,
    'others are not affected',
  );
  t.strictSame(jsonOf(await client.send('GET', '/readyz')), { status: 'ready' }, 'nor is readiness');
  t.equal(
    log()
      .split('\n')
      .filter((line) => line.includes('the keys of away (oidc)')).length,
    1,
    'it is told once',
  );
  t.notMatch(log(), 'request failed', 'and not by each request');
  await away.restart();
  await until('the issuer is seen again', async () => (await client.send('GET', '/v2/', { headers: bearer(token) })).status === 200);
}

async function rotated(t: Test, { client, github, cluster, keyFile, log }: Stage): Promise<void> {
  const status = async (token: string) => (await client.send('GET', '/v2/', { headers: bearer(token) })).status;
  const old = await github.sign(githubClaims());
  t.equal(await status(old), 200);
  await github.rotate(true);
  t.strictSame([await status(await github.sign(githubClaims())), await status(old)], [200, 200], 'a new key beside the old one');
  await github.rotate();
  t.equal(await status(await github.sign(githubClaims())), 200, 'a new one in its place');
  t.equal(await status(old), 401, 'what the old one signed counts no more, though it was seen before');
  const asked = github.asked.length;
  const invented = await Promise.all(
    Array.from({ length: 40 }, async (_, index) => status(await github.sign(githubClaims(), { kid: `invented-${index}` }))),
  );
  t.ok(invented.every((one) => one === 401));
  t.ok(github.asked.length - asked <= 5, `who invents keys does not make us ask each time (${github.asked.length - asked})`);

  const before = await cluster.sign(kubernetesClaims('ci', 'builder', { iss: clusterIssuer }));
  t.equal(await status(before), 200);
  await cluster.rotate();
  const after = await cluster.sign(kubernetesClaims('ci', 'builder', { iss: clusterIssuer }));
  t.equal(await status(after), 401, 'a file is what it is');
  await writeFile(`${keyFile}.new`, cluster.jwks());
  await rename(`${keyFile}.new`, keyFile);
  await until('the file is read again', async () => (await status(after)) === 200);
  t.equal(await status(before), 401);
  await writeFile(keyFile, '{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}');
  await until('a wrong file is told', () => log().includes('the keys of kubernetes (oidc)'));
  t.equal(await status(await cluster.sign(kubernetesClaims('ci', 'builder', { iss: clusterIssuer }))), 200, 'and changes nothing');
}

async function goneAway(t: Test, { client, gitlab }: Stage): Promise<void> {
  const status = async (token: string) => (await client.send('GET', '/v2/', { headers: bearer(token) })).status;
  t.equal(await status(await gitlab.sign(gitlabClaims())), 200);
  await gitlab.stop();
  t.equal(await status(await gitlab.sign(gitlabClaims())), 200, 'keys that are known go on');
  await gitlab.rotate();
  isAway(t, await client.send('GET', '/v2/', { headers: bearer(await gitlab.sign(gitlabClaims())) }), 'of a new one nobody can tell');
  await gitlab.restart();
}

/** The client sees a challenge, has another token made and goes on where it was. */
async function middle(t: Test, { client, github }: Stage): Promise<void> {
  const now = Math.floor(Date.now() / 1000);
  const first = bearer(await github.sign(githubClaims()));
  const begun = await client.send('POST', '/v2/org/app/blobs/uploads/', { headers: first, body: '' });
  const location = String(begun.headers.location);
  t.equal((await client.send('PATCH', location, { headers: first, body: 'first' })).status, 202);
  const ended = bearer(await github.sign(githubClaims({ iat: now - 600, nbf: now - 600, exp: now - 40 })));
  const answer = await client.send('PATCH', location, { headers: ended, body: 'x'.repeat(300_000) });
  t.strictSame([answer.status, errorCode(answer)], [401, 'UNAUTHORIZED']);
  t.match(answer.headers['www-authenticate'], /scope="repository:org\/app:pull,push",error="invalid_token"$/);
  const fresh = bearer(await github.sign(githubClaims()));
  const state = await client.send('GET', location, { headers: fresh });
  t.strictSame([state.status, state.headers['range']], [204, '0-4'], 'nothing of it was taken');
  t.equal((await client.send('PATCH', location, { headers: { ...fresh, 'Content-Range': '5-10' }, body: 'second' })).status, 202);
  t.equal((await client.send('PUT', `${location}?digest=${digestOf('firstsecond')}`, { headers: fresh, body: '' })).status, 201);
}
