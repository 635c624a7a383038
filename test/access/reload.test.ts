// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Another configuration for a program that goes on: SIGHUP, and files that change by themselves. */
import path from 'node:path';
import t, { type Test } from 'tap';
import { LiveAccess } from '../../src/access/live-access.js';
import type { Access } from '../../src/access/open-access.js';
import { startConfigured } from '../support/configured-node.js';
import { HttpClient, jsonOf } from '../support/http-client.js';
import {
  bytesOf,
  digestOf,
  engines,
  startWireNode,
  stopWireNode,
  until,
  withDigest,
  type Engine,
  type Settings,
} from '../support/wire-suite.js';
import { Wire } from '../http/wire.js';
import { basic, bearer, hashOf, settings } from './people.js';

t.jobs = 2;
for (const engine of engines) void t.test(`${engine}: SIGHUP`, { buffered: true }, (t) => onSignal(t, engine));

async function onSignal(t: Test, engine: Engine): Promise<void> {
  const first = (await settings()) as Settings & {
    identity: Record<string, object>;
    repository: { namespace: string; policies: string[] }[];
  };
  const node = await startConfigured(t, engine, first);
  const client = new HttpClient(node.port);
  t.teardown(() => client.close());
  const statusOf = async (person: string, target: string, password?: string) =>
    (await client.send('GET', target, { headers: basic(person, password) })).status;
  t.strictSame([await statusOf('reader', '/v2/team/tags/list'), await statusOf('stranger', '/v2/team/tags/list')], [404, 403], 'before');
  const { token } = jsonOf<{ token: string }>(await client.send('GET', '/token?scope=repository:team:pull', { headers: basic('reader') }));

  const content = bytesOf(3_000_000, engine);
  const session = await openSessionAs(client, 'writer');
  const upload = client.open('PUT', withDigest(session, digestOf(content)), {
    ...basic('writer'),
    'Content-Length': String(content.length),
  });
  upload.request.write(content.subarray(0, 1_000_000));
  const idle = await Wire.open(node.port);
  await idle.request('GET /livez');
  t.equal((await idle.response())?.status, 200, 'a connection that is kept');

  const { reader: _gone, ...others } = first.identity;
  const second: Settings = {
    ...first,
    identity: { ...others, guest: { password: await hashOf('guest-pass-8d21') } },
    repository: [...first.repository, { namespace: 'guests', policies: ['identity.id == "guest"'] }],
    manifests: { max_size: '1MiB' },
    server: { shutdown_delay: '100ms' },
    log: { level: 'info', requests: 'all' },
    limits: { failed_logins: { per_username: { rate: '1/10m' } } },
  };
  t.equal(await node.reload(second), 'taken');
  t.match(
    node.log(),
    /only from the next start on: server\.shutdown_delay, manifests\.max_size, log\.requests"/,
    'what has to wait is told',
  );
  t.equal(await statusOf('reader', '/v2/team/tags/list'), 401, "a removed identity's password is worth nothing at once");
  const withToken = await client.send('GET', '/v2/team/tags/list', { headers: bearer(token) });
  t.equal(withToken.status, 404, 'its token counts until it ends');
  t.strictSame(
    [await statusOf('guest', '/v2/guests/tags/list', 'guest-pass-8d21'), await statusOf('writer', '/v2/guests/tags/list')],
    [404, 403],
    'new identities and policies hold',
  );
  const large = await client.send('PUT', '/v2/team/manifests/large', { headers: basic('writer'), body: 'x'.repeat(2_000_000) });
  t.not(large.status, 413, 'what waits for a start does not hold yet');
  upload.request.end(content.subarray(1_000_000));
  t.equal((await upload.answer).status, 201, 'an upload that had begun goes on');
  await idle.request('GET /livez');
  t.equal((await idle.response())?.status, 200, 'and so does the connection');
  idle.socket.destroy();

  for (const [what, text, cause] of [
    ['an unknown key', 'log:\n  level: warn\nserfer: {}\n', /refused.*registry\.yaml:3: serfer: unknown setting/],
    ['a bad policy', 'access:\n  admin: ["1 +"]\n', /refused.*registry\.yaml:2:\d+: access\.admin/],
    ['nobody to be', JSON.stringify({ server: { bind_address: '0.0.0.0' } }), /refused.*server\.bind_address/],
    ['nobody to be any more', '', /refused.*identity: nobody could be told from anybody/],
  ] as const) {
    const before = node.log().length;
    t.equal(await node.reloadText(text), 'refused', what);
    const said = node.log().slice(before).trim();
    t.match(said, cause);
    t.equal(said.split('\n').length, 1, 'in one line');
  }
  t.equal(await statusOf('guest', '/v2/guests/tags/list', 'guest-pass-8d21'), 404, 'and what was before goes on');
  const wrong = () => statusOf('phantom', '/v2/guests/tags/list', 'wrong-pass');
  t.strictSame([await wrong(), await wrong()], [401, 429], 'limits are the new ones');
  t.equal(await node.reload(first), 'taken', 'a good one is taken after bad ones');
  t.equal(await statusOf('reader', '/v2/team/tags/list'), 200, 'and holds');
}

async function openSessionAs(client: HttpClient, person: string): Promise<string> {
  const answer = await client.send('POST', '/v2/team/blobs/uploads/', { headers: basic(person), body: '' });
  return String(answer.headers.location);
}

void t.test('what a reload replaces is closed after its last request', async (t) => {
  const closed: string[] = [];
  const named = (name: string): Access => ({ close: () => Promise.resolve(void closed.push(name)) }) as unknown as Access;
  const live = new LiveAccess(named('first'), (error) => t.fail(String(error)));
  const [some, another] = [live.enter(), live.enter()];
  live.replace(named('second'));
  live.leave(some);
  t.strictSame(closed, [], 'one of its requests goes on');
  live.leave(another);
  t.strictSame(closed, ['first']);
  live.replace(named('third'));
  t.strictSame(closed, ['first', 'second'], 'at once where there is none');
  live.enter();
  live.replace(named('fourth'));
  await live.close();
  t.strictSame(closed, ['first', 'second', 'third', 'fourth'], 'all of them at the end');
});

void t.test('a SIGHUP that comes before most of the program is there', { buffered: true }, async (t) => {
  const hook = path.resolve(import.meta.dirname, '../support/hang-up-early.mjs');
  const node = await startWireNode('node', { log: { level: 'info' } }, { nodeArguments: ['--import', hook] });
  t.teardown(() => stopWireNode(node));
  await until('it is read again', () => node.log().includes('holds from now on'));
});
