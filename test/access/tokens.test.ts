// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Tokens on the wire: what clients do to get one, what it opens, and that none of it needs Postgres. */
import { rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import t, { type Test } from 'tap';
import { HttpClient, jsonOf, type Answer } from '../support/http-client.js';
import { startRegistry, temporaryDirectory, type RunningRegistry } from '../support/registry.js';
import { startStoppablePostgres } from '../support/stoppable-postgres.js';
import {
  digestOf,
  engines,
  imageOf,
  onBothEngines,
  startWireNode,
  stopWireNode,
  types,
  until,
  type WireNode,
} from '../support/wire-suite.js';
import { basic, bearer, hashOf, passwords, secretsOf, settings } from './people.js';

interface TokenReply {
  readonly token: string;
  readonly access_token: string;
  readonly expires_in: number;
  readonly issued_at: string;
  readonly refresh_token?: string;
}

const pull = 'repository:team/app:pull';
const image = imageOf(['layer']);

async function getToken(client: HttpClient, headers: Record<string, string>, ...scopes: string[]): Promise<TokenReply> {
  const query = scopes.map((scope) => `&scope=${encodeURIComponent(scope)}`).join('');
  const answer = await client.send('GET', `/token?service=ha-registry&offline_token=true${query}`, { headers });
  if (answer.status !== 200) throw new Error(`/token: ${answer.status} ${answer.body.toString()}`);
  return jsonOf(answer);
}

function postToken(client: HttpClient, form: Record<string, string>): Promise<Answer> {
  const headers = { 'Content-Type': 'application/x-www-form-urlencoded' };
  return client.send('POST', '/token', {
    headers,
    body: new URLSearchParams({ service: 'ha-registry', client_id: 'test', ...form }).toString(),
  });
}

function accessOf({ token }: { readonly token: string }): unknown {
  return (JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as { access: unknown }).access;
}

async function push(client: HttpClient, repository: string): Promise<void> {
  const headers = basic('writer');
  for (const blob of ['{}', 'layer'])
    await client.send('POST', `/v2/${repository}/blobs/uploads/?digest=${digestOf(blob)}`, { headers, body: blob });
  const answer = await client.send('PUT', `/v2/${repository}/manifests/v1`, {
    headers: { ...headers, 'Content-Type': types.manifest },
    body: image,
  });
  if (answer.status !== 201) throw new Error(`pushing: ${answer.status} ${answer.body.toString()}`);
}

onBothEngines(await settings(), async (t, node) => {
  for (const repository of ['team/app', 'team/other', 'public/app']) await push(node.client, repository);
  await t.test('a challenge leads to a token', (t) => challenge(t, node));
  await t.test('a token opens what it is for', (t) => scope(t, node));
  await t.test('refresh tokens', (t) => refresh(t, node));
  await t.test('a history tells who it was', async (t) => {
    await node.client.send('DELETE', '/v2/team/other/manifests/v1', { headers: basic('writer') });
    const answer = await node.client.send('GET', '/api/v1/repositories/team/other/tags/v1/history', { headers: basic('admin') });
    const { history } = jsonOf<{ readonly history: readonly { readonly action: string; readonly by: string | null }[] }>(answer);
    t.same(
      history.map(({ action, by }) => [action, by]),
      [
        ['deleted', 'writer'],
        ['created', 'writer'],
      ],
    );
  });
  await t.test('no secret is in the log', (t) => {
    for (const secret of [...secretsOf(), 'secret-of-the-tokens-91c2']) t.notMatch(node.log(), secret);
    t.end();
  });
});

async function challenge(t: Test, { client, port }: WireNode): Promise<void> {
  const realm = `Bearer realm="http://127.0.0.1:${port}/token",service="ha-registry"`;
  const ping = await client.send('GET', '/v2/');
  t.strictSame([ping.status, ping.headers['www-authenticate']], [401, realm]);
  const asked = (answer: Answer) => String(answer.headers['www-authenticate']).replace(realm, '');
  t.equal(asked(await client.send('GET', '/v2/team/app/manifests/v1')), `,scope="${pull}"`);
  t.equal(asked(await client.send('POST', '/v2/team/app/blobs/uploads/')), ',scope="repository:team/app:pull,push"');
  t.equal(asked(await client.send('DELETE', '/v2/team/app/manifests/v1')), ',scope="repository:team/app:delete"');
  t.equal(asked(await client.send('GET', '/v2/', { headers: bearer('nonsense') })), ',error="invalid_token"');
  const strange = await client.send('GET', '/v2/', { headers: { Host: 'a"b,c' } });
  t.notMatch(strange.headers['www-authenticate'] ?? '', 'a"b', 'nothing that a client sends ends the quotes');

  const reply = await getToken(client, {}, 'repository:public/app:pull');
  t.equal(reply.token, reply.access_token);
  t.ok(reply.expires_in >= 60 && Math.abs(Date.parse(reply.issued_at) - Date.now()) < 60_000);
  t.equal(reply.refresh_token, undefined, 'nobody has nothing to refresh');
  t.equal((await client.send('GET', '/v2/', { headers: bearer(reply.token) })).status, 200, 'also a token of nobody answers the ping');
  t.equal((await client.send('GET', '/v2/public/app/manifests/v1', { headers: bearer(reply.token) })).status, 200);
  t.equal((await client.send('GET', '/token', { headers: basic('reader', 'wrong') })).status, 401);
  t.equal((await client.send('GET', '/token', { headers: bearer(reply.token) })).status, 401, 'a token gives no token');
}

async function scope(t: Test, { client }: WireNode): Promise<void> {
  const reader = await getToken(
    client,
    basic('reader'),
    'repository:team/app:pull,push',
    'repository:team/other:pull repository:other/app:pull',
    'registry:catalog:*',
  );
  t.strictSame(
    accessOf(reader),
    [
      { type: 'repository', name: 'team/app', actions: ['pull'] },
      { type: 'repository', name: 'team/other', actions: ['pull'] },
      { type: 'registry', name: 'catalog', actions: ['*'] },
    ],
    'what is not allowed is left out',
  );
  const one = bearer((await getToken(client, basic('writer'), 'repository:team/app:pull,push')).token);
  t.equal((await client.send('GET', '/v2/team/app/manifests/v1', { headers: one })).status, 200);
  for (const [method, where] of [
    ['GET', '/v2/team/other/manifests/v1'],
    ['GET', '/v2/public/app/manifests/v1'],
    ['GET', '/v2/_catalog'],
    ['GET', '/metrics'],
    ['DELETE', '/v2/team/app/manifests/v1'],
    ['POST', '/v2/team/other/blobs/uploads/'],
  ] as const) {
    const answer = await client.send(method, where, { headers: one });
    t.equal(answer.status, 401, `${method} ${where}`);
    t.match(answer.headers['www-authenticate'], /error="insufficient_scope"/);
  }
  const mount = `/v2/team/app/blobs/uploads/?mount=${digestOf('layer')}&from=team/other`;
  const more = await client.send('POST', mount, { headers: one, body: '' });
  t.equal(more.status, 401, 'a mount needs a token for its source, too');
  t.match(
    more.headers['www-authenticate'],
    /scope="repository:team\/app:pull,push repository:team\/other:pull",error="insufficient_scope"/,
  );
  const unknown = await client.send('POST', mount, { body: '' });
  t.match(
    unknown.headers['www-authenticate'],
    /scope="repository:team\/app:pull,push repository:team\/other:pull"/,
    'and is told so at once',
  );
  const foreign = `/v2/team/app/blobs/uploads/?mount=${digestOf('layer')}&from=other/app`;
  t.equal((await client.send('POST', foreign, { headers: one, body: '' })).status, 202, 'from where its owner may not pull it is uploaded');
  const two = bearer((await getToken(client, basic('writer'), 'repository:team/new:pull,push', 'repository:team/other:pull')).token);
  t.equal(
    (await client.send('POST', mount.replace('team/app', 'team/new'), { headers: two, body: '' })).status,
    201,
    'but from what it is',
  );
  const catalog = await client.send('GET', '/v2/_catalog', { headers: bearer(reader.token) });
  t.strictSame(jsonOf(catalog), { repositories: ['public/app', 'team/app', 'team/new', 'team/other'] });
  const admin = bearer((await getToken(client, basic('admin'), 'registry:admin:*')).token);
  t.equal((await client.send('GET', '/metrics', { headers: admin })).status, 200);
}

async function refresh(t: Test, { client }: WireNode): Promise<void> {
  const login = await postToken(client, {
    grant_type: 'password',
    username: 'reader',
    password: passwords.reader,
    access_type: 'offline',
    scope: `${pull} repository:other/app:pull`,
  });
  t.equal(login.status, 200);
  const { refresh_token: token = '', ...reply } = jsonOf<TokenReply>(login);
  t.strictSame(accessOf(reply), [{ type: 'repository', name: 'team/app', actions: ['pull'] }], 'scopes between spaces');
  const again = await postToken(client, { grant_type: 'refresh_token', refresh_token: token, scope: pull });
  t.equal(again.status, 200);
  t.equal((await client.send('GET', '/v2/team/app/manifests/v1', { headers: bearer(jsonOf<TokenReply>(again).token) })).status, 200);
  t.equal((await client.send('GET', '/v2/team/app/manifests/v1', { headers: bearer(token) })).status, 401, 'it opens nothing itself');
  t.equal((await client.send('GET', '/v2/', { headers: bearer(token) })).status, 401, 'not even the ping');
  t.equal((await postToken(client, { grant_type: 'refresh_token', refresh_token: `${token}x` })).status, 401);
  t.equal((await postToken(client, { grant_type: 'refresh_token', refresh_token: reply.token })).status, 401);
  t.equal((await postToken(client, { grant_type: 'password', username: 'reader', password: 'wrong' })).status, 401);
  t.equal((await client.send('POST', '/api/v1/tokens/revoke', { headers: basic('admin'), body: '{"identity":"reader"}' })).status, 204);
  t.equal((await postToken(client, { grant_type: 'refresh_token', refresh_token: token })).status, 401, 'taken back');
  const longest = JSON.stringify({ identity: 'ä'.repeat(255) });
  t.equal((await client.send('POST', '/api/v1/tokens/revoke', { headers: basic('admin'), body: longest })).status, 204, 'of any length');
}

void t.test('while Postgres is away', { buffered: true }, async (t) => {
  const postgres = await startStoppablePostgres();
  const root = await temporaryDirectory('access-');
  const start = async (): Promise<RunningRegistry> =>
    startRegistry({
      root,
      config: {
        ...(await people),
        server: { engine: engines[0] },
        database: { url: postgres.url },
        workers: { threads: 1 },
        log: { level: 'warn' },
      },
    });
  const people = settings();
  let node = await start();
  let client = new HttpClient(node.port);
  await push(client, 'team/app');
  const before = await getToken(client, basic('reader'), pull);
  await postgres.stop();
  await until('degraded', async () => jsonOf<{ status: string }>(await client.send('GET', '/readyz')).status === 'degraded');
  const pulls = async (what: string): Promise<void> => {
    const get = async (headers: Record<string, string>) => (await client.send('GET', '/v2/team/app/manifests/v1', { headers })).status;
    t.equal(await get(bearer(before.token)), 200, `${what}: a token from before`);
    t.equal(await get(bearer((await getToken(client, basic('reader'), pull)).token)), 200, `${what}: a new one`);
    const refreshed = await postToken(client, { grant_type: 'refresh_token', refresh_token: before.refresh_token ?? '', scope: pull });
    t.equal(await get(bearer(jsonOf<TokenReply>(refreshed).token)), 200, `${what}: a refreshed one`);
    t.equal(await get(basic('reader')), 200, `${what}: a password`);
    t.strictSame([await get({}), await get(basic('stranger'))], [401, 403], `${what}: and nobody else`);
    t.equal((await client.send('POST', '/v2/team/app/blobs/uploads/', { headers: basic('writer'), body: '' })).status, 503);
    t.equal((await client.send('POST', '/v2/team/app/blobs/uploads/', { headers: basic('reader'), body: '' })).status, 403);
  };
  await pulls('the same node');
  client.close();
  await node.stop();
  node = await start();
  client = new HttpClient(node.port);
  await pulls('a node that was started again');
  client.close();
  await node.stop();
  await postgres.close();
});

void t.test('Basic, and a file of passwords that changes', { buffered: true }, async (t) => {
  const directory = await temporaryDirectory('htpasswd-');
  const file = path.join(directory, 'htpasswd');
  const write = async (text: string): Promise<void> => {
    await writeFile(`${file}.new`, text);
    await rename(`${file}.new`, file);
  };
  await write(`alice:${await hashOf('alice-pass-one')}\n`);
  const node = await startWireNode('node', { access: { challenge: 'basic', htpasswd_file: file } });
  const { client } = node;
  const status = async (password: string, person = 'alice') =>
    (await client.send('GET', '/v2/', { headers: basic(person, password) })).status;
  const ping = await client.send('GET', '/v2/');
  t.strictSame([ping.status, ping.headers['www-authenticate']], [401, 'Basic realm="ha-registry", charset="UTF-8"']);
  t.equal(await status('alice-pass-one'), 200);
  t.strictSame([await status('alice-pass-two'), await status('alice-pass-one', 'bob')], [401, 401]);
  t.equal((await client.send('GET', '/token', { headers: basic('alice', 'alice-pass-one') })).status, 404, 'there are no tokens');
  t.equal(
    (await client.send('POST', '/v2/any/thing/blobs/uploads/', { headers: basic('alice', 'alice-pass-one'), body: '' })).status,
    202,
    'without policies, whoever is logged in',
  );
  t.equal((await client.send('POST', '/v2/any/thing/blobs/uploads/', { body: '' })).status, 401);
  await write(`alice:${await hashOf('alice-pass-two')}\nbob:${await hashOf('bob-pass-one')}\n`);
  await until('the file was read again', async () => (await status('bob-pass-one', 'bob')) === 200);
  t.strictSame([await status('alice-pass-one'), await status('alice-pass-two')], [401, 200], 'also what was remembered is forgotten');
  await write('alice:plain\n');
  await until('it is told that the file is wrong', () => node.log().includes('htpasswd_file'));
  t.equal(await status('alice-pass-two'), 200, 'and its last good state goes on');
  t.notMatch(node.log(), /alice-pass|bob-pass|alice:plain/);
  await stopWireNode(node);
});

void t.test('a node of its own, with policies for nobody in particular', { buffered: true }, async (t) => {
  const root = await temporaryDirectory('alone-');
  const people = await settings();
  const alone = {
    identity: people['identity'],
    repository: people['repository'],
    server: { engine: 'node', external_url: 'https://registry.example/' },
  };
  let registry = await startRegistry({ root, config: alone });
  let client = new HttpClient(registry.port);
  const ping = await client.send('GET', '/v2/');
  t.equal(ping.headers['www-authenticate'], 'Bearer realm="https://registry.example/token",service="ha-registry"');
  const { token } = await getToken(client, basic('reader'), pull);
  const explained = await client.send('POST', '/api/v1/policy/explain', {
    headers: basic('admin'),
    body: '{"identity":"reader","action":"put-manifest","name":"team/app:v1"}',
  });
  t.match(jsonOf(explained), {
    allowed: false,
    rule: 'repository[0].policy_default_allow: false',
    identity: { id: 'reader', known: true },
  });
  client.close();
  await registry.stop();
  registry = await startRegistry({ root, config: alone });
  client = new HttpClient(registry.port);
  t.equal(
    (await client.send('GET', '/v2/team/app/tags/list', { headers: bearer(token) })).status,
    404,
    'its secret outlives it, and so do tokens',
  );
  client.close();
  await registry.stop();

  const nobody = await startWireNode('uws', { repository: [{ namespace: 'a', policies: ['request.action.startsWith("get-")'] }] });
  t.equal((await nobody.client.send('GET', '/v2/')).status, 200);
  t.equal((await nobody.client.send('GET', '/v2/a/b/manifests/v1')).status, 404);
  t.equal((await nobody.client.send('POST', '/v2/a/b/blobs/uploads/', { body: '' })).status, 403, 'there is nobody to log in as');
  t.equal((await nobody.client.send('GET', '/v2/c/manifests/v1')).status, 403);
  t.equal((await nobody.client.send('GET', '/metrics')).status, 200);
  t.equal(
    (await nobody.client.send('POST', '/api/v1/policy/explain', { headers: { 'X-Forwarded-For': '192.0.2.1' }, body: '{}' })).status,
    403,
  );
  await stopWireNode(nobody);
});
