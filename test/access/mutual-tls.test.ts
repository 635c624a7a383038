// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Client certificates over the wire, and certificates that change while connections last; the details are in certificates.test.ts. */
import { randomUUID } from 'node:crypto';
import { rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { TLSSocket } from 'node:tls';
import t, { type Test } from 'tap';
import { Wire } from '../http/wire.js';
import { Authority, serverAuthentication, type Issued } from '../support/authority.js';
import { startConfigured, type ConfiguredNode } from '../support/configured-node.js';
import { errorCode, HttpClient, jsonOf, type Exchange } from '../support/http-client.js';
import { temporaryDirectory } from '../support/registry.js';
import { bytesOf, digestOf, engines, until, type Engine, type Settings } from '../support/wire-suite.js';
import { basic, bearer, hashOf } from './people.js';

const [authority, stranger] = [await Authority.make('authority'), await Authority.make('stranger')];
const dev = [{ CN: ['laptop'] }, { O: ['Dev'] }];
const past = { from: new Date(Date.now() - 7_200_000), until: new Date(Date.now() - 3_600_000) };
const [server, renewed, ci, nobody, laptop, expired, foreign, wrongUsage] = await Promise.all([
  authority.issueServer('server'),
  authority.issueServer('renewed'),
  authority.issue('CN=ci'),
  authority.issue('CN=nobody'),
  authority.issue(dev),
  authority.issue('CN=ci', past),
  stranger.issue('CN=ci'),
  authority.issue('CN=ci', { usages: [serverAuthentication] }),
]);

t.jobs = 2;
for (const engine of engines) {
  void t.test(`${engine}: identities`, { buffered: true }, (t) => identities(t, engine));
  void t.test(`${engine}: renewal`, { buffered: true }, (t) => renewal(t, engine));
}

interface Files {
  readonly certificate: string;
  readonly key: string;
  readonly authorities: string;
  readonly list: string;
}

async function makeFiles(): Promise<Files> {
  const directory = await temporaryDirectory('mutual-tls-');
  const file = (name: string) => path.join(directory, name);
  const files = { certificate: file('server.crt'), key: file('server.key'), authorities: file('authorities.pem'), list: file('list.pem') };
  await writeFile(files.certificate, server.cert);
  await writeFile(files.key, server.key);
  await writeFile(files.authorities, authority.pem);
  await writeFile(files.list, (await authority.list()).pem);
  return files;
}

async function settingsOf(files: Files, tls: object = {}, more: object = {}): Promise<Settings> {
  return {
    server: {
      tls: {
        server_certificate_bundle: files.certificate,
        server_private_key: files.key,
        client_ca_bundle: files.authorities,
        client_crl_file: files.list,
        ...tls,
      },
    },
    access: { token: { secret: 'secret-of-the-tokens-77d0' } },
    identity: { alice: { password: await hashOf('alice-pass-31c9') } },
    repository: [
      { namespace: 'team', policies: ['"ci" in identity.certificate.common_names'] },
      { namespace: 'both', policies: ['identity.id == "alice" && "Dev" in identity.certificate.organizations'] },
    ],
    ...more,
  };
}

/** A client that keeps its connection, with or without a certificate. */
function clientOf(t: Test, { port }: ConfiguredNode, certificate?: Issued): HttpClient {
  const client = new HttpClient(port, authority.pem, certificate);
  t.teardown(() => client.close());
  return client;
}

async function statusOf(client: HttpClient, target: string, exchange: Exchange = {}): Promise<number | string> {
  return client.send('GET', target, exchange).then(
    ({ status }) => status,
    () => 'no connection',
  );
}

async function identities(t: Test, engine: Engine): Promise<void> {
  const files = await makeFiles();
  const node = await startConfigured(t, engine, await settingsOf(files));
  const [none, machine, other, person] = [undefined, ci, nobody, laptop].map((shown) => clientOf(t, node, shown)) as [
    HttpClient,
    HttpClient,
    HttpClient,
    HttpClient,
  ];
  const asAlice = { headers: basic('alice', 'alice-pass-31c9') };

  const first = await none.send('GET', '/v2/');
  t.strictSame([first.status, first.headers['www-authenticate']?.slice(0, 7)], [401, 'Bearer '], 'without a certificate one may log in');
  t.equal(await statusOf(none, '/v2/team/tags/list'), 401);
  t.equal(await statusOf(machine, '/v2/'), 200, 'a certificate is a login');
  const layer = bytesOf(100_000, engine);
  const pushed = await machine.send('POST', `/v2/team/blobs/uploads/?digest=${digestOf(layer)}`, { body: layer });
  t.equal(pushed.status, 201, 'policies know it');
  t.ok((await machine.send('GET', `/v2/team/blobs/${digestOf(layer)}`)).body.equals(layer), 'and pulls');
  t.equal(await statusOf(other, '/v2/team/tags/list'), 403, 'who is somebody else may not');
  t.equal(await statusOf(other, '/v2/team/tags/list', asAlice), 403, 'also not with a password');

  t.equal(await statusOf(none, '/v2/both/tags/list', asAlice), 403, 'a password without the certificate');
  t.equal(await statusOf(person, '/v2/both/tags/list'), 403, 'the certificate without a password');
  t.equal(await statusOf(person, '/v2/both/tags/list', asAlice), 404, 'a policy may demand both');
  const forBoth = await ask(person, 'repository:both:pull,push', asAlice);
  t.equal(forBoth.scope, 'repository:both:pull,push');
  t.ok(forBoth.refresh_token, 'who has a password gets a refresh token');
  const withToken = { headers: bearer(forBoth.token) };
  t.equal(await statusOf(person, '/v2/both/tags/list', withToken), 404);
  t.equal(await statusOf(other, '/v2/both/tags/list', withToken), 403, 'a token does not bring a certificate along');
  const forTeam = await ask(machine, 'repository:team:pull,push');
  t.equal(forTeam.scope, 'repository:team:pull,push', 'a certificate gets tokens');
  t.equal(forTeam.refresh_token, undefined, 'and no refresh tokens, since it can be shown again');
  t.equal(await statusOf(machine, '/v2/team/tags/list', { headers: bearer(forTeam.token) }), 200);
  t.equal(await statusOf(none, '/v2/team/tags/list', { headers: bearer(forTeam.token) }), 403);
  t.equal((await ask(none, 'repository:team:pull')).scope, '', 'anonymous is nobody');

  for (const [what, certificate] of [
    ['of another authority', foreign],
    ['expired', expired],
    ['not for clients', wrongUsage],
  ] as const)
    t.equal(await statusOf(clientOf(t, node, certificate), '/v2/'), 'no connection', `a certificate that is ${what}`);

  await writeFile(files.list, (await authority.list({ revoked: [ci] })).pem);
  await until('it is revoked, on the connection that there is', async () => (await statusOf(machine, '/v2/team/tags/list')) === 403);
  const refused = await machine.send('GET', '/v2/');
  t.strictSame(
    [refused.status, errorCode(refused), refused.headers.connection],
    [403, 'DENIED', 'close'],
    'a revoked certificate is not nobody',
  );
  for (const target of ['/token', '/v2/nowhere/else', '/nowhere']) t.equal(await statusOf(machine, target), 403, target);
  t.equal(await statusOf(machine, '/v2/', asAlice), 403, 'also with a password');
  t.equal(await statusOf(other, '/v2/'), 200, 'others count');

  t.equal(await node.reload(await settingsOf(files, { client_certificate: 'required' })), 'taken');
  for (const target of ['/v2/', '/token', '/metrics', '/nowhere'])
    t.equal(await statusOf(none, target, asAlice), 403, `required: ${target}`);
  t.equal((await none.send('OPTIONS', '/v2/')).status, 403);
  for (const target of ['/livez', '/readyz']) t.equal(await statusOf(none, target), 200, 'but for probes');
  t.equal(await statusOf(person, '/v2/both/tags/list', asAlice), 404);
  t.equal(await statusOf(other, '/v2/'), 200);

  const unnamed = { access: { token: { secret: 'secret-of-the-tokens-77d0' }, certificate: { id_from: 'none' } } };
  t.equal(await node.reload(await settingsOf(files, {}, unnamed)), 'taken');
  t.equal(await statusOf(person, '/v2/'), 401, 'where certificates name nobody, one has to log in');
  t.equal(await statusOf(person, '/v2/both/tags/list', asAlice), 404, 'and policies see both');

  await writeFile(files.authorities, stranger.pem);
  await writeFile(files.list, (await stranger.list()).pem);
  t.equal(await node.reload(await settingsOf(files)), 'taken');
  t.equal(await statusOf(other, '/v2/'), 403, 'an authority that was removed counts for nothing, on the connection that there is');
  t.equal(await statusOf(clientOf(t, node, foreign), '/v2/'), 200, 'another one counts');
  t.equal(await statusOf(clientOf(t, node, nobody), '/v2/'), 'no connection');
  for (const secret of ['alice-pass-31c9', forBoth.token, forTeam.token]) t.notOk(node.log().includes(secret), 'no secret in the log');
}

async function renewal(t: Test, engine: Engine): Promise<void> {
  const files = await makeFiles();
  const settings = await settingsOf(files);
  const node = await startConfigured(t, engine, settings);
  const seen = async (): Promise<string> => {
    const wire = await Wire.open(node.port, {});
    const { subject } = (wire.socket as TLSSocket).getPeerCertificate();
    await wire.request('GET /livez');
    const status = (await wire.response())?.status;
    wire.socket.destroy();
    return `${String(subject.CN)} ${status}`;
  };
  t.equal(await seen(), 'server 200');
  const machine = clientOf(t, node, ci);
  const layer = bytesOf(2_000_000, engine);
  const opened = await machine.send('POST', '/v2/team/blobs/uploads/', { body: '' });
  const upload = machine.open('PUT', `${opened.headers.location}?digest=${digestOf(layer)}`, { 'Content-Length': String(layer.length) });
  upload.request.write(layer.subarray(0, 1_000_000));

  await replace(files.key, renewed.key);
  await until('that half of a pair is there is told', () => node.log().includes('does not belong to certificate'));
  t.equal(await seen(), 'server 200', 'and what was before goes on');
  t.equal(await node.reload(settings), 'refused', 'also when it is read again');
  await replace(files.certificate, renewed.cert);
  await until('the pair is taken', async () => (await seen()) === 'renewed 200');
  upload.request.end(layer.subarray(1_000_000));
  t.equal((await upload.answer).status, 201, 'an upload on the connection that there was goes on');

  const elsewhere = await makeFiles();
  t.equal(await node.reload(await settingsOf(elsewhere)), 'taken');
  t.equal(await seen(), 'server 200', 'files of another name, by SIGHUP');
  await writeFile(elsewhere.authorities, 'no authority');
  const before = node.log().length;
  t.equal(await node.reload(await settingsOf(elsewhere, {}, { identity: {} })), 'refused');
  t.match(node.log().slice(before), /refused.*registry\.yaml:\d+: server\.tls\.client_ca_bundle: /, 'with place and cause');
  t.equal(await statusOf(machine, '/v2/', { headers: basic('alice', 'alice-pass-31c9') }), 200, 'and nothing of it holds');
}

async function ask(client: HttpClient, scope: string, exchange: Exchange = {}) {
  return jsonOf<{ token: string; scope: string; refresh_token?: string }>(
    await client.send('GET', `/token?offline_token=true&scope=${scope}`, exchange),
  );
}

async function replace(file: string, content: string): Promise<void> {
  const other = `${file}.${randomUUID()}`;
  await writeFile(other, content);
  await rename(other, file);
}
