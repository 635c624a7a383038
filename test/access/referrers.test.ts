// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Referrers are listed for whom may pull them: where policies tell manifests apart, neither the list nor its pages tell of others. */
import type { Test } from 'tap';
import { jsonOf } from '../support/http-client.js';
import { describe, digestOf, imageOf, onBothEngines, putManifest, types, type WireNode } from '../support/wire-suite.js';
import { basic, hashOf, passwords, type Person } from './people.js';

const image = imageOf([]);
const subject = describe(types.manifest, image);
/** Two of them fill a page. */
const referrers = Array.from({ length: 6 }, (_, index) => imageOf([], { subject, annotations: { text: `${index}`.repeat(1_200_000) } }));
const digests = referrers.map((referrer) => digestOf(referrer)).toSorted();
const [first = '', second = '', third = '', fourth = '', fifth = '', sixth = ''] = digests;

const identity: Record<string, object> = {};
for (const person of Object.keys(passwords)) identity[person] = { password: await hashOf(passwords[person as Person]) };
const isPull = 'request.action in ["get-manifest", "get-referrers"]';

onBothEngines(
  {
    identity,
    access: { challenge: 'basic' },
    repository: [
      {
        namespace: 'team',
        policies: [
          'identity.id == "writer"',
          `identity.id == "reader" && ${isPull} && !(request.digest in ${JSON.stringify([third, fourth, fifth, sixth])})`,
          `identity.id == "stranger" && ${isPull} && !(request.digest in ${JSON.stringify([first, third, fourth])})`,
          'identity.id == "admin" && request.action == "get-referrers"',
        ],
      },
      {
        namespace: 'names',
        policies: ['identity.id == "writer"', `identity.id == "reader" && ${isPull} && request.reference != "${second}"`],
      },
      { namespace: 'plain', policies: ['identity.id == "writer"', 'identity.id == "admin" && request.action == "get-referrers"'] },
    ],
  },
  async (t, node) => {
    for (const repository of ['team/app', 'names/app', 'plain/app']) await push(node, repository, repository === 'team/app' ? 6 : 2);
    await t.test('whom they are listed for', (t) => whom(t, node));
  },
);

async function push({ client }: WireNode, repository: string, count: number): Promise<void> {
  const headers = basic('writer');
  const blob = await client.send('POST', `/v2/${repository}/blobs/uploads/?digest=${digestOf('{}')}`, { headers, body: '{}' });
  if (blob.status !== 201) throw new Error(`${blob.status}`);
  const wanted = referrers.filter((referrer) => digests.indexOf(digestOf(referrer)) < count);
  for (const manifest of [image, ...wanted]) {
    const answer = await putManifest(client, repository, digestOf(manifest), manifest, types.manifest, { headers });
    if (answer.status !== 201) throw new Error(`${answer.status} ${answer.body.toString()}`);
  }
}

async function whom(t: Test, { client }: WireNode): Promise<void> {
  const pagesOf = async (person: Person, repository: string): Promise<string[][]> => {
    const pages: string[][] = [];
    for (let target: string | undefined = `/v2/${repository}/referrers/${subject.digest}`; target !== undefined;) {
      const answer = await client.send('GET', target, { headers: basic(person) });
      t.equal(answer.status, 200);
      pages.push(jsonOf<{ manifests: { digest: string }[] }>(answer).manifests.map(({ digest }) => digest));
      target = /^<(.*)>/.exec(String(answer.headers['link'] ?? ''))?.[1];
    }
    return pages;
  };
  const statusOf = async (person: Person, digest: string) =>
    (await client.send('GET', `/v2/team/app/manifests/${digest}`, { headers: basic(person) })).status;
  t.strictSame([await statusOf('reader', second), await statusOf('reader', third)], [200, 403]);
  t.strictSame(
    await pagesOf('writer', 'team/app'),
    [
      [first, second],
      [third, fourth],
      [fifth, sixth],
    ],
    'who may pull all of them',
  );
  t.strictSame(await pagesOf('reader', 'team/app'), [[first, second]], 'no link leads to what may not be seen');
  t.strictSame(await pagesOf('stranger', 'team/app'), [[second, fifth], [sixth]], 'and no page is short of it');
  t.strictSame(await pagesOf('admin', 'team/app'), [[]], 'nothing for whom may pull none');
  t.strictSame(await pagesOf('reader', 'names/app'), [[first]], 'a digest is a reference, too');
  t.strictSame(
    await pagesOf('admin', 'plain/app'),
    [[first, second]],
    'where no policy tells manifests apart, the right to the list is enough',
  );
}
