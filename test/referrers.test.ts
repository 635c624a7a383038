// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Test } from 'tap';
import { errorCode, jsonOf, type Answer, type HttpClient } from './support/http-client.js';
import { describe, digestOf, imageOf, imageWithBlobs, indexOf, onBothStores, pushBlob, putManifest, types } from './support/wire-suite.js';

interface Listed {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly artifactType?: string;
  readonly annotations?: Record<string, string>;
}

interface Index {
  readonly schemaVersion: number;
  readonly mediaType: string;
  readonly manifests: readonly Listed[];
}

onBothStores({}, async (t, { client }) => {
  await t.test('none', (t) => none(t, client));
  await t.test('what is listed', (t) => listed(t, client));
  await t.test('pages', (t) => pages(t, client));
  await t.test('fallback tags', (t) => fallback(t, client));
});

async function none(t: Test, client: HttpClient): Promise<void> {
  await imageWithBlobs(client, 'referrers/none', ['layer']);
  const zeros = `sha256:${'0'.repeat(64)}`;
  for (const path of [
    `referrers/none/referrers/${zeros}`,
    `never/created/referrers/${zeros}`,
    `never/created/referrers/${digestOf('x', 'sha512')}`,
  ]) {
    const answer = await client.send('GET', `/v2/${path}`);
    t.strictSame([answer.status, answer.headers['content-type']], [200, types.index], path);
    t.strictSame(jsonOf(answer), { schemaVersion: 2, mediaType: types.index, manifests: [] }, 'an empty index');
  }
  for (const digest of ['sha256:x', 'x', 'sha256-abc', 'md5:d41d8cd98f00b204e9800998ecf8427e']) {
    const answer = await client.send('GET', `/v2/referrers/none/referrers/${digest}`);
    t.strictSame([answer.status, errorCode(answer)], [400, 'DIGEST_INVALID'], digest);
  }
}

async function listed(t: Test, client: HttpClient): Promise<void> {
  const repository = 'referrers/listed';
  const image = await imageWithBlobs(client, repository, ['layer']);
  const subject = describe(types.manifest, image);
  const config = { ...describe(types.config, 'a config'), mediaType: 'application/vnd.example.config' };
  await pushBlob(client, repository, 'a config');
  // The subject comes last: what refers to it may be there before.
  const annotations = { 'org.example.a': 'ä "1"', b: '' };
  const table: Record<string, readonly [body: string, contentType: string, expected: Partial<Listed>]> = {
    artifactType: [
      imageOf(['layer'], { subject, artifactType: 'application/vnd.a' }),
      types.manifest,
      { artifactType: 'application/vnd.a' },
    ],
    "the config's type": [imageOf([], { subject, config }), types.manifest, { artifactType: config.mediaType }],
    annotations: [
      imageOf(['layer'], { subject, annotations, artifactType: 'application/vnd.b' }),
      types.manifest,
      { artifactType: 'application/vnd.b', annotations },
    ],
    'an index': [indexOf([], { subject }), types.index, {}],
    'an index with a type': [
      indexOf([], { subject, artifactType: 'application/vnd.a', annotations }),
      types.index,
      { artifactType: 'application/vnd.a', annotations },
    ],
  };
  for (const [what, [body, contentType]] of Object.entries(table)) {
    for (const reference of [digestOf(body), what.replaceAll(/[^a-z]/g, '-')]) {
      const put = await putManifest(client, repository, reference, body, contentType);
      t.strictSame([put.status, put.headers['oci-subject']], [201, subject.digest], `${what}, pushed by ${reference}`);
    }
  }
  await putManifest(client, repository, 'subject', image);
  const expected = (keep: (entry: Partial<Listed>) => boolean) =>
    Object.values(table)
      .filter(([, , entry]) => keep(entry))
      .map(([body, contentType, entry]) => ({ ...describe(contentType, body), ...entry }))
      .sort(byDigest);
  const url = `/v2/${repository}/referrers/${subject.digest}`;
  const all = await client.send('GET', url, { headers: { Accept: types.index } });
  t.strictSame([all.status, all.headers['content-type'], all.headers['oci-filters-applied']], [200, types.index, undefined], 'headers');
  t.notOk('link' in all.headers, 'all on one page');
  t.strictSame(
    sorted(all),
    expected(() => true),
    'each with its type and annotations',
  );
  for (const type of ['application/vnd.a', config.mediaType, 'application/vnd.nothing']) {
    const filtered = await client.send('GET', `${url}?artifactType=${encodeURIComponent(type)}`);
    t.equal(filtered.headers['oci-filters-applied'], 'artifactType', 'the filter was applied');
    t.strictSame(
      sorted(filtered),
      expected(({ artifactType }) => artifactType === type),
      `only ${type}`,
    );
  }
  t.strictSame(sorted(await client.send('GET', `/v2/referrers/other/referrers/${subject.digest}`)), [], 'another repository has none');
  t.strictSame(sorted(await client.send('GET', `${url}?artifactType=%00`)), [], 'a type that none can have');

  const [gone] = table['artifactType'] ?? [''];
  t.equal((await client.send('DELETE', `/v2/${repository}/manifests/${digestOf(gone)}`)).status, 202, 'one is deleted');
  t.notOk(
    sorted(await client.send('GET', url)).some(({ digest }) => digest === digestOf(gone)),
    'and not listed any more',
  );
  t.equal((await client.send('DELETE', `/v2/${repository}/manifests/${subject.digest}`)).status, 202, 'the subject is deleted');
  t.equal(sorted(await client.send('GET', url)).length, Object.keys(table).length - 1, 'what refers to it stays');

  const bySha512 = imageOf(['layer'], { subject: { ...subject, digest: digestOf(image, 'sha512') } });
  const put = await putManifest(client, repository, digestOf(bySha512, 'sha512'), bySha512);
  t.equal(put.headers['oci-subject'], digestOf(image, 'sha512'), 'a subject by sha512');
  const ofSha512 = sorted(await client.send('GET', `/v2/${repository}/referrers/${digestOf(image, 'sha512')}`));
  t.strictSame(
    ofSha512.map(({ digest }) => digest),
    [digestOf(bySha512, 'sha512')],
    'lists what is known by sha512',
  );
}

