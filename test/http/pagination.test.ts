// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { setImmediate } from 'node:timers/promises';
import t from 'tap';
import { listVisible, nextLink, pageOf, parsePage } from '../../src/http/pagination.js';

const query = (text: string) => new URLSearchParams(text);

void t.test('n and last', async (t) => {
  for (const [text, limit, last] of [
    ['', 10_000, ''],
    ['n=5', 5, ''],
    ['n=0', 0, ''],
    ['n=10000', 10_000, ''],
    ['n=10001', 10_000, ''],
    ['n=999999999', 10_000, ''],
    ['last=a', 10_000, 'a'],
    ['n=007&last=a%2Fb', 7, 'a/b'],
    ['last=', 10_000, ''],
  ] as const) {
    t.strictSame(parsePage(query(text)), { limit, last }, text);
  }
  for (const n of ['', '-1', '1.5', '1e3', 'x', ' 1', '+1', '0x1', '1234567890']) {
    t.throws(() => parsePage(new URLSearchParams({ n })), { code: 'PAGINATION_NUMBER_INVALID', status: 400 }, `n=${n}`);
  }
  t.equal(parsePage(query(''), 3).limit, 3, 'another default');
});

void t.test('pages', async (t) => {
  t.strictSame(page([], 3), { elements: [], headers: {} }, 'nothing');
  t.strictSame(page(['a', 'b', 'c'], 3), { elements: ['a', 'b', 'c'], headers: {} }, 'all of it');
  t.strictSame(
    page(['a', 'b', 'c', 'd'], 3),
    { elements: ['a', 'b', 'c'], headers: { Link: '</v2/a/tags/list?n=3&last=c>; rel="next"' } },
    'one more',
  );
  t.strictSame(page(['a'], 0), { elements: [], headers: {} }, 'no elements, so no next page');
  t.strictSame(nextLink('/x', { last: 'a/b&c=d>' }), { Link: '</x?last=a%2Fb%26c%3Dd%3E>; rel="next"' }, 'escaped');
});

function page(found: readonly string[], limit: number) {
  return pageOf(found, { limit, last: '' }, '/v2/a/tags/list');
}

const names = Array.from({ length: 20_000 }, (_, index) => String(index).padStart(5, '0'));

function list(last: string, limit: number): Promise<string[]> {
  const begin = last === '' ? 0 : Number(last) + 1;
  return Promise.resolve(names.slice(begin, begin + limit));
}

void t.test('lists of what one may see', async (t) => {
  const { signal } = new AbortController();
  const visible = async (isVisible: (name: string) => boolean, limit: number, last = '') =>
    (await listVisible(list, { limit, last }, isVisible, signal)) ?? [];
  t.strictSame(await visible((name) => name >= '19998', 1), ['19998', '19999'], 'one more than the page, from the end');
  t.strictSame(await visible((name) => name === '19999', 1), ['19999']);
  t.strictSame(await visible(() => false, 5), []);
  t.strictSame((await visible((name) => name.endsWith('0'), 3, '00015')).slice(0, 4), ['00020', '00030', '00040', '00050']);
});

void t.test('other requests have their turn', async (t) => {
  const { signal } = new AbortController();
  let [asked, most] = [0, 0];
  const done = new AbortController();
  const count = (): false => {
    asked++;
    return false;
  };
  const watch = async (): Promise<void> => {
    for (let before = asked; !done.signal.aborted; before = asked) {
      await setImmediate();
      most = Math.max(most, asked - before);
    }
  };
  const watching = watch();
  const few = listVisible((last, limit) => list(last === '' ? '19989' : last, limit), { limit: 100, last: '' }, count, signal);
  const lists = Array.from({ length: 10 }, () => listVisible(list, { limit: 1, last: '' }, count, signal));
  let ended = 0;
  for (const listing of lists) void listing.then(() => ended++);
  t.strictSame(await few, []);
  t.equal(ended, 0, 'a short list does not wait for long ones');
  await Promise.all(lists);
  done.abort();
  await watching;
  t.equal(asked, 10 * names.length + 10);
  t.ok(most <= 2_000, `at most ${most} questions to policies between two turns of the event loop`);
});

void t.test('a list that nobody waits for ends', async (t) => {
  const gone = new AbortController();
  let lists = 0;
  const listing = listVisible(
    (last, limit) => {
      if (++lists === 3) gone.abort(new Error('the client went away'));
      return list(last, limit);
    },
    { limit: 1, last: '' },
    () => false,
    gone.signal,
  );
  await t.rejects(listing, { message: 'the client went away' });
  t.equal(lists, 3);
});
