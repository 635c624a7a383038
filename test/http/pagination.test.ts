// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import t from 'tap';
import { nextLink, pageOf, parsePage } from '../../src/http/pagination.js';

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