async function pages(t: Test, client: HttpClient): Promise<void> {
  const repository = 'referrers/pages';
  await pushBlob(client, repository, '{}');
  const subject = describe(types.manifest, 'the subject');
  const count = 60;
  const bodies = Array.from({ length: count }, (_, index) =>
    imageOf([], {
      subject,
      artifactType: index % 2 === 0 ? 'application/vnd.even' : 'application/vnd.odd',
      // Three bytes each.
      annotations: { text: `${index} ${'漢'.repeat(65_000)}` },
    }),
  );
  const puts = await Promise.all(bodies.map((body) => putManifest(client, repository, digestOf(body), body)));
  t.ok(
    puts.every(({ status }) => status === 201),
    `${count} referrers of 195 KB each`,
  );
  for (const [query, wanted] of [
    ['', bodies],
    ['?artifactType=application/vnd.even', bodies.filter((_, index) => index % 2 === 0)],
  ] as const) {
    const seen: string[] = [];
    let requests = 0;
    for (let next: string | undefined = `/v2/${repository}/referrers/${subject.digest}${query}`; next !== undefined; requests++) {
      const answer: Answer = await client.send('GET', next);
      t.ok(answer.status === 200 && answer.body.length <= 4 * 1024 * 1024, 'a page that every client can take');
      t.equal(answer.headers['oci-filters-applied'], query === '' ? undefined : 'artifactType', 'the filter goes on');
      seen.push(...jsonOf<Index>(answer).manifests.map(({ digest }) => digest));
      next = /^<([^>]+)>; rel="next"$/.exec(String(answer.headers['link']))?.[1];
    }
    t.ok(requests > 1, `${requests} pages`);
    t.strictSame([...seen].sort(), wanted.map((body) => digestOf(body)).sort(), 'all of them, each once');
  }

  const enormous = imageOf([], { subject: describe(types.manifest, 'another'), annotations: { text: 'x'.repeat(3_900_000) } });
  await putManifest(client, repository, digestOf(enormous), enormous);
  const other = imageOf([], { subject: describe(types.manifest, 'another') });
  await putManifest(client, repository, digestOf(other), other);
  const seen: string[] = [];
  for (let next: string | undefined = `/v2/${repository}/referrers/${digestOf('another')}`; next !== undefined;) {
    const answer: Answer = await client.send('GET', next);
    seen.push(...jsonOf<Index>(answer).manifests.map(({ digest }) => digest));
    next = /^<([^>]+)>/.exec(String(answer.headers['link']))?.[1];
  }
  t.strictSame([...seen].sort(), [digestOf(enormous), digestOf(other)].sort(), 'also one that fills a page alone');
  const bad = await client.send('GET', `/v2/${repository}/referrers/${subject.digest}?last=x`);
  t.strictSame([bad.status, errorCode(bad)], [400, 'DIGEST_INVALID'], 'last is a digest');
}

