// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The audit log: what it tells of whom, and how its lines reach a file. */
import { execFileSync } from 'node:child_process';
import { appendFile, readFile, rename, stat } from 'node:fs/promises';
import path from 'node:path';
import t, { type Test } from 'tap';
import { openAuditFile } from '../../src/audit/line-targets.js';
import { LineWriter } from '../../src/audit/line-writer.js';
import { jsonOf } from '../support/http-client.js';
import { startRegistry, temporaryDirectory } from '../support/registry.js';
import { parseExposition } from '../support/exposition.js';
import { digestOf, engines, imageOf, startWireNode, stopWireNode, types, until, type Engine } from '../support/wire-suite.js';
import { basic, bearer, settings } from './people.js';

type Line = Readonly<Record<string, unknown>>;

async function linesOf(file: string): Promise<Line[]> {
  const text = await readFile(file, 'utf8').catch(() => '');
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Line);
}

/** The line of a request that was sent under this id. */
function lineOf(file: string, id: string): Promise<Line> {
  return until(`the line of ${id}`, async () => (await linesOf(file)).find(({ requestId }) => requestId === id));
}

t.jobs = 2;
for (const engine of engines) void t.test(engine, { buffered: true }, (t) => whoDidWhat(t, engine));

async function whoDidWhat(t: Test, engine: Engine): Promise<void> {
  const file = path.join(await temporaryDirectory('audit-'), 'audit.log');
  const node = await startWireNode(engine, {
    ...(await settings()),
    audit: { file },
    server: { trusted_proxies: '127.0.0.1' },
  });
  t.teardown(() => stopWireNode(node));
  const { client } = node;
  let sent = 0;
  const send = async (method: string, target: string, exchange: Parameters<typeof client.send>[2] = {}) => {
    const id = `audited-${++sent}`;
    const headers = { 'X-Request-Id': id, 'X-Forwarded-For': '192.0.2.7', ...exchange.headers };
    return { id, answer: await client.send(method, target, { ...exchange, headers }) };
  };
  const told = async (method: string, target: string, exchange?: Parameters<typeof client.send>[2]) => {
    const { id, answer } = await send(method, target, exchange);
    const { time, requestId, remoteAddress, ...line } = await lineOf(file, id);
    t.match([time, requestId, remoteAddress], [/^\d{4}-\d\d-\d\dT/, id, '192.0.2.7']);
    t.equal(line['status'], answer.status);
    return line;
  };
  const blob = `/v2/team/app/blobs/${digestOf('layer')}`;

  await t.test('what was pushed and deleted', async (t) => {
    const writer = { identity: 'writer', source: 'identity', outcome: 'allowed' };
    const rule = 'repository[0].policies[0]: identity.id == "writer" || "admin" in identity.groups';
    for (const bytes of ['{}', 'layer']) {
      t.strictSame(await told('POST', `/v2/team/app/blobs/uploads/?digest=${digestOf(bytes)}`, { headers: basic('writer'), body: bytes }), {
        ...writer,
        method: 'POST',
        action: 'put-blob',
        resource: 'uploads',
        repository: 'team/app',
        status: 201,
        rule,
      });
    }
    const headers = { ...basic('writer'), 'Content-Type': types.manifest };
    const pushed = await told('PUT', '/v2/team/app/manifests/v1', { headers, body: imageOf(['layer']) });
    t.match(pushed, { ...writer, action: 'put-manifest', repository: 'team/app', reference: 'v1', status: 201, rule });
    const mounted = await told('POST', `/v2/team/two/blobs/uploads/?mount=${digestOf('layer')}&from=team/app`, { headers, body: '' });
    t.match(mounted, { ...writer, action: 'mount-blob', repository: 'team/two', from: 'team/app', digest: digestOf('layer'), status: 201 });
    const deleted = await told('DELETE', '/v2/team/app/manifests/v1', { headers });
    t.match(deleted, { ...writer, action: 'delete-manifest', reference: 'v1', status: 202, rule });
  });

  await t.test('who was not allowed to', async (t) => {
    const denied = await told('DELETE', blob, { headers: basic('reader') });
    const rule = 'repository[0].policy_default_allow: false';
    t.match(denied, { identity: 'reader', outcome: 'denied', action: 'delete-blob', digest: digestOf('layer'), status: 403, rule });
    t.match(await told('GET', blob), { identity: '', outcome: 'denied', action: 'get-blob', status: 401, rule });
    t.match(await told('GET', '/metrics', { headers: basic('reader') }), {
      action: 'admin',
      outcome: 'denied',
      rule: 'access.admin: none is true',
    });
    const foreign = { headers: { ...basic('writer'), Origin: 'https://evil.example', 'Sec-Fetch-Site': 'cross-site' } };
    t.match(await told('DELETE', blob, foreign), { outcome: 'denied', status: 403, rule: 'server.allowed_origins' });
    const mount = `/v2/other/app/blobs/uploads/?mount=${digestOf('layer')}&from=team/app`;
    t.match(await told('POST', mount, { headers: basic('stranger'), body: '' }), {
      outcome: 'allowed',
      status: 202,
      refused: /^get-blob team\/app: repository\[0\]/,
    });
    const tags = `/v2/tags/app/manifests/${digestOf('{}')}?tag=fine&tag=secret`;
    const refused = { headers: { ...basic('reader'), 'Content-Type': types.manifest }, body: '{}' };
    t.match(await told('PUT', tags, refused), { outcome: 'denied', status: 403, rule: /^put-manifest tags\/app: repository\[3\]/ });
  });

  await t.test('whose login failed, and why', async (t) => {
    const failed = { outcome: 'denied', status: 401, rule: 'a login that failed' };
    const wrong = await told('GET', '/v2/', { headers: basic('writer', 'wrong') });
    t.match(wrong, { ...failed, identity: 'writer', reason: 'wrong password' });
    t.equal(wrong['source'], undefined);
    t.match(await told('GET', '/token', { headers: basic('nobody', 'x') }), {
      ...failed,
      identity: 'nobody',
      action: 'issue-token',
      reason: 'unknown name',
    });
    t.match(await told('GET', blob, { headers: bearer('e30.e30.e30') }), { ...failed, identity: '', reason: /^no token/ });
    const body = new URLSearchParams({ grant_type: 'refresh_token', refresh_token: 'e30.e30.e30' }).toString();
    t.match(await told('POST', '/token', { body }), { ...failed, reason: /refresh token/ });
    const [one, two] = [
      await send('GET', '/v2/', { headers: basic('writer', 'wrong') }),
      await send('GET', '/v2/', { headers: basic('nobody', 'x') }),
    ];
    t.equal(one.answer.body.toString(), two.answer.body.toString(), 'the client is told the same');
  });

  await t.test('tokens', async (t) => {
    const scope = 'repository:team/app:pull,push';
    const target = `/token?scope=${encodeURIComponent(scope)}`;
    t.match(await told('GET', target, { headers: basic('reader') }), {
      identity: 'reader',
      source: 'identity',
      action: 'issue-token',
      outcome: 'allowed',
      scope: 'repository:team/app:pull',
    });
    const { token } = jsonOf<{ token: string }>((await send('GET', target, { headers: basic('reader') })).answer);
    const other = await told('GET', '/v2/team/two/manifests/v1', { headers: bearer(token) });
    t.match(other, { identity: 'reader', source: 'token', outcome: 'denied', rule: 'the token is not for this' });
  });

  await t.test('what is not told', async (t) => {
    const quiet = [
      await send('GET', '/v2/'),
      await send('GET', '/livez'),
      await send('GET', blob, { headers: basic('reader') }),
      await send('GET', '/v2/team/app/tags/list', { headers: basic('reader') }),
      await send('POST', '/v2/team/app/blobs/uploads/', { headers: basic('writer'), body: '' }),
    ];
    t.strictSame(
      quiet.map(({ answer }) => answer.status),
      [401, 200, 200, 200, 202],
    );
    const { id } = await send('GET', blob);
    await lineOf(file, id);
    const ids = quiet.map((one) => one.id);
    t.strictSame(
      (await linesOf(file)).filter(({ requestId }) => ids.includes(String(requestId))),
      [],
    );
  });

  await t.test('the file', async (t) => {
    t.equal((await stat(file)).mode & 0o777, 0o640);
    const before = (await linesOf(file)).length;
    await rename(file, `${file}.1`);
    const { id } = await send('GET', blob);
    await lineOf(file, id);
    t.equal((await linesOf(`${file}.1`)).length, before, 'what was renamed is left alone');
    const { body } = await client.send('GET', '/metrics', { headers: basic('admin') });
    const counted = (name: string) => parseExposition(body.toString(), 'text').get(name)?.samples.get(`${name}{}`) ?? -1;
    t.ok(counted('registry_audit_lines_total') > before);
    t.equal(counted('registry_audit_lost_lines_total'), 0);
  });
}

