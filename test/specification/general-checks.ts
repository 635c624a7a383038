// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What belongs to no data set: a registry that nobody has pushed to, and manifests that are missing, malformed or incomplete. */
import type { Test } from 'tap';
import { jsonOf, type Exchange } from '../support/http-client.js';
import { digestOf } from '../support/wire-suite.js';
import { Content, digestsOf, mediaTypes, type Algorithm } from './content.js';
import { incomplete } from './data-sets.js';
import { faultsOf, headerValues, Steps } from './expectations.js';
import { withQuery, type Place } from './place.js';
import { postOnly, Session } from './upload-forms.js';

export async function checkEmpty(t: Test, place: Place): Promise<void> {
  const steps = new Steps(t, 'empty');
  await steps.check('ping', () =>
    place.faults('GET', '/v2/', { status: 200, headers: { 'Docker-Distribution-API-Version': 'registry/2.0' } }),
  );
  const nobodys = digestsOf(Buffer.from('of nobody'));
  await steps.check('blobs', () => place.absentFaults('blob', ...nobodys));
  await steps.check('manifests', () => place.absentFaults('manifest', ...nobodys, 'latest'));
  // Nothing of that made it a repository.
  await steps.check('tag list', () => place.faults('GET', `/v2/${place.repository}/tags/list`, { status: 404, code: 'NAME_UNKNOWN' }));
  await steps.check('referrers', async () => {
    const answer = await place.send('GET', `/v2/${place.repository}/referrers/${digestOf('of nobody')}`);
    const faults = faultsOf('GET', answer, { status: 200, headers: { 'Content-Type': mediaTypes.index } });
    const expected = { schemaVersion: 2, mediaType: mediaTypes.index, manifests: [] };
    if (answer.body.toString() !== JSON.stringify(expected)) faults.push(answer.body.toString());
    return faults;
  });
}

export async function checkManifestErrors(t: Test, place: Place): Promise<void> {
  const missing = new Steps(t, 'missing-manifest');
  await missing.check('by-digest', () => place.absentFaults('manifest', ...digestsOf(Buffer.from('never pushed'))));
  await missing.check('by-tag', () => place.absentFaults('manifest', 'missing-tag'));

  const invalid = new Steps(t, 'invalid-digest-format');
  const { content, bytes } = await pushedImage(place);
  const wrong = 'sha256:baddigeststring';
  const refused = { status: 400, code: 'DIGEST_INVALID' };
  await invalid.check('manifest-put', () =>
    place.faults('PUT', place.manifest(wrong), refused, { headers: { 'Content-Type': mediaTypes.image }, body: bytes, chunked: true }),
  );
  await invalid.check('manifest-get', () => place.faults('GET', place.manifest(wrong), { status: [400, 404] }));
  await invalid.check('referrers', () => place.faults('GET', `/v2/${place.repository}/referrers/${wrong}`, refused));
  for (const digest of content.blobs.keys()) {
    await invalid.check('cleanup', () => place.faults('DELETE', place.blob(digest), { status: 202 }));
  }
}

/** Algorithms that nobody computes here, and how long their digests are; in no form are they taken. */
const unknownAlgorithms = { md5: 32, sha1: 40, sha384: 96, blake3: 64, 'sha256+b64': 43 };

export async function checkUnknownAlgorithms(t: Test, place: Place): Promise<void> {
  const steps = new Steps(t, 'unknown algorithms');
  const refused = { status: 400, code: 'DIGEST_INVALID' };
  const ask = (method: string, target: string, exchange: Exchange = {}) =>
    steps.check(`${method} ${target}`, () => place.faults(method, target, refused, exchange));
  const { bytes } = new Content().image();
  for (const [algorithm, length] of Object.entries(unknownAlgorithms)) {
    const digest = `${algorithm}:${'0'.repeat(length)}`;
    await ask('POST', place.uploads({ 'digest-algorithm': algorithm }));
    await ask('POST', place.uploads({ digest }), { body: 'bytes' });
    await ask('POST', place.uploads({ mount: digest, from: place.repository }));
    for (const method of ['HEAD', 'GET', 'DELETE']) await ask(method, place.blob(digest));
    for (const method of ['HEAD', 'GET', 'DELETE']) await ask(method, place.manifest(digest));
    await ask('PUT', place.manifest(digest), { headers: { 'Content-Type': mediaTypes.image }, body: bytes });
    await ask('GET', `/v2/${place.repository}/referrers/${digest}`);
    await steps.check(`${algorithm}: a session outlives the refusal`, async () => {
      const session = new Session(place);
      await session.open();
      session.withDigest(digest);
      await session.expect('PUT', refused, { body: 'bytes' });
      const body = Buffer.from(algorithm);
      return session.close({ digest: digestOf(body), bytes: body }, { body });
    });
  }
  for (const name of ['', 'SHA256', 'sha256:', 'sha-256', 'sha512,sha256']) await ask('POST', place.uploads({ 'digest-algorithm': name }));
}

