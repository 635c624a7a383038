// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** A push that takes longer than its token lives: what was sent is kept, and whoever has a new token goes on. */
import { generateKeyPairSync } from 'node:crypto';
import { rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import t, { type Test } from 'tap';
import { makeIdentity } from '../../src/access/identity.js';
import { openFileKeys } from '../../src/access/token/file-keys.js';
import { openTokens } from '../../src/access/token/tokens.js';
import { errorCode, jsonOf, type Answer } from '../support/http-client.js';
import { temporaryDirectory } from '../support/registry.js';
import { bytesOf, digestOf, engines, locationOf, startWireNode, stopWireNode, until, type Engine } from '../support/wire-suite.js';
import { basic, bearer, passwords, settings } from './people.js';

/** As a registry with this key and this clock would give them. */
async function openIssuer(keyFile: string) {
  const keys = await openFileKeys(
    keyFile,
    () => undefined,
    (error) => t.error(error),
  );
  t.teardown(() => keys.close());
  const grants = [{ type: 'repository', name: 'team/app', actions: ['pull', 'push'] }];
  const toleranceMs = 10_000;
  /** One that counts for so long, with what is allowed to clocks; past that where it is negative. */
  return async (validMs: number) => {
    const lifetimeMs = 60_000;
    const now = () => Date.now() - toleranceMs - lifetimeMs + validMs;
    const tokens = openTokens(keys, { service: 'ha-registry', lifetimeMs, refreshLifetimeMs: lifetimeMs }, now);
    return bearer((await tokens.issue(makeIdentity('writer', 'writer'), grants)).token);
  };
}

t.jobs = 2;
for (const engine of engines) void t.test(engine, { buffered: true }, (t) => onEngine(t, engine));

async function onEngine(t: Test, engine: Engine): Promise<void> {
  const keyFile = path.join(await temporaryDirectory('expiry-'), 'key.pem');
  await writeFile(keyFile, newKey());
  const node = await startWireNode(engine, await settings({ token: { key_file: keyFile } }));
  t.teardown(() => stopWireNode(node));
  const { client } = node;
  const issue = await openIssuer(keyFile);
  const isRefused = (answer: Answer, what: string): void => {
    t.strictSame([answer.status, errorCode(answer)], [401, 'UNAUTHORIZED'], what);
    const scope = 'scope="repository:team/app:pull,push",error="invalid_token"';
    t.equal(answer.headers['www-authenticate'], `Bearer realm="http://127.0.0.1:${node.port}/token",service="ha-registry",${scope}`);
  };
  /** What clients do with that challenge: the refresh token of their login. */
  const login = await client.send('POST', '/token', {
    body: form({ grant_type: 'password', username: 'writer', password: passwords.writer, access_type: 'offline' }),
  });
  const { refresh_token: refreshToken } = jsonOf<{ readonly refresh_token: string }>(login);
  const renew = async () => {
    const body = form({ grant_type: 'refresh_token', refresh_token: refreshToken, scope: 'repository:team/app:pull,push' });
    return bearer(jsonOf<{ readonly access_token: string }>(await client.send('POST', '/token', { body })).access_token);
  };
  const content = bytesOf(900_000, engine);
  const [first, second, third] = [content.subarray(0, 300_000), content.subarray(300_000, 600_000), content.subarray(600_000)];

  const location = locationOf(await client.send('POST', '/v2/team/app/blobs/uploads/', { headers: await issue(60_000), body: '' }));
  // On a machine that is busy a token may end before it was used: then it lives longer the next time.
  let ending = await issue(2_000);
  for (let validMs = 4_000; (await client.send('PATCH', location, { headers: ending, body: first })).status === 401; validMs *= 2)
    ending = await issue(validMs);
  await until('the token has ended', async () => (await client.send('GET', location, { headers: ending })).status === 401);
  isRefused(await client.send('PATCH', location, { headers: ending, body: second }), 'a token that counted a moment ago');
  isRefused(await client.send('PATCH', location, { headers: await issue(-1_000), body: second }), 'one that never did');
  const state = await client.send('GET', location, { headers: await renew() });
  t.strictSame([state.status, state.headers['range']], [204, '0-299999'], 'nothing of it was taken, and nothing lost');
  const patched = await client.send('PATCH', location, { headers: { ...(await renew()), 'Content-Range': '300000-599999' }, body: second });
  t.strictSame([patched.status, patched.headers['range']], [202, '0-599999'], 'the retried request succeeds');
  const finish = async (headers: Record<string, string>) =>
    client.send('PUT', `${location}?digest=${digestOf(content)}`, { headers, body: third });
  isRefused(await finish(ending), 'also the last request');
  t.equal((await finish(await renew())).status, 201, 'and the upload is whole');
  const pulled = await client.send('GET', `/v2/team/app/blobs/${digestOf(content)}`, { headers: basic('writer') });
  t.ok(pulled.body.equals(content));

  const kept = await issue(60_000);
  const ping = async () => (await client.send('GET', '/v2/', { headers: kept })).status;
  t.equal(await ping(), 200);
  await writeFile(`${keyFile}.new`, newKey());
  await rename(`${keyFile}.new`, keyFile);
  await until('the key was withdrawn, and with it what was remembered of its tokens', async () => (await ping()) === 401);
}

function newKey() {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ type: 'pkcs8', format: 'pem' });
}

function form(fields: Record<string, string>): string {
  return new URLSearchParams({ service: 'ha-registry', client_id: 'test', ...fields }).toString();
}