void t.test('all, on standard output; what waits is written at the end', { buffered: true }, async (t) => {
  const node = await startWireNode('node', { ...(await settings()), audit: { stdout: true, grants: 'all' } });
  for (const target of ['/v2/', '/v2/public/app/tags/list']) await node.client.send('GET', target);
  await stopWireNode(node);
  const lines = node
    .log()
    .split('\n')
    .filter((line) => line.includes('"outcome"'));
  t.match(
    lines.map((line) => JSON.parse(line) as Line),
    [
      { action: 'get-api-version', outcome: 'denied', status: 401, rule: 'whoever is logged in' },
      { action: 'list-tags', repository: 'public/app', outcome: 'allowed', rule: /^repository\[2\]/ },
    ],
  );
});

void t.test('a pipe that nobody reads is not waited for', async (t) => {
  const pipe = path.join(await temporaryDirectory('audit-'), 'pipe');
  execFileSync('mkfifo', [pipe]);
  await t.rejects(openAuditFile(pipe), { code: 'ENXIO' });
});

void t.test('a file that cannot be opened ends the start', { buffered: true }, async (t) => {
  const config = { audit: { file: '/proc/nowhere/audit.log' } };
  await t.rejects(startRegistry({ config }), { message: /the audit log cannot be opened \(audit\.file\): ENOENT/ });
});

