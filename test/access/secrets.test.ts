// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Nothing secret is ever told: every kind of credential is used, right and wrong, with everything logged that can be, and then looked for in all that came out. */
import { readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import t, { type Test } from 'tap';
import { jsonOf, type Answer, type Exchange } from '../support/http-client.js';
import { ha } from '../support/program.js';
import { temporaryDirectory } from '../support/registry.js';
import { digestOf, engines, startWireNode, stopWireNode, type Engine } from '../support/wire-suite.js';
import { basic, bearer, passwords, settings } from './people.js';

/** A form as clients send it. */
const form = (values: Record<string, string>): Exchange => ({
  headers: { 'Content-Type': 'application/x-www-form-urlencoded' },
  body: new URLSearchParams(values).toString(),
});

/** Where a secret stands in a text, also in the forms in which it travels. */
function leaks(secrets: ReadonlyMap<string, string>, text: string): string[] {
  return [...secrets].flatMap(([what, secret]) => {
    const forms = [secret, encodeURIComponent(secret), Buffer.from(secret).toString('base64').replace(/=+$/, '')];
    return forms.some((form) => text.includes(form)) ? [what] : [];
  });
}

async function openCollector(t: Test): Promise<{ readonly endpoint: string; readonly received: () => string }> {
  const bodies: string[] = [];
  const server = createServer((request, response) => {
    request.on('data', (piece: Buffer) => bodies.push(piece.toString()));
    request.on('end', () => response.end('{}'));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  return { endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, received: () => bodies.join('') };
}

t.jobs = 2;
for (const engine of engines) void t.test(engine, { buffered: true }, (t) => everyCredential(t, engine));

async function everyCredential(t: Test, engine: Engine): Promise<void> {
  const auditFile = path.join(await temporaryDirectory('audit-'), 'audit.log');
  const collector = await openCollector(t);
  const secrets = new Map<string, string>(Object.entries(passwords));
  secrets.set('the secret of the tokens', 'secret-of-the-tokens-91c2').set('a header of the tracing', 'otlp-secret-5b1d77');
  const node = await startWireNode(engine, {
    ...(await settings()),
    log: { level: 'trace', requests: 'all' },
    audit: { file: auditFile, stdout: true, grants: 'all' },
    tracing: { endpoint: collector.endpoint, headers: { Authorization: 'otlp-secret-5b1d77' } },
  });
  const said: string[] = [];
  const send = async (method: string, target: string, exchange: Exchange = {}): Promise<Answer> => {
    const answer = await node.client.send(method, target, exchange);
    // What was asked for may hold it: a token that was issued.
    if (!target.startsWith('/token') || answer.status !== 200) said.push(JSON.stringify(answer.headers), answer.body.toString());
    return answer;
  };
  const secret = (what: string, value: string): string => {
    secrets.set(what, value);
    return value;
  };
  const statuses: number[] = [];
  const expect = async (status: number, method: string, target: string, exchange?: Exchange): Promise<Answer> => {
    const answer = await send(method, target, exchange);
    statuses.push(answer.status);
    t.equal(answer.status, status, `${method} ${target.slice(0, 40)}`);
    return answer;
  };

  const wrong = secret('a wrong password', 'wrong-pass-e0aa31');
  await expect(200, 'GET', '/v2/', { headers: basic('reader') });
  await expect(401, 'GET', '/v2/', { headers: basic('reader', wrong) });
  await expect(401, 'GET', '/v2/', { headers: basic('nobody', wrong) });
  await expect(401, 'GET', '/token', { headers: basic('reader', wrong) });
  await expect(401, 'GET', '/v2/', { headers: { Authorization: `Basic ${secret('Basic that is none', 'bm8tY29sb24taGVyZS03N2Zm')}` } });
  await expect(401, 'GET', '/v2/', { headers: { Authorization: `Digest ${secret('another scheme', 'digest-secret-90d1c4')}` } });
  await expect(401, 'POST', '/token', form({ grant_type: 'password', username: 'reader', password: wrong }));
  await expect(400, 'POST', '/token', form({ grant_type: 'other', password: secret('a form that is none', 'form-pass-7b2c90') }));
  const granted = await expect(
    200,
    'POST',
    '/token',
    form({
      grant_type: 'password',
      username: 'writer',
      password: passwords.writer,
      access_type: 'offline',
      scope: 'repository:team/app:pull,push',
    }),
  );
  const { token, refresh_token: refresh } = jsonOf<{ token: string; refresh_token: string }>(granted);
  secret('a token', token);
  secret('the signature of a token', token.split('.')[2] ?? '');
  secret('a refresh token', refresh);
  secret('the signature of a refresh token', refresh.split('.')[2] ?? '');
  const tampered = secret('a tampered token', `${token.slice(0, -6)}AAAAAA`);
  await expect(200, 'POST', '/token', form({ grant_type: 'refresh_token', refresh_token: refresh }));
  await expect(
    401,
    'POST',
    '/token',
    form({ grant_type: 'refresh_token', refresh_token: secret('a tampered refresh token', `${refresh.slice(0, -6)}AAAAAA`) }),
  );
  await expect(401, 'POST', '/token', form({ grant_type: 'refresh_token', refresh_token: token }));
  await expect(201, 'POST', `/v2/team/app/blobs/uploads/?digest=${digestOf('{}')}`, { headers: bearer(token), body: '{}' });
  await expect(404, 'GET', '/v2/team/app/manifests/none', { headers: bearer(token) });
  await expect(401, 'GET', '/v2/other/app/manifests/none', { headers: bearer(token) });
  await expect(401, 'GET', '/v2/team/app/manifests/none', { headers: bearer(tampered) });
  await expect(401, 'GET', '/v2/team/app/manifests/none', { headers: bearer(refresh) });
  // Where they do not belong.
  const query = secret('a password in a query', 'query-pass-41f0b6');
  await expect(401, 'GET', `/v2/team/app/tags/list?token=${token}&password=${query}`);
  await expect(200, 'GET', `/token?refresh_token=${refresh}&password=${query}&account=reader`);
  await expect(401, 'POST', `/v2/team/app/blobs/uploads/?mount=${query}&from=${query}`, { body: '' });
  await expect(400, 'POST', '/api/v1/policy/explain', {
    headers: basic('admin'),
    body: `{"action":"admin","password":"${secret('a body', 'body-pass-2c9e15')}"}`,
  });
  await expect(204, 'POST', '/api/v1/tokens/revoke', { headers: basic('admin'), body: '{"identity":"writer"}' });
  await expect(401, 'POST', '/token', form({ grant_type: 'refresh_token', refresh_token: refresh }));
  const metrics = await expect(200, 'GET', '/metrics', { headers: basic('admin') });
  await stopWireNode(node);

  const audit = await readFile(auditFile, 'utf8');
  t.ok(audit.split('\n').length >= statuses.length, 'the audit log has them all');
  t.match(collector.received(), 'team/app', 'the traces, too');
  t.match(node.log(), /"route":"token"/, 'and the log');
  const places = {
    'the log': node.log(),
    'the audit log': audit,
    'the metrics': metrics.body.toString(),
    'a reply': said.join('\n'),
    'the traces': collector.received(),
  };
  for (const [place, text] of Object.entries(places)) t.strictSame(leaks(secrets, text), [], place);
}

void t.test('nor by a node that does not start', { buffered: true }, async (t) => {
  const secrets = new Map([
    ['the password of the database', 'database-pass-6d08e1'],
    ['the secret of the bucket', 'bucket-secret-a47c52'],
    ['the secret of the tokens', 'token-secret-of-config-3e'],
    ['a hash', '$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$hash-that-is-no-hash'],
  ]);
  const [database = '', bucket = '', tokens = '', hash = ''] = secrets.values();
  const url = `postgres://someone:${database}@127.0.0.1:1/none`;
  const s3 = { bucket: 'some-bucket', endpoint: 'http://127.0.0.1:1', credentials: { access_key_id: 'key', secret_access_key: bucket } };
  const configurations: readonly (readonly [code: number, config: object])[] = [
    [1, { database: { url } }],
    [1, { database: { url }, storage: { s3 } }],
    [2, { database: { url: `mysql://someone:${database}@host/db` } }],
    [2, { database: { url, urls: [url] } }],
    [2, { storage: { s3: { ...s3, credentials: { ...s3.credentials, secret_access_key_file: '/none' } } } }],
    [2, { storage: { s3: { ...s3, secret: bucket } } }],
    [2, { identity: { ci: { password: hash } }, access: { token: { secret: tokens } } }],
    [2, { access: { token: { secret: [tokens] } } }],
  ];
  for (const [code, config] of configurations) {
    const root = await temporaryDirectory('secrets-');
    const file = path.join(root, 'registry.yaml');
    await writeFile(file, JSON.stringify({ log: { level: 'trace' }, ...config }, undefined, 2));
    const ending = await ha(['serve', '--config', file, '--root', root, '-p', '0']);
    t.equal(ending.code, code, ending.stderr);
    t.strictSame(leaks(secrets, ending.stdout + ending.stderr), [], JSON.stringify(Object.keys(config)));
  }
});