/** With the default settings an index may lack images, and an image nothing. */
export async function checkRefusedSparse(t: Test, place: Place): Promise<void> {
  const steps = new Steps(t, 'sparse, by default');
  const content = new Content();
  incomplete(content);
  for (const [digest, bytes] of content.blobs) await steps.check('push/blob', () => postOnly(place, { digest, bytes }));
  for (const [position, { digest, mediaType, bytes }] of content.manifests.entries()) {
    const expected = position === 0 ? { status: [400, 404], code: 'MANIFEST_BLOB_UNKNOWN' } : { status: 201 };
    const put = { headers: { 'Content-Type': mediaType }, body: bytes };
    await steps.check(`push/manifest-by-digest ${position}`, () => place.faults('PUT', place.manifest(digest), expected, put));
    await steps.check(`head/manifest-by-digest ${position}`, () =>
      place.faults('HEAD', place.manifest(digest), { status: position === 0 ? 404 : 200 }),
    );
  }
}

/** Pages of tags, and what deleting a manifest does to its tags. A push by tag is one by sha256: those of a sha512 come with it, and one of them from a sha256. */
export async function checkTags(t: Test, place: Place, algorithm: Algorithm): Promise<void> {
  const steps = new Steps(t, `tags of a ${algorithm}`);
  const { digest, bytes } = await pushedImage(place, algorithm);
  const tags = ['0', 'A', 'Z', '_', 'a', 'a.b', 'b-1', 'z'];
  const put = { headers: { 'Content-Type': mediaTypes.image }, body: bytes };
  for (const tag of algorithm === 'sha256' ? tags : ['Z']) {
    await steps.check(`push ${tag}`, () => place.faults('PUT', place.manifest(tag), { status: 201 }, put));
  }
  if (algorithm !== 'sha256') {
    const all = withQuery(
      place.manifest(digest),
      tags.map((tag) => ['tag', tag]),
    );
    await steps.check('push all', () => place.faults('PUT', all, { status: 201 }, put));
  }
  for (const tag of tags) {
    await steps.check(`${tag} is of it`, () => place.manifestFaults('HEAD', place.manifest(tag), digest, mediaTypes.image, bytes));
  }
  const target = `/v2/${place.repository}/tags/list`;
  const page = async (query: readonly (readonly [string, string])[], wanted: readonly string[], hasNext: boolean): Promise<string[]> => {
    const answer = await place.send('GET', withQuery(target, query));
    const found = jsonOf<{ tags: string[] }>(answer).tags;
    const faults = JSON.stringify(found) === JSON.stringify(wanted) ? [] : [`${found.join(' ')} instead of ${wanted.join(' ')}`];
    const [link] = headerValues(answer, 'Link');
    if ((link !== undefined) !== hasNext) faults.push(`Link is ${link}`);
    return faults;
  };
  await steps.check('all, by bytes', () => page([], tags, false));
  await steps.check('n=3', () => page([['n', '3']], tags.slice(0, 3), true));
  await steps.check('n=3 and last', () => page(Object.entries({ n: '3', last: 'Z' }), tags.slice(3, 6), true));
  await steps.check('n as many as there are', () => page([['n', '8']], tags, false));
  await steps.check('last that is no tag', () => page([['last', 'aa']], ['b-1', 'z'], false));
  await steps.check('last of all', () => page([['last', 'z']], [], false));
  await steps.check('n=0', () => page([['n', '0']], [], false));
  await steps.check('the links lead to all of them', async () => {
    const found: string[] = [];
    for (let next: string | undefined = `${target}?n=3`; next !== undefined;) {
      const answer = await place.send('GET', next);
      found.push(...jsonOf<{ tags: string[] }>(answer).tags);
      const link = /^<([^>]+)>; rel="next"$/.exec(headerValues(answer, 'Link')[0] ?? '')?.[1];
      next = link === undefined ? undefined : place.resolve(link);
    }
    return JSON.stringify(found) === JSON.stringify(tags) ? [] : [found.join(' ')];
  });
  await steps.check('delete one', () => place.faults('DELETE', place.manifest('Z'), { status: 202 }));
  await steps.check('the manifest stays', () => place.faults('HEAD', place.manifest(digest), { status: 200 }));
  await steps.check('delete the manifest', () => place.faults('DELETE', place.manifest(digest), { status: 202 }));
  for (const tag of tags) await steps.check(`${tag} is gone with it`, () => place.faults('HEAD', place.manifest(tag), { status: 404 }));
  await steps.check('the list is empty', () => page([], [], false));
}

/** An image whose blobs are there, and which is not. */
async function pushedImage(place: Place, algorithm: Algorithm = 'sha256'): Promise<{ content: Content; digest: string; bytes: Buffer }> {
  const content = new Content({ algorithm });
  const { digest, bytes } = content.image();
  for (const [blob, blobBytes] of content.blobs) {
    const faults = await postOnly(place, { digest: blob, bytes: blobBytes });
    if (faults.length > 0) throw new Error(faults.join('\n'));
  }
  return { content, digest, bytes };
}