void t.test('a disk that is full', async (t) => {
  const file = path.join(await temporaryDirectory('audit-'), 'audit.log');
  const target = await openAuditFile(file);
  const problems: unknown[] = [];
  let full = false;
  let most = Infinity;
  const writer = new LineWriter(
    {
      ...target,
      write(bytes) {
        if (full) return Promise.reject(Object.assign(new Error('no space'), { code: 'ENOSPC' }));
        return target.write(bytes.subarray(0, most));
      },
    },
    (error) => problems.push(error),
  );
  writer.write('one\n');
  await writer.flush();
  full = true;
  writer.write('two\n');
  for (let round = 0; round < 3; round++) await writer.flush();
  t.equal(problems.length, 1, 'is told once');
  const large = `${'x'.repeat(1024 * 1024)}\n`;
  for (let count = 0; count < 10; count++) writer.write(large);
  t.equal(writer.lost, 3, 'what is too much for the memory is lost, and counted');
  full = false;
  most = 700_000;
  await writer.flush();
  const text = await readFile(file, 'utf8');
  t.strictSame([text.slice(0, 8), text.length], ['one\ntwo\n', 8 + 7 * large.length], 'the rest is written in order, also in pieces');
  full = true;
  writer.write('three\n');
  await writer.flush();
  t.equal(problems.length, 2, 'and told again after it went well');
  await appendFile(file, '');
  await writer.close();
  t.equal(writer.lost, 4);
});