/** What clients did that found no referrers API: an index under a tag, with manifests that may even lack a subject. */
async function fallback(t: Test, client: HttpClient): Promise<void> {
  const repository = 'referrers/fallback';
  const image = await imageWithBlobs(client, repository, ['layer']);
  const subject = describe(types.manifest, image);
  await putManifest(client, repository, 'image', image);
  const without = imageOf(['layer'], { artifactType: 'application/vnd.old', annotations: { a: 'b' } });
  const withSubject = imageOf(['layer'], { artifactType: 'application/vnd.new', subject });
  for (const body of [without, withSubject]) await putManifest(client, repository, digestOf(body), body);
  const url = `/v2/${repository}/referrers/${subject.digest}`;
  t.equal(sorted(await client.send('GET', url)).length, 1, 'only what has the subject');

  const tag = subject.digest.replace(':', '-');
  const absent = describe(types.manifest, 'deleted long ago');
  const late = imageOf(['layer'], { artifactType: 'application/vnd.late' });
  const index = indexOf([...[without, withSubject, late].map((body) => describe(types.manifest, body)), absent]);
  t.equal((await putManifest(client, repository, tag, index, types.index)).status, 201, 'the fallback tag is pushed');
  const expected = [
    { ...describe(types.manifest, without), artifactType: 'application/vnd.old', annotations: { a: 'b' } },
    { ...describe(types.manifest, withSubject), artifactType: 'application/vnd.new' },
  ].sort(byDigest);
  t.strictSame(sorted(await client.send('GET', url)), expected, 'what it lists is listed, each once');
  t.strictSame(
    sorted(await client.send('GET', `${url}?artifactType=application/vnd.old`)).map(({ digest }) => digest),
    [digestOf(without)],
    'also by its type',
  );
  await putManifest(client, repository, digestOf(late), late);
  t.equal(sorted(await client.send('GET', url)).length, 3, 'also what is pushed after it');
  await client.send('DELETE', `/v2/${repository}/manifests/${digestOf(late)}`);
  t.strictSame(sorted(await client.send('GET', url)), expected, 'until it is deleted');
  t.equal((await client.send('GET', `/v2/${repository}/manifests/${tag}`)).body.toString(), index, 'the tag is an ordinary one');
  const { tags } = jsonOf<{ tags: string[] }>(await client.send('GET', `/v2/${repository}/tags/list`));
  t.ok(tags.includes(tag), 'listed as such');

  await putManifest(client, repository, tag, imageOf(['layer']));
  t.equal(sorted(await client.send('GET', url)).length, 1, 'a tag of that name that is no index does no harm');
  await putManifest(client, repository, tag, index, types.index);
  t.equal((await client.send('DELETE', `/v2/${repository}/manifests/${tag}`)).status, 202, 'it can be deleted');
  t.strictSame(
    sorted(await client.send('GET', url)).map(({ digest }) => digest),
    [digestOf(withSubject)],
    'and then lists nothing',
  );

  const sha512 = digestOf(image, 'sha512');
  const longTag = `sha512-${sha512.slice(7, 71)}`;
  t.equal((await putManifest(client, repository, longTag, index, types.index)).status, 201, 'of a sha512 subject: 64 of its characters');
  t.equal(sorted(await client.send('GET', `/v2/${repository}/referrers/${sha512}`)).length, 2, 'lists them');
}

function sorted(answer: Answer): readonly Listed[] {
  return [...jsonOf<Index>(answer).manifests].sort(byDigest);
}

function byDigest(a: { readonly digest: string }, b: { readonly digest: string }): number {
  return a.digest < b.digest ? -1 : 1;
}
