// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** How much somebody may ask, and how often they may be wrong. */
import t, { type Test } from 'tap';
import { openFailedLogins } from '../../src/limits/failed-logins.js';
import { RateLimiter } from '../../src/limits/rate-limiter.js';
import { addressKey } from '../../src/limits/too-many.js';
import type { Request } from '../../src/http/contract.js';
import { parseExposition } from '../support/exposition.js';
import { errorCode, jsonOf, type Answer, type Exchange } from '../support/http-client.js';
import { onBothEngines, startWireNode, stopWireNode, type WireNode } from '../support/wire-suite.js';
import { basic, bearer, settings } from './people.js';

void t.test('a bucket', async (t) => {
  let now = 1_000;
  const limiter = new RateLimiter({ count: 3, perMs: 1_000, burst: 6 }, () => now);
  const taken = () => Array.from({ length: 20 }, () => limiter.take('a')).filter((waitMs) => waitMs === 0).length;
  t.equal(taken(), 6, 'the burst');
  t.ok(Math.abs(limiter.take('a') - 333.3) < 1, 'and when there is one again');
  t.equal(limiter.take('b'), 0, 'of others another one');
  now += 999;
  t.equal(taken(), 2, 'two and nearly three');
  now += 1;
  t.equal(taken(), 1);
  now += 60_000;
  t.equal(taken(), 6, 'never more than the burst');
  for (let back = 0; back < 2; back++) limiter.giveBack('a');
  t.equal(taken(), 2, 'what was given back');
  for (let key = 0; key < 50_000; key++) limiter.take(`other ${key}`);
  t.equal(limiter.take('a'), 0, 'who was seen longest ago is forgotten: memory is bounded');
});

