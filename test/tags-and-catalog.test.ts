// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Test } from 'tap';
import { errorCode, jsonOf, type Answer, type HttpClient } from './support/http-client.js';
import { digestOf, imageWithBlobs, onBothStores, pushBlob, putManifest } from './support/wire-suite.js';

onBothStores({}, async (t, { client }) => {
  await t.test('tags', (t) => tags(t, client));
  await t.test('two thousand tags', (t) => manyTags(t, client));
  await t.test('catalog', (t) => catalog(t, client));
});

interface TagList {
  readonly name: string;
  readonly tags: readonly string[];
}

async function tags(t: Test, client: HttpClient): Promise<void> {
  const unknown = await client.send('GET', '/v2/no/such/tags/list');
  t.strictSame([unknown.status, errorCode(unknown)], [404, 'NAME_UNKNOWN'], 'no such repository');
  await pushBlob(client, 'tags/none', 'x');
  t.strictSame(jsonOf(await client.send('GET', '/v2/tags/none/tags/list')), { name: 'tags/none', tags: [] }, 'none: a list all the same');

  const image = await imageWithBlobs(client, 'tags/list', ['layer']);
  const names = ['latest', 'v1', 'v1.10', 'v1.9', 'V1', '_x', '0', 'a-b', 'a.b', 'a_b', 'ab', 'Zz', 'zz'];
  for (const tag of names) await putManifest(client, 'tags/list', tag, image);
  const inOrder = [...names].sort((a, b) => (a < b ? -1 : 1));
  const list = (query: string): Promise<Answer> => client.send('GET', `/v2/tags/list/tags/list${query}`);
  const all = await list('');
  t.strictSame([all.status, all.headers['content-type'], all.headers['link']], [200, 'application/json', undefined], 'headers');
  t.strictSame(jsonOf(all), { name: 'tags/list', tags: inOrder }, 'in the order of their bytes');
  for (const [query, expected, hasNext] of [
    ['?n=0', [], false],
    ['?n=0&last=a', [], false],
    ['?n=5', inOrder.slice(0, 5), true],
    [`?n=${names.length}`, inOrder, false],
    [`?n=${names.length - 1}`, inOrder.slice(0, -1), true],
    ['?n=1000', inOrder, false],
    ['?n=999999999', inOrder, false],
    ['?last=a_b', inOrder.slice(inOrder.indexOf('a_b') + 1), false],
    ['?last=aa&n=2', inOrder.slice(inOrder.indexOf('a_b') + 1).slice(0, 2), true],
    ['?last=zz', [], false],
    ['?last=', inOrder, false],
    ['?last=%7E%C3%A4', [], false],
  ] as const) {
    const answer = await list(query);
    t.equal(answer.status, 200, query);
    t.strictSame(jsonOf<TagList>(answer).tags, expected, `${query}: tags`);
    t.equal(nextOf(answer) !== undefined, hasNext, `${query}: a next page`);
  }
  for (const n of ['-1', 'x', '1.5', '', '1e3', '99999999999999999999']) {
    const answer = await list(`?n=${n}`);
    t.strictSame([answer.status, errorCode(answer)], [400, 'PAGINATION_NUMBER_INVALID'], `n=${n}`);
  }
  const withNul = await list('?last=%00');
  t.ok(withNul.status < 500, `last=%00: ${withNul.status}`);
}

async function manyTags(t: Test, client: HttpClient): Promise<void> {
  const image = await imageWithBlobs(client, 'tags/many', ['layer']);
  const digest = digestOf(image);
  const names = Array.from({ length: 2000 }, (_, index) => `t${index}`);
  for (let at = 0; at < names.length; at += 100) {
    const query = names
      .slice(at, at + 100)
      .map((tag) => `tag=${tag}`)
      .join('&');
    const put = await putManifest(client, 'tags/many', `${digest}?${query}`, image);
    if (put.status !== 201) t.fail(`${put.status} ${put.body.toString()}`);
  }
  const inOrder = [...names].sort();
  for (const n of [1000, 999, 333, 2000, 1999]) {
    const { elements, pages } = await follow(client, `/v2/tags/many/tags/list?n=${n}`, (answer) => jsonOf<TagList>(answer).tags);
    t.strictSame([elements.length, pages], [2000, Math.ceil(2000 / n)], `n=${n}: all, in pages`);
    t.strictSame(elements, inOrder, `n=${n}: each once, in order`);
  }
  const whole = await client.send('GET', '/v2/tags/many/tags/list');
  t.strictSame(jsonOf<TagList>(whole).tags, inOrder, 'and without n at once');
  const deleted = await client.send('DELETE', `/v2/tags/many/manifests/${digest}`);
  t.equal(deleted.status, 202, 'the manifest is deleted');
  t.strictSame(jsonOf<TagList>(await client.send('GET', '/v2/tags/many/tags/list')).tags, [], 'with all its tags');
}

async function catalog(t: Test, client: HttpClient): Promise<void> {
  const names = ['cat/a', 'cat/a-b', 'cat/a/b', 'cat/a.b', 'cat/a_b', 'cat/a__b', 'cat/ab', 'cat/b', 'cat-a', 'cat'];
  for (const name of names) await pushBlob(client, name, 'x');
  const inOrder = [...names].sort((a, b) => (a < b ? -1 : 1));
  const all = await client.send('GET', '/v2/_catalog');
  t.strictSame([all.status, all.headers['content-type']], [200, 'application/json'], 'answered');
  t.strictSame(
    repositories(all).filter((name) => name.startsWith('cat')),
    inOrder,
    'in the order of their bytes',
  );
  for (const n of [1, 3, 1000]) {
    const { elements } = await follow(client, `/v2/_catalog?n=${n}`, repositories);
    t.strictSame(elements, repositories(all), `n=${n}: all of them by following Link`);
  }
  t.strictSame(repositories(await client.send('GET', '/v2/_catalog?n=2&last=cat/a')), ['cat/a-b', 'cat/a.b'], 'after one');
  t.strictSame(repositories(await client.send('GET', '/v2/_catalog?n=0')), [], 'n=0');
  const bad = await client.send('GET', '/v2/_catalog?n=x');
  t.strictSame([bad.status, errorCode(bad)], [400, 'PAGINATION_NUMBER_INVALID'], 'n=x');
  t.ok((await client.send('GET', '/v2/_catalog?last=%00')).status < 500, 'last=%00');
  t.equal((await client.send('HEAD', '/v2/_catalog')).headers['content-length'], String(all.body.length), 'HEAD');
}

function repositories(answer: Answer): readonly string[] {
  return jsonOf<{ repositories: string[] }>(answer).repositories;
}

function nextOf({ headers }: Answer): string | undefined {
  return /^<([^>]+)>; rel="next"$/.exec(String(headers['link']))?.[1];
}

async function follow(
  client: HttpClient,
  first: string,
  elementsOf: (answer: Answer) => readonly string[],
): Promise<{ elements: string[]; pages: number }> {
  const elements: string[] = [];
  let pages = 0;
  for (let next: string | undefined = first; next !== undefined; pages++) {
    const answer: Answer = await client.send('GET', next);
    elements.push(...elementsOf(answer));
    next = nextOf(answer);
  }
  return { elements, pages };
}
