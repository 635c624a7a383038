// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** An issuer in the place of `/token`, as the distribution project's `auth.token` has it: on the wire, with keys of a bundle, of chains and of a set. */
import { createHmac, createPrivateKey, generateKeyPairSync, X509Certificate, type KeyObject } from 'node:crypto';
import { readFile, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { calculateJwkThumbprint, exportJWK, SignJWT, type JWTPayload } from 'jose';
import t, { type Test } from 'tap';
import { run } from '../support/command.js';
import { errorCode, jsonOf } from '../support/http-client.js';
import { temporaryDirectory } from '../support/registry.js';
import { bytesOf, digestOf, engines, startWireNode, stopWireNode, until, type Engine, type WireNode } from '../support/wire-suite.js';
import { basic, bearer, hashOf, secretsOf } from './people.js';

const realm = 'https://auth.example/token';
const service = 'registry.example';
const issuer = 'auth.example';

interface Signer {
  readonly key: KeyObject;
  readonly certificate: X509Certificate;
}

interface Chain {
  readonly root: Signer;
  readonly between: Signer;
  readonly leaf: Signer;
  /** Signed by the leaf, which may not sign certificates. */
  readonly below: Signer;
  readonly bundle: string;
}

/** A root, what it signed, what that signed, and one more. */
async function makeChain(): Promise<Chain> {
  const directory = await temporaryDirectory('chain-');
  const file = (name: string): string => path.join(directory, name);
  const make = async (name: string, isAuthority: boolean, by?: string): Promise<Signer> => {
    const signer = by === undefined ? [] : ['-CA', file(`${by}.crt`), '-CAkey', file(`${by}.key`)];
    const constraints = ['-addext', `basicConstraints=critical,CA:${isAuthority ? 'TRUE' : 'FALSE'}`];
    const request = [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-days',
      '2',
      '-subj',
      `/CN=${name}`,
    ];
    await run('openssl', [...request, '-keyout', file(`${name}.key`), '-out', file(`${name}.crt`), ...signer, ...constraints]);
    return {
      key: createPrivateKey(await readFile(file(`${name}.key`), 'utf8')),
      certificate: new X509Certificate(await readFile(file(`${name}.crt`))),
    };
  };
  const root = await make('root', true);
  const between = await make('between', true, 'root');
  const leaf = await make('leaf', false, 'between');
  const below = await make('below', false, 'leaf');
  return { root, between, leaf, below, bundle: file('root.crt') };
}

function x5c(...chain: readonly Signer[]): string[] {
  return chain.map(({ certificate }) => certificate.raw.toString('base64'));
}

const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const edwards = generateKeyPairSync('ed25519');

async function setOf(keys: Readonly<Record<string, KeyObject>>): Promise<string> {
  const entries = Object.entries(keys).map(async ([kid, key]) => ({ ...(await exportJWK(key)), kid }));
  return JSON.stringify({ keys: await Promise.all(entries) });
}

interface Header {
  readonly alg: string;
  readonly kid?: string;
  readonly x5c?: string[];
}

type Claims = { readonly [Name in keyof JWTPayload]: JWTPayload[Name] | undefined };

function sign(key: KeyObject, header: Header, access: readonly object[] | undefined, more: Claims = {}): Promise<string> {
  const now = Math.floor(Date.now() / 1000);
  const claims = { iss: issuer, aud: service, sub: 'alice', iat: now, nbf: now, exp: now + 300, access, ...more };
  return new SignJWT(claims as JWTPayload).setProtectedHeader({ typ: 'JWT', ...header }).sign(key);
}

const may = (name: string, ...actions: readonly string[]) => ({ type: 'repository', name, actions });

interface Stage extends WireNode {
  readonly chain: Chain;
  readonly setFile: string;
}

async function startStage(engine: Engine): Promise<Stage> {
  const chain = await makeChain();
  const setFile = path.join(await temporaryDirectory('external-'), 'keys.json');
  await writeFile(setFile, await setOf({ first: rsa.publicKey, second: edwards.publicKey }));
  const node = await startWireNode(engine, {
    identity: { local: { password: await hashOf('local-pass-4411'), groups: ['admin'] } },
    access: { token: { external: { realm, service, issuer, rootcertbundle: chain.bundle, jwks: setFile } } },
    repository: [{ namespace: 'guarded', policies: ['identity.id == "alice"'] }],
  });
  return { ...node, chain, setFile };
}

t.jobs = 2;
for (const engine of engines) {
  void t.test(engine, { buffered: true }, async (t) => {
    const stage = await startStage(engine);
    t.teardown(() => stopWireNode(stage));
    await t.test('where tokens are to be had', (t) => challenged(t, stage));
    await t.test('whose signature counts', (t) => signatures(t, stage));
    await t.test('tokens that are not valid', (t) => refused(t, stage));
    await t.test('what a token opens', (t) => opened(t, stage));
    await t.test('policies', (t) => policies(t, stage));
    await t.test('keys that change', (t) => changed(t, stage));
    await t.test('no token is in the log', (t) => {
      for (const secret of secretsOf({ local: 'local-pass-4411' })) t.notMatch(stage.log(), secret);
      t.end();
    });
  });
}

async function challenged(t: Test, { client }: Stage): Promise<void> {
  const ping = await client.send('GET', '/v2/');
  t.strictSame([ping.status, ping.headers['www-authenticate']], [401, `Bearer realm="${realm}",service="${service}"`]);
  const asked = await client.send('POST', '/v2/a/b/blobs/uploads/', { headers: { Host: 'else.example' }, body: '' });
  t.equal(asked.headers['www-authenticate'], `Bearer realm="${realm}",service="${service}",scope="repository:a/b:pull,push"`);
  for (const method of ['GET', 'POST'] as const) {
    const answer = await client.send(method, '/token', {
      headers: basic('local', 'local-pass-4411'),
      ...(method === 'POST' ? { body: '' } : {}),
    });
    t.equal(answer.status, 404, `${method}: no tokens here`);
  }
  t.equal((await client.send('GET', '/metrics', { headers: basic('local', 'local-pass-4411') })).status, 200, 'passwords go on');
}

const byName = (kid: string): Header => ({ alg: 'ES256', kid });

async function signatures(t: Test, { client, chain: { root, between, leaf, below } }: Stage): Promise<void> {
  const status = async (key: KeyObject, header: Header) =>
    (await client.send('GET', '/v2/a/b/tags/list', { headers: bearer(await sign(key, header, [may('a/b', 'pull')])) })).status;
  const spki = root.certificate.publicKey;
  t.equal(await status(root.key, byName(await calculateJwkThumbprint(await exportJWK(spki)))), 404, 'by its thumbprint');
  t.equal(await status(root.key, byName(libtrustNameByOpenssl(spki))), 404, 'by the name that libtrust gives it');
  t.equal(await status(rsa.privateKey, { alg: 'RS256', kid: 'first' }), 404, 'of the set');
  t.equal(await status(rsa.privateKey, { alg: 'PS512', kid: 'first' }), 404);
  t.equal(await status(edwards.privateKey, { alg: 'EdDSA', kid: 'second' }), 404);
  t.equal(await status(leaf.key, { alg: 'ES256', x5c: x5c(leaf, between) }), 404, 'a chain to the bundle');
  t.equal(await status(between.key, { alg: 'ES256', x5c: x5c(between) }), 404, 'one step');
  t.equal(await status(root.key, { alg: 'ES256', x5c: x5c(root) }), 404, 'none');

  t.equal(await status(leaf.key, { alg: 'ES256', x5c: x5c(leaf) }), 401, 'a chain with a gap');
  t.equal(await status(below.key, { alg: 'ES256', x5c: x5c(below, leaf, between) }), 401, 'signed by who may not');
  const stranger = await makeChain();
  t.equal(
    await status(stranger.leaf.key, { alg: 'ES256', x5c: x5c(stranger.leaf, stranger.between, stranger.root) }),
    401,
    'a root of its own',
  );
  t.equal(await status(stranger.leaf.key, { alg: 'ES256', x5c: x5c(leaf, between) }), 401, 'somebody else’s chain');
  t.equal(await status(stranger.leaf.key, { alg: 'ES256', x5c: x5c(stranger.leaf, between) }), 401, 'of the same names');
  t.equal(await status(leaf.key, { alg: 'ES256', x5c: [] }), 401);
  t.equal(await status(rsa.privateKey, { alg: 'RS256', kid: 'third' }), 401);
  t.equal(await status(rsa.privateKey, { alg: 'RS256' }), 401, 'by nobody');
}

/** What `openssl` and a table of base 32 say, independently of the program. */
function libtrustNameByOpenssl(key: KeyObject): string {
  const digest = Buffer.from(digestOf(key.export({ type: 'spki', format: 'der' })).slice('sha256:'.length), 'hex');
  let number = BigInt(`0x${digest.subarray(0, 30).toString('hex')}`);
  const letters: string[] = [];
  for (let index = 0; index < 48; index++, number >>= 5n) letters.unshift('ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'.charAt(Number(number & 31n)));
  return letters.join('').replace(/.{4}(?=.)/g, '$&:');
}

const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');

async function refused(t: Test, { client }: Stage): Promise<void> {
  const now = Math.floor(Date.now() / 1000);
  const rs = { alg: 'RS256', kid: 'first' };
  const access = [may('a/b', 'pull')];
  const good = await sign(rsa.privateKey, rs, access);
  const [header = '', payload = '', signature = ''] = good.split('.');
  const hs = `${encode({ alg: 'HS256', kid: 'first' })}.${payload}`;
  const mac = createHmac('sha256', rsa.publicKey.export({ type: 'spki', format: 'pem' }))
    .update(hs)
    .digest('base64url');
  const bad: Readonly<Record<string, string>> = {
    'no algorithm': `${encode({ alg: 'none', kid: 'first' })}.${payload}.`,
    'a public key as a secret': `${hs}.${mac}`,
    expired: await sign(rsa.privateKey, rs, access, { iat: now - 900, nbf: now - 900, exp: now - 60 }),
    'without an end': await sign(rsa.privateKey, rs, access, { exp: undefined }),
    'not yet valid': await sign(rsa.privateKey, rs, access, { nbf: now + 120 }),
    'of another service': await sign(rsa.privateKey, rs, access, { aud: 'else.example' }),
    'of another issuer': await sign(rsa.privateKey, rs, access, { iss: 'else.example' }),
    'with more access': `${header}.${encode({ access: [may('a/b', '*')] })}.${signature}`,
    'with another signature': `${header}.${payload}.${signature.slice(0, -6)}AAAAAA`,
  };
  for (const [what, token] of Object.entries(bad)) {
    const answer = await client.send('GET', '/v2/a/b/tags/list', { headers: bearer(token) });
    t.strictSame([answer.status, errorCode(answer)], [401, 'UNAUTHORIZED'], what);
    t.match(answer.headers['www-authenticate'], /^Bearer realm="https:\/\/auth\.example\/token",.*error="invalid_token"$/);
    t.equal((await client.send('GET', '/v2/', { headers: basic('local', token) })).status, 401, `${what}, as a password`);
  }
  t.equal((await client.send('GET', '/v2/', { headers: basic('local', good) })).status, 401, 'nor is a good one a password');
  t.equal((await client.send('GET', '/v2/a/b/tags/list', { headers: bearer(good) })).status, 404);
}

function of(access: readonly object[] | undefined, more: JWTPayload = {}): Promise<{ Authorization: string }> {
  return sign(rsa.privateKey, { alg: 'RS256', kid: 'first' }, access, more).then(bearer);
}

async function opened(t: Test, { client }: Stage): Promise<void> {
  const bytes = bytesOf(300, 'external');
  const digest = digestOf(bytes);
  const pusher = await of([may('a/b', 'pull', 'push')]);
  t.equal((await client.send('POST', `/v2/a/b/blobs/uploads/?digest=${digest}`, { headers: pusher, body: bytes })).status, 201);
  const puller = await of([may('a/b', 'pull')]);
  t.equal((await client.send('GET', `/v2/a/b/blobs/${digest}`, { headers: puller })).status, 200);
  for (const [headers, method, where] of [
    [puller, 'POST', '/v2/a/b/blobs/uploads/'],
    [puller, 'DELETE', `/v2/a/b/blobs/${digest}`],
    [puller, 'GET', '/v2/a/c/tags/list'],
    [puller, 'GET', '/v2/_catalog'],
    [puller, 'GET', '/metrics'],
    [pusher, 'DELETE', `/v2/a/b/blobs/${digest}`],
    [await of(undefined), 'GET', `/v2/a/b/blobs/${digest}`],
    [
      await of([
        { type: 'repository', name: 'a/b', actions: 'pull' },
        { type: 'registry', name: 'a/b', actions: ['*'] },
      ]),
      'GET',
      `/v2/a/b/blobs/${digest}`,
    ],
  ] as const) {
    const answer = await client.send(method, where, { headers, ...(method === 'POST' ? { body: '' } : {}) });
    t.equal(answer.status, 401, `${method} ${where}`);
    t.match(answer.headers['www-authenticate'], /^Bearer realm="https:\/\/auth\.example\/token",.*error="insufficient_scope"$/);
  }
  const mount = `/v2/a/c/blobs/uploads/?mount=${digest}&from=a/b`;
  const half = await of([may('a/c', 'pull', 'push')]);
  t.equal((await client.send('POST', mount, { headers: half, body: '' })).status, 202, 'a mount needs both');
  const both = await of([may('a/c', 'pull', 'push'), may('a/b', 'pull')]);
  t.equal((await client.send('POST', mount, { headers: both, body: '' })).status, 201);
  const session = await client.send('POST', '/v2/a/b/blobs/uploads/', { headers: pusher, body: '' });
  const other = await of([may('a/b', '*')], { sub: 'bob' });
  const location = String(session.headers.location);
  t.equal((await client.send('PATCH', location, { headers: other, body: 'x' })).status, 404, 'an upload is whose it is');
  t.equal(
    (await client.send('PATCH', location, { headers: await of([may('a/b', 'push')]), body: 'x' })).status,
    202,
    'with any token of it',
  );
  const catalog = await client.send('GET', '/v2/_catalog', { headers: await of([{ type: 'registry', name: 'catalog', actions: ['*'] }]) });
  t.strictSame(jsonOf(catalog), { repositories: ['a/b', 'a/c'] });
  const nobody = await of([may('a/b', 'pull')], { sub: '' });
  t.equal((await client.send('GET', `/v2/a/b/blobs/${digest}`, { headers: nobody })).status, 200, 'a token of nobody opens what it is for');
  const all = await of([may('a/b', '*')]);
  t.equal((await client.send('DELETE', `/v2/a/b/blobs/${digest}`, { headers: all })).status, 202, 'the star is all');
  const admin = await of([{ type: 'registry', name: 'admin', actions: ['*'] }], { sub: 'admin' });
  t.equal((await client.send('GET', '/metrics', { headers: admin })).status, 403, 'what it calls admin is not our administrator');
  for (const sub of ['local', 'a\nb', 'x'.repeat(256)])
    t.equal((await client.send('GET', '/v2/', { headers: await of([], { sub }) })).status, 401, `nor may it speak of ${sub.slice(0, 9)}`);
  t.equal((await client.send('GET', '/v2/a/b/tags/list')).status, 401, 'and without a token nothing is open');
}

async function policies(t: Test, { client }: Stage): Promise<void> {
  const status = async (sub: string) =>
    (await client.send('POST', '/v2/guarded/x/blobs/uploads/', { headers: await of([may('guarded/x', 'push')], { sub }), body: '' }))
      .status;
  t.strictSame([await status('alice'), await status('bob')], [202, 403], 'where there are policies, they must allow it, too');
  t.equal(
    (await client.send('GET', '/v2/guarded/x/tags/list', { headers: await of([may('guarded/y', 'pull')]) })).status,
    401,
    'and they do not instead of a token',
  );
}

async function changed(t: Test, { client, setFile }: Stage): Promise<void> {
  const [old, fresh] = [generateKeyPairSync('ed25519'), generateKeyPairSync('ed25519')];
  const replace = async (key: KeyObject): Promise<void> => {
    await writeFile(`${setFile}.new`, await setOf({ key }));
    await rename(`${setFile}.new`, setFile);
  };
  const status = async (
    { privateKey }: { privateKey: KeyObject },
    token = sign(privateKey, { alg: 'EdDSA', kid: 'key' }, [may('a/b', 'pull')]),
  ) => (await client.send('GET', '/v2/', { headers: bearer(await token) })).status;
  await replace(old.publicKey);
  await until('the set is read again', async () => (await status(old)) === 200);
  const kept = sign(old.privateKey, { alg: 'EdDSA', kid: 'key' }, []);
  t.equal(await status(old, kept), 200);
  await replace(fresh.publicKey);
  await until('and again', async () => (await status(fresh)) === 200);
  t.equal(await status(old, kept), 401, 'what was remembered is forgotten');
}
