// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Fills a registry, over the wire, with everything that a rebuild has to bring back. */
import type { HttpClient } from './http-client.js';
import { bytesOf, describe, digestOf, imageOf, imageWithBlobs, indexOf, pushBlob, putManifest, types } from './wire-suite.js';

export interface Population {
  readonly repositories: number;
  /** Of each repository, beside those of its history. */
  readonly tags: number;
}

/** What GET answers for a path now: the digest of the body, or the status where it is not 200. */
export type Expected = Map<string, string>;

export async function populate(client: HttpClient, { repositories, tags }: Population): Promise<Expected> {
  const expected: Expected = new Map();
  const names = Array.from({ length: repositories }, (_, index) => repositoryName(index));
  const waiting = [...names.entries()];
  const worker = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) await fill(client, next[1], next[0], tags, expected);
  };
  await Promise.all(Array.from({ length: 8 }, worker));
  return expected;
}

/** Compares all answers with those of `populate`; returns those that differ. */
export async function differences(client: HttpClient, expected: Expected): Promise<string[]> {
  const different: string[] = [];
  const waiting = [...expected];
  const worker = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const [path, value] = next;
      const { status, body } = await client.send('GET', path);
      const actual = status === 200 ? digestOf(body) : String(status);
      if (actual !== value) different.push(`${path}: ${actual} instead of ${value}`);
    }
  };
  await Promise.all(Array.from({ length: 8 }, worker));
  return different;
}

/** Names whose order among their keys is not that of the names, and names inside of names. */
function repositoryName(index: number): string {
  const forms = [`team${index}`, `team${index - 1}/app`, `9-lives/x${index}`, `library/a-b.${index}`, `library/a_b/${index}`, `z${index}`];
  return forms[index % forms.length] ?? `team${index}`;
}

async function fill(client: HttpClient, repository: string, seed: number, tags: number, expected: Expected): Promise<void> {
  const manifests = (reference: string): string => `/v2/${repository}/manifests/${reference}`;
  const blobs = (digest: string): string => `/v2/${repository}/blobs/${digest}`;
  const put = async (reference: string, body: string, type: string = types.manifest): Promise<string> => {
    const answer = await putManifest(client, repository, reference, body, type);
    if (answer.status !== 201) throw new Error(`${repository}:${reference}: ${answer.status} ${answer.body.toString()}`);
    expected.set(manifests(digestOf(body)), digestOf(body));
    if (!reference.includes(':')) expected.set(manifests(reference), digestOf(body));
    return digestOf(body);
  };
  const remove = async (path: string): Promise<void> => {
    const { status } = await client.send('DELETE', path);
    if (status !== 202) throw new Error(`DELETE ${path}: ${status}`);
    expected.set(path, '404');
  };
  const shared = bytesOf(2_000, 'shared');
  const images: string[] = [];
  for (let tag = 0; tag < tags; tag++) {
    const layer = bytesOf(100 + (tag % 7), `${repository} ${tag}`);
    const image = await imageWithBlobs(client, repository, [shared, layer], { annotations: { 'org.example.tag': `${tag} "quoted" \\ ü` } });
    images.push(image);
    await put(`tag-${tag}`, image);
    expected.set(blobs(digestOf(layer)), digestOf(layer));
  }
  const [first = '', second = first] = images;
  // History: a tag that moves and comes back, one that is deleted and pushed again, one that stays deleted.
  for (const image of [first, second, first]) await put('moving', image);
  await put('again', first);
  await remove(manifests('again'));
  await put('again', second);
  await put('gone', first);
  await remove(manifests('gone'));
  // Tags whose keys sort in another order than they do.
  for (const tag of ['a', 'a-b', 'a.b', 'a0', '_a', 'A']) await put(tag, second);
  // An index of both, one with a child that never came, and one whose child comes later.
  const children = [...new Set([first, second])].map((image) => describe(types.manifest, image));
  await put('index', indexOf(children), types.index);
  await put(
    'sparse',
    indexOf([...children, { mediaType: types.manifest, digest: digestOf(`never ${repository}`), size: 10 }]),
    types.index,
  );
  const late = imageOf([], { annotations: { late: repository } });
  await put('early', indexOf([describe(types.manifest, late)]), types.index);
  await put('late', late);
  // Non-distributable layers: one that is pushed before, one that comes later, one that never does.
  const [before, later, never] = ['before', 'later', 'never'].map((text) => `foreign ${text} ${repository}`) as [string, string, string];
  await pushBlob(client, repository, before);
  await put('foreign', imageOf([], { layers: [before, later, never].map((layer) => describe(types.foreignLayer, layer)) }));
  await pushBlob(client, repository, later);
  for (const layer of [before, later]) expected.set(blobs(digestOf(layer)), digestOf(layer));
  expected.set(blobs(digestOf(never)), '404');
  // Referrers, one of them gone.
  for (const kind of ['signature', 'sbom', 'gone']) {
    const referrer = imageOf([], { artifactType: `application/vnd.example.${kind}`, subject: describe(types.manifest, first) });
    const digest = await put(digestOf(referrer), referrer);
    if (kind === 'gone') await remove(manifests(digest));
  }
  // A manifest that goes with its tags, and one that is pushed again afterwards.
  const doomed = imageOf([], { annotations: { doomed: repository } });
  for (const tag of ['doomed-1', 'doomed-2']) await put(tag, doomed);
  await remove(manifests(digestOf(doomed)));
  for (const tag of ['doomed-1', 'doomed-2']) expected.set(manifests(tag), '404');
  const risen = imageOf([], { annotations: { risen: repository } });
  await put('risen', risen);
  await remove(manifests(digestOf(risen)));
  await put('risen', risen);
  // Blobs: a mount, one that is gone, one under a manifest that is gone, one of another algorithm.
  const foreign = await client.send('POST', `/v2/${repository}/blobs/uploads/?mount=${digestOf('common')}`, { body: '' });
  if (foreign.status === 202) await pushBlob(client, repository, 'common');
  expected.set(blobs(digestOf('common')), digestOf('common'));
  const loose = await pushBlob(client, repository, `loose ${repository}`);
  await remove(blobs(loose));
  if (seed % 3 === 0) await remove(blobs(digestOf(bytesOf(100, `${repository} 0`))));
  const long = digestOf(`long ${repository}`, 'sha512');
  await client.send('POST', `/v2/${repository}/blobs/uploads/?digest=${long}`, { body: `long ${repository}` });
  expected.set(blobs(long), digestOf(`long ${repository}`));
  for (const path of [`/v2/${repository}/tags/list`, `/v2/${repository}/referrers/${digestOf(first)}`]) {
    const { body } = await client.send('GET', path);
    expected.set(path, digestOf(body));
  }
}
