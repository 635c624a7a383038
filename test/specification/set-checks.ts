// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What is done with every data set: push, list, look, pull, ask for referrers, delete. */
import type { Test } from 'tap';
import { jsonOf } from '../support/http-client.js';
import { digestsOf, mediaTypes, type Descriptor, type ManifestContent } from './content.js';
import type { DataSet } from './data-sets.js';
import { faultsOf, headerValues, Steps, type Expected } from './expectations.js';
import { acceptedManifests, withQuery, type Place } from './place.js';
import { everyForm, type UploadForm } from './upload-forms.js';

/** Goes round the forms from blob to blob, over all data sets. */
export class FormCycle {
  private turn = 0;

  next(): readonly [string, UploadForm] {
    const entries = Object.entries(everyForm);
    const entry = entries[this.turn++ % entries.length];
    if (entry === undefined) throw new Error('no forms');
    return entry;
  }
}

export async function checkDataSet(t: Test, set: DataSet, place: Place, forms: FormCycle): Promise<void> {
  const steps = new Steps(t, set.name);
  await push(steps, set, place, forms);
  await list(steps, set, place);
  await look(steps, set, place, 'HEAD');
  await look(steps, set, place, 'GET');
  await lookForLacking(steps, set, place);
  await referrers(steps, set, place);
  await remove(steps, set, place);
}

async function push(steps: Steps, set: DataSet, place: Place, forms: FormCycle): Promise<void> {
  const { content, tagParameters = false } = set;
  let number = 0;
  for (const [digest, bytes] of content.blobs) {
    const [name, form] = forms.next();
    await steps.check(`push/blob ${number++}, ${name}`, () => form(place, { digest, bytes }));
  }
  for (const [position, manifest] of content.manifests.entries()) {
    const tags = tagParameters ? tagsOf(set, manifest) : [];
    await steps.check(`push/manifest-by-digest ${position}`, () => pushManifest(place, set, manifest, manifest.digest, tags));
  }
  if (tagParameters) return;
  for (const [tag, manifest] of content.tags) {
    await steps.check(`push/manifest-by-tag ${tag}`, () => pushManifest(place, set, manifest, tag, []));
  }
}

function tagsOf({ content }: DataSet, manifest: ManifestContent): string[] {
  return [...content.tags].filter(([, tagged]) => tagged === manifest).map(([tag]) => tag);
}

/** As Go sends what it does not know the length of: chunked. */
async function pushManifest(place: Place, set: DataSet, manifest: ManifestContent, reference: string, tags: string[]): Promise<string[]> {
  const { digest, mediaType, subject } = manifest;
  const target = withQuery(
    place.manifest(reference),
    tags.map((tag) => ['tag', tag]),
  );
  const bytes = set.wrongDigest === true ? Buffer.concat([manifest.bytes, Buffer.from('  ')]) : manifest.bytes;
  const answer = await place.send('PUT', target, { headers: { 'Content-Type': mediaType }, body: bytes, chunked: true });
  if (set.wrongDigest === true) {
    const refusal = faultsOf('PUT', answer, { status: 400, code: 'DIGEST_INVALID' });
    return [...refusal, ...(await place.absentFaults('manifest', digest, ...digestsOf(bytes)))];
  }
  const headers = { Location: /./, 'Docker-Content-Digest': digest, ...(subject === undefined ? {} : { 'OCI-Subject': subject }) };
  const faults = faultsOf('PUT', answer, { status: 201, headers });
  const named = headerValues(answer, 'OCI-Tag').flatMap((value) => value.split(',').map((tag) => tag.trim()));
  for (const tag of tags) if (!named.includes(tag)) faults.push(`OCI-Tag has no ${tag}`);
  const [location] = headerValues(answer, 'Location');
  if (location === undefined) return faults;
  return [...faults, ...(await place.manifestFaults('GET', place.resolve(location), digest, mediaType, bytes))];
}

async function list(steps: Steps, { content }: DataSet, place: Place): Promise<void> {
  const target = `/v2/${place.repository}/tags/list`;
  await steps.check('tag-list', async () => {
    const answer = await place.send('GET', target);
    const faults = faultsOf('GET tags', answer, { status: 200, headers: { 'Content-Type': 'application/json' } });
    const { name, tags } = jsonOf<{ name: unknown; tags: string[] }>(answer);
    if (name !== place.repository) faults.push(`the name is ${String(name)}`);
    for (const tag of content.tags.keys()) if (!tags.includes(tag)) faults.push(`${tag} is missing`);
    if (JSON.stringify(tags) !== JSON.stringify(tags.toSorted(byBytes))) faults.push('the tags are not in order');
    if (tags.length < 2) return faults;
    // The second half of the list is what comes after the last of the first.
    const half = Math.floor(tags.length / 2);
    const rest = await place.send('GET', withQuery(target, [['last', tags[half - 1] ?? '']]));
    faults.push(...faultsOf('GET tags?last=', rest, { status: 200 }));
    const remaining = jsonOf<{ tags: string[] }>(rest).tags;
    if (JSON.stringify(remaining) !== JSON.stringify(tags.slice(half))) faults.push(`after ${tags[half - 1]} comes ${remaining.join(' ')}`);
    return faults;
  });
}

function byBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

async function look(steps: Steps, { content, wrongDigest }: DataSet, place: Place, method: 'HEAD' | 'GET'): Promise<void> {
  const step = method === 'HEAD' ? 'head' : 'pull';
  const check = (name: string, reference: string, { digest, mediaType, bytes }: ManifestContent) =>
    steps.check(`${step}/${name}`, () => place.manifestFaults(method, place.manifest(reference), digest, mediaType, bytes));
  for (const [tag, manifest] of content.tags) await check(`manifest-by-tag ${tag}`, tag, manifest);
  for (const [position, manifest] of content.manifests.entries()) {
    if (wrongDigest !== true) await check(`manifest-by-digest ${position}`, manifest.digest, manifest);
    else
      await steps.check(`${step}/refused manifest ${position}`, () =>
        place.faults(method, place.manifest(manifest.digest), { status: 404 }),
      );
  }
  let number = 0;
  for (const [digest, bytes] of content.blobs) {
    await steps.check(`${step}/blob ${number++}`, () => place.blobFaults(method, place.blob(digest), digest, bytes));
  }
}

/** Whoever takes a manifest whose parts or subject are not there has nothing to show for them. */
async function lookForLacking(steps: Steps, { content }: DataSet, place: Place): Promise<void> {
  const digests = [...content.lacking()];
  if (digests.length === 0) return;
  await steps.check('pull/what was never pushed', async () => [
    ...(await place.absentFaults('blob', ...digests)),
    ...(await place.absentFaults('manifest', ...digests)),
  ]);
}

async function referrers(steps: Steps, { content }: DataSet, place: Place): Promise<void> {
  for (const [subject, goals] of content.referrers) {
    await steps.check('referrers/all', () => referrerFaults(place, subject, goals, undefined));
    for (const type of new Set(goals.map(({ artifactType }) => artifactType ?? ''))) {
      const wanted = goals.filter(({ artifactType = '' }) => artifactType === type);
      await steps.check(`referrers/of type ${type}`, () => referrerFaults(place, subject, wanted, type));
    }
    await steps.check('referrers/of a type that none has', () => referrerFaults(place, subject, [], 'application/vnd.example.none'));
  }
}

/** Exactly the `goals` are listed: nobody else pushes to this repository. */
async function referrerFaults(
  place: Place,
  subject: string,
  goals: readonly Descriptor[],
  artifactType: string | undefined,
): Promise<string[]> {
  const target = withQuery(
    `/v2/${place.repository}/referrers/${subject}`,
    artifactType === undefined ? [] : [['artifactType', artifactType]],
  );
  const answer = await place.send('GET', target, { headers: { Accept: acceptedManifests } });
  const headers = { 'Content-Type': mediaTypes.index, ...(artifactType === undefined ? {} : { 'OCI-Filters-Applied': 'artifactType' }) };
  const faults = faultsOf('GET referrers', answer, { status: 200, headers });
  if (artifactType === undefined && headerValues(answer, 'OCI-Filters-Applied').length > 0) faults.push('a filter was applied');
  const { schemaVersion, mediaType, manifests } = jsonOf<{ schemaVersion: unknown; mediaType: unknown; manifests: Descriptor[] }>(answer);
  if (schemaVersion !== 2 || mediaType !== mediaTypes.index) faults.push(`not an index: ${String(schemaVersion)}, ${String(mediaType)}`);
  const [found, wanted] = [manifests.map(inOrder), goals.map(inOrder)];
  for (const entry of wanted) if (!found.includes(entry)) faults.push(`not listed: ${entry}`);
  for (const entry of found) if (!wanted.includes(entry)) faults.push(`listed too: ${entry}`);
  return faults;
}

function inOrder({ mediaType, digest, size, artifactType, annotations = {} }: Descriptor): string {
  const sorted = Object.entries(annotations).toSorted(([a], [b]) => byBytes(a, b));
  return JSON.stringify([digest, mediaType, size, artifactType ?? '', sorted]);
}

/** Tags, then manifests from the last to the first, then blobs; each is gone at once. A repeated DELETE finds nothing. */
async function remove(steps: Steps, { content, wrongDigest }: DataSet, place: Place): Promise<void> {
  const gone = async (name: string, target: string, isThere: boolean) => {
    const expected: Expected = isThere ? { status: 202 } : { status: 404 };
    await steps.check(`delete/${name}`, () => place.faults('DELETE', target, expected));
    await steps.check(`delete/${name}, then head`, () => place.faults('HEAD', target, { status: 404 }));
  };
  for (const tag of content.tags.keys()) await gone(`tag ${tag}`, place.manifest(tag), true);
  for (const [position, { digest }] of [...content.manifests.entries()].toReversed()) {
    await gone(`manifest ${position}`, place.manifest(digest), wrongDigest !== true);
  }
  for (const subject of content.referrers.keys()) {
    await steps.check('delete/no referrers are left', () => referrerFaults(place, subject, [], undefined));
  }
  let number = 0;
  for (const digest of content.blobs.keys()) await gone(`blob ${number++}`, place.blob(digest), true);
}
