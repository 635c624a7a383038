// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What was given and is not to count any more: keys that are gone, lifetimes that are shorter now, names that are somebody else's. */
import { generateKeyPairSync } from 'node:crypto';
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { exportJWK, SignJWT } from 'jose';
import t, { type Test } from 'tap';
import { makeIdentity } from '../../src/access/identity.js';
import { openForeignTokens } from '../../src/access/open-foreign-tokens.js';
import { openPasswords } from '../../src/access/password/passwords.js';
import type { PasswordSource } from '../../src/access/password/password-source.js';
import { readOwnSecret } from '../../src/access/token/own-secret.js';
import { rememberTokens } from '../../src/access/token/remember-tokens.js';
import { openRevocations } from '../../src/access/token/revocations.js';
import { openStoreKeys } from '../../src/access/token/store-keys.js';
import { postToken, type TokenService } from '../../src/access/token/token-endpoint.js';
import { openTokens } from '../../src/access/token/tokens.js';
import { loadConfig } from '../../src/config/config.js';
import type { Request } from '../../src/http/contract.js';
import { SharedKeys } from '../../src/access/workload/shared-keys.js';
import { temporaryDirectory } from '../support/registry.js';
import { memoryStore } from './memory-store.js';

const minute = 60_000;
const day = 86_400_000;
const bob = makeIdentity('bob', 'bob');

async function openKeys(t: Test, onChange = () => {}, now: () => number = Date.now) {
  const store = memoryStore();
  const keys = await openStoreKeys({
    store,
    secret: 'x'.repeat(20),
    rotateAfterMs: 900 * day,
    longestTokenMs: 900 * day,
    onChange,
    onError: (error) => t.error(error),
    now,
  });
  t.teardown(() => keys.close());
  return { store, keys };
}

void t.test('a key that was taken out of the store', async (t) => {
  const { store, keys } = await openKeys(t, () => verifier.forget());
  const tokens = openTokens(keys, { service: 'registry', lifetimeMs: 5 * minute, refreshLifetimeMs: day });
  const verifier = rememberTokens(tokens.check);
  const { token } = await tokens.issue(bob, []);
  t.ok(await verifier.verify(token));
  await keys.refresh();
  t.notOk(verifier.verify(token) instanceof Promise, 'it is remembered while its key is there');
  store.objects.clear();
  await keys.refresh();
  await t.rejects(async () => verifier.verify(token), /not valid/, 'and not any more');
});

void t.test('lifetimes that were made shorter', async (t) => {
  let now = Date.now();
  const clock = () => now;
  const { keys } = await openKeys(t, undefined, clock);
  const before = openTokens(keys, { service: 'registry', lifetimeMs: 20 * day, refreshLifetimeMs: 300 * day }, clock);
  const after = openTokens(keys, { service: 'registry', lifetimeMs: 10 * minute, refreshLifetimeMs: day }, clock);
  const { token } = await before.issue(bob, []);
  const refresh = await before.issueRefresh({ id: 'bob', username: 'bob', source: 'identity', stamp: 's' });
  t.equal((await before.check(token)).untilMs, now + 5 * minute, 'a token is looked at again');
  t.ok((await after.check(token)).untilMs <= now + 5 * minute);
  now += 9 * minute;
  t.ok((await after.check(token)).untilMs <= now + 2 * minute, 'as long as it would be given for now');
  t.ok(await after.readRefresh(refresh));
  now += 2 * minute;
  await t.rejects(after.check(token), /not valid/);
  t.ok(await before.check(token));
  now += 2 * day;
  t.equal(await after.readRefresh(refresh), undefined);
  t.ok(await before.readRefresh(refresh));
});

/** Those whom it knows are called after it, too. */
function sourceOf(name: string, ...known: readonly string[]): PasswordSource {
  return {
    name,
    logIn: () => Promise.resolve(undefined),
    find: (username) =>
      Promise.resolve(known.includes(username) ? { identity: makeIdentity(`${name}-${username}`, username), stamp: 's' } : undefined),
    recall: () => undefined,
  };
}