void t.test('an address of IPv6 counts for its network', (t) => {
  for (const [address, key] of [
    ['192.0.2.7', '192.0.2.7'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2'],
    ['2001:0DB8:0001:0002::1', '2001:db8:1:2'],
    ['2001:db8::1', '2001:db8:0:0'],
    ['::1', '0:0:0:0'],
    ['fe80::1%eth0', 'fe80:0:0:0'],
  ] as const)
    t.equal(addressKey(address), key, address);
  t.end();
});

void t.test('failed logins', async (t) => {
  let now = 0;
  const told: string[] = [];
  const attemptOf = openFailedLogins(
    { per_address: { count: 4, perMs: 60_000, burst: 4 }, per_username: { count: 3, perMs: 60_000, burst: 3 } },
    {
      addressOf: ({ remoteAddress }) => (remoteAddress === 'exempt' ? undefined : remoteAddress),
      onLimited: (limit) => void told.push(limit),
      onFailed: () => undefined,
      now: () => now,
    },
  );
  const attempt = (address: string, name: string, succeeds: boolean): number => {
    const one = attemptOf({ remoteAddress: address } as Request, name);
    try {
      one.begin();
    } catch (error) {
      return Number((error as { headers: Record<string, string> }).headers['Retry-After']);
    }
    one.end(succeeds ? 'right' : 'wrong');
    return 0;
  };
  const failures = (address: string, name: string) =>
    Array.from({ length: 10 }, () => attempt(address, name, false)).filter((wait) => wait === 0).length;
  t.equal(attempt('10.0.0.1', 'alice', true), 0);
  const atOnce = Array.from({ length: 10 }, () => attemptOf({ remoteAddress: '10.0.0.8' } as Request, 'carol'));
  const begun = atOnce.filter((one) => {
    try {
      one.begin();
      return true;
    } catch {
      return false;
    }
  });
  t.equal(begun.length, 3, 'also while they are under way');
  for (const [index, one] of begun.entries()) one.end(index === 0 ? 'wrong' : 'undecided');
  t.equal(failures('10.0.0.8', 'CAROL '), 2, 'what could not be decided does not count; a name counts however it is written');
  t.equal(failures('10.0.0.2', 'alice'), 3, 'a name from elsewhere');
  t.equal(attempt('10.0.0.3', 'alice', true), 20, 'also from a third address, where it has not logged in before');
  t.equal(attempt('10.0.0.1', 'alice', true), 0, 'but not where it has');
  t.equal(attempt('10.0.0.2', 'bob', true), 0, 'nor others from there');
  t.equal(failures('10.0.0.4', 'x') + failures('10.0.0.4', 'y'), 4, 'an address, whatever the name');
  t.equal(attempt('10.0.0.4', 'z', true), 15);
  t.strictSame([...new Set(told)], ['failed_logins.per_username', 'failed_logins.per_address']);
  now += 20_000;
  t.equal(attempt('10.0.0.3', 'alice', true), 0, 'nobody is kept out for ever');
  t.equal(failures('exempt', 'nobody'), 10);
  t.equal(attempt('10.0.0.9', 'nobody', true), 0, 'nor do those who are exempt count for the name');
});

const rates = { burst: 3, rate: '1/h' };

onBothEngines(
  {
    ...(await settings()),
    server: { trusted_proxies: '127.0.0.1' },
    limits: {
      requests: { per_address: { rate: '1/h', burst: 20 }, anonymous: rates, per_identity: rates },
      failed_logins: { per_address: { rate: '1/h', burst: 5 }, per_username: rates },
      exempt: '198.51.100.0/24',
    },
  },
  async (t, node) => {
    await t.test('requests', (t) => requests(t, node));
    await t.test('passwords', (t) => wrongPasswords(t, node));
  },
);

function asking({ client }: WireNode, address: string) {
  return (target: string, { headers, ...more }: Exchange & { method?: string } = {}): Promise<Answer> =>
    client.send(more.method ?? 'GET', target, { ...more, headers: { 'X-Forwarded-For': address, ...headers } });
}

function checkRefusal(t: Test, answer: Answer, what: string): void {
  t.strictSame([answer.status, errorCode(answer)], [429, 'TOOMANYREQUESTS'], what);
  t.match(answer.headers['retry-after'], /^[1-9]\d*$/, 'and when to come back');
}

async function requests(t: Test, node: WireNode): Promise<void> {
  const pull = '/v2/public/app/tags/list';
  const first = asking(node, '192.0.2.1');
  for (let count = 0; count < 3; count++) t.equal((await first(pull)).status, 404);
  checkRefusal(t, await first(pull), 'anonymous');
  t.equal((await asking(node, '192.0.2.2')(pull)).status, 404, 'another address');
  t.equal((await first(pull, { headers: basic('reader') })).status, 404, 'nor who has logged in');
  const { token } = jsonOf<{ token: string }>(await first('/token?scope=repository:public/app:pull', { headers: basic('reader') }));
  for (const address of ['192.0.2.3', '192.0.2.4']) {
    t.equal((await asking(node, address)(pull, { headers: bearer(token) })).status, 404);
  }
  checkRefusal(t, await asking(node, '192.0.2.5')(pull, { headers: bearer(token) }), 'an identity, however it asks and from where');
  t.equal((await asking(node, '192.0.2.5')(pull, { headers: basic('writer') })).status, 404, 'another identity');

  const denied = asking(node, '192.0.2.7');
  for (let count = 0; count < 4; count++) t.equal((await denied('/v2/team/app/tags/list')).status, 401, 'whoever is to log in is told how');
  t.equal((await denied('/v2/')).status, 401, 'also who asks for nothing else');
  for (let count = 0; count < 3; count++) t.equal((await denied('/v2/other/app/tags/list', { headers: basic('admin') })).status, 403);
  checkRefusal(t, await denied('/v2/other/app/tags/list', { headers: basic('admin') }), 'what an identity is denied counts, too');

  const many = asking(node, '192.0.2.6');
  for (let count = 0; count < 20; count++) t.equal((await many('/v2/')).status, 401);
  checkRefusal(t, await many('/v2/', { headers: basic('writer') }), 'an address, before anything is looked at');
  checkRefusal(t, await many('/token'), 'also for tokens');
  for (const probe of ['/livez', '/readyz']) t.equal((await many(probe)).status, 200, probe);
  t.equal((await many('/metrics', { headers: basic('admin') })).status, 200, 'monitoring');
  const exempt = asking(node, '198.51.100.9');
  for (let count = 0; count < 22; count++) await exempt(pull);
  t.equal((await exempt(pull)).status, 404, 'who is exempt');
}

async function wrongPasswords(t: Test, node: WireNode): Promise<void> {
  const home = asking(node, '203.0.113.1');
  const away = asking(node, '203.0.113.2');
  t.equal((await home('/v2/', { headers: basic('stranger') })).status, 200);
  for (let count = 0; count < 3; count++) t.equal((await away('/token', { headers: basic('stranger', `guess-${count}`) })).status, 401);
  checkRefusal(t, await away('/token', { headers: basic('stranger', 'guess') }), 'the fourth guess');
  checkRefusal(t, await away('/v2/', { headers: basic('stranger', 'guess') }), 'wherever it is made');
  t.equal((await home('/v2/', { headers: basic('stranger') })).status, 200, 'its owner is not locked out');
  for (let count = 0; count < 2; count++) t.equal((await away('/token', { headers: basic(`nobody-${count}`, 'x') })).status, 401);
  checkRefusal(t, await away('/token', { headers: basic('nobody-2', 'x') }), 'an address that has guessed at many');
  const metrics = await asking(node, '203.0.113.3')('/metrics', { headers: basic('admin') });
  const families = parseExposition(metrics.body.toString(), 'text');
  const limited = families.get('registry_limited_requests_total')?.samples;
  t.equal(families.get('registry_failed_logins_total')?.samples.get('registry_failed_logins_total{}'), 5);
  t.equal(limited?.get('registry_limited_requests_total{limit="failed_logins.per_username"}'), 2);
  t.equal(limited?.get('registry_limited_requests_total{limit="per_identity"}'), 2);
}

void t.test('without settings nobody who knows a password is ever told to wait', { buffered: true }, async (t) => {
  const node = await startWireNode('node', await settings());
  t.teardown(() => stopWireNode(node));
  const answers = await Promise.all(Array.from({ length: 300 }, () => node.client.send('GET', '/v2/', { headers: basic('reader') })));
  t.ok(answers.every(({ status }) => status === 200));
});