void t.test('a name that is somebody else’s now', async (t) => {
  const sources = [sourceOf('identity', 'bob'), sourceOf('htpasswd', 'bob', 'carol'), sourceOf('ldap', 'carol')];
  const passwords = openPasswords(sources, { waste: () => Promise.resolve() });
  t.match(await passwords.find('identity', 'bob'), { identity: { id: 'identity-bob' } });
  t.match(await passwords.find('htpasswd', 'carol'), { identity: { id: 'htpasswd-carol' } });
  t.equal(await passwords.find('htpasswd', 'bob'), undefined, 'the first source that knows it decides');
  t.equal(await passwords.find('ldap', 'carol'), undefined);
  t.equal(await passwords.find('gone', 'dave'), undefined);

  const { store, keys } = await openKeys(t);
  const tokens = openTokens(keys, { service: 'registry', lifetimeMs: 5 * minute, refreshLifetimeMs: day });
  const revocations = await openRevocations(store, day, (error) => t.error(error));
  t.teardown(() => revocations.close());
  const token = await tokens.issueRefresh({ id: 'before', username: 'bob', source: 'identity', stamp: 's' });
  const form = new URLSearchParams({ grant_type: 'refresh_token', refresh_token: token }).toString();
  const request = { body: { bytes: () => Promise.resolve(Buffer.from(form)) } } as unknown as Request;
  const service = { passwords, tokens, revocations, challenge: {} } as unknown as TokenService;
  const status = async () => (await postToken(service, request)).status;
  t.equal(await status(), 200);
  await revocations.revoke('identity-bob');
  await t.rejects(status(), { code: 'UNAUTHORIZED' }, 'revoked under the name that it has now');
});

void t.test('where there are workloads, no external token has a name such as theirs', async (t) => {
  const directory = await temporaryDirectory('colon-');
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const set = path.join(directory, 'keys.json');
  await writeFile(set, JSON.stringify({ keys: [{ ...(await exportJWK(publicKey)), kid: 'k' }] }));
  const external = `access:\n  token:\n    external: { realm: "https://a.example/token", service: s, issuer: i, jwks: ${set} }\n`;
  const oidc = `oidc:\n  - { name: ci, issuer: "https://i.example", audience: a, jwks_file: ${set}, rules: [{ claims: { sub: a } }] }\n`;
  const now = Math.floor(Date.now() / 1000);
  const token = await new SignJWT({ iss: 'i', aud: 's', sub: 'ci:main', exp: now + 300 })
    .setProtectedHeader({ alg: 'EdDSA', kid: 'k' })
    .sign(privateKey);
  const open = async (text: string) => {
    const file = path.join(directory, 'registry.yaml');
    await writeFile(file, text);
    const foreign = await openForeignTokens(
      loadConfig(file),
      new SharedKeys(),
      () => false,
      () => undefined,
      (message) => t.fail(message),
    );
    t.teardown(() => foreign.close());
    return foreign.checkFor(token);
  };
  t.match(await (await open(external))?.(token), { authenticated: { identity: { id: 'ci:main' } } });
  const check = await open(external + oidc);
  await t.rejects(async () => check?.(token), /not valid/);
});

void t.test('the secret of a node that is alone', async (t) => {
  const directory = await temporaryDirectory('secret-');
  const file = path.join(directory, 'secret');
  const secret = readOwnSecret(file);
  t.equal(secret.length, 43);
  t.strictSame([readOwnSecret(file), await readFile(file, 'utf8')], [secret, secret]);
  t.strictSame([await readdir(directory), (await stat(file)).mode & 0o777], [['secret'], 0o600]);
  for (const text of ['', 'cut off']) {
    await writeFile(file, text);
    t.throws(() => readOwnSecret(file), /secret is not whole/);
  }
});
