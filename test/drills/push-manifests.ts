// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Images, indexes and referrers of the drill, their tags, and what must be refused. */
import { absent } from './history.js';
import { blobKey, change, describe, manifestKey, present, tagKey, type Change, type Drill } from './drill.js';
import { contentOf, sha256Of } from './random.js';
import { mountBlob, newBlob, uploadBlob, uploadForms, type Blob } from './upload-blob.js';

export const repositories = ['library', 'drill/a', 'drill/b', 'a/deep/path_x/of-names'];
export const tags = ['latest', 'v1', 'v1.0', 'v1.1', 'v2', 'edge', '_x', 'A'];
const refusedTag = 'refused';

export const mediaTypes = {
  image: 'application/vnd.oci.image.manifest.v1+json',
  index: 'application/vnd.oci.image.index.v1+json',
} as const;

export interface PushedManifest {
  readonly repository: string;
  readonly kind: keyof typeof mediaTypes;
  readonly bytes: Buffer;
  readonly digest: string;
  readonly blobs: readonly Blob[];
  /** Of an index. */
  readonly children: readonly PushedManifest[];
}

interface Parts {
  readonly subject?: PushedManifest;
  readonly name: string;
}

export function imageOf(repository: string, config: Blob, layers: readonly Blob[], { subject, name }: Parts): PushedManifest {
  return manifest(
    { repository, kind: 'image', blobs: [config, ...layers], children: [] },
    {
      ...(subject === undefined ? {} : { artifactType: 'application/vnd.drill.signature' }),
      config: descriptor('application/vnd.oci.image.config.v1+json', config),
      layers: layers.map((layer) => descriptor('application/vnd.oci.image.layer.v1.tar', layer)),
      ...(subject === undefined ? {} : { subject: descriptor(mediaTypes[subject.kind], { ...subject, size: subject.bytes.byteLength }) }),
      annotations: { name },
    },
  );
}

export function indexOf(repository: string, children: readonly PushedManifest[], name: string): PushedManifest {
  const manifests = children.map((child) => descriptor(mediaTypes[child.kind], { ...child, size: child.bytes.byteLength }));
  return manifest({ repository, kind: 'index', blobs: [], children }, { manifests, annotations: { name } });
}

function manifest(known: Omit<PushedManifest, 'bytes' | 'digest'>, more: object): PushedManifest {
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: mediaTypes[known.kind], ...more }));
  return { ...known, bytes, digest: sha256Of(bytes) };
}

function descriptor(mediaType: string, { digest, size }: { digest: string; size: number }) {
  return { mediaType, digest, size };
}

/** Brings a blob into a repository as clients do: where HEAD tells that it is there, nothing is sent. False when it did not work in three attempts. */
export async function ensureBlob(drill: Drill, repository: string, blob: Blob): Promise<boolean> {
  const { history, random } = drill;
  const mayHaveIt = (name: string): boolean => history.possible(blobKey(name, blob.digest)).has(present);
  for (let attempt = 1; attempt <= 3; attempt++) {
    if (await isTold(drill, blobKey(repository, blob.digest), `/v2/${repository}/blobs/${blob.digest}`)) return true;
    const source = repositories.find(mayHaveIt);
    if (source !== undefined && random.chance(0.8) && (await mountBlob(drill, repository, blob, source))) return true;
    if (await uploadBlob(drill, repository, blob, random.pick(uploadForms))) return true;
  }
  return false;
}

/** Whether HEAD tells that it is there: then it stays there. */
async function isTold({ node, history, failures }: Drill, key: string, path: string): Promise<boolean> {
  const from = history.now();
  const answer = await node.request('HEAD', path);
  if (answer === 'in doubt') return false;
  const value = answer.status === 200 ? present : absent;
  const possible = history.possible(key, from);
  if (!possible.has(value)) failures.push(`HEAD ${path}: ${answer.status}, possible: ${[...possible].join(' or ')}`);
  if (value === present) history.told(key);
  return value === present;
}

/** Under tags, of which none means by digest alone. What it refers to comes first. */
export async function pushManifest(drill: Drill, pushed: PushedManifest, under: readonly string[]): Promise<boolean> {
  const { repository, digest, bytes, kind, blobs, children } = pushed;
  const { history } = drill;
  const from = history.now();
  for (const blob of blobs) if (!(await ensureBlob(drill, repository, blob))) return false;
  for (const child of children) {
    const path = `/v2/${repository}/manifests/${child.digest}`;
    if (!(await isTold(drill, manifestKey(repository, child.digest), path)) && !(await pushManifest(drill, child, []))) return false;
  }
  const changes: Change[] = [
    { key: manifestKey(repository, digest), value: present },
    ...under.map((tag) => ({ key: tagKey(repository, tag), value: digest })),
  ];
  const [first] = under;
  const byTag = under.length === 1 && drill.random.chance(0.8) ? first : undefined;
  const query = byTag === undefined && under.length > 0 ? `?${under.map((tag) => `tag=${tag}`).join('&')}` : '';
  const message = { body: bytes, headers: { 'Content-Type': mediaTypes[kind] } };
  const answer = await change(drill, changes, 201, 'PUT', `/v2/${repository}/manifests/${byTag ?? digest}${query}`, message);
  if (answer === 'in doubt' || answer.status === 201) return answer !== 'in doubt';
  const deleted = blobs.some((blob) => history.possible(blobKey(repository, blob.digest), from).has(absent));
  if (answer.status !== 404 || !deleted) drill.failures.push(`push of ${repository}@${digest}: ${describe(answer)}`);
  return false;
}

/** A deletion; 404 is right where there may have been nothing. */
export async function deleteThing(drill: Drill, path: string, changes: readonly [Change, ...Change[]]): Promise<void> {
  const from = drill.history.now();
  const answer = await change(drill, changes, 202, 'DELETE', path);
  if (answer === 'in doubt' || answer.status === 202) return;
  if (answer.status !== 404) drill.failures.push(`DELETE ${path}: ${describe(answer)}`);
  else if (!drill.history.possible(changes[0].key, from).has(absent))
    drill.failures.push(`DELETE ${path}: 404, though it was acknowledged`);
}

export function deleteManifest(drill: Drill, { repository, digest }: PushedManifest): Promise<void> {
  return deleteThing(drill, `/v2/${repository}/manifests/${digest}`, [
    { key: manifestKey(repository, digest), value: absent },
    ...tags.map((tag) => ({ key: tagKey(repository, tag), value: absent, onlyIf: digest })),
  ]);
}

/** Pushes that break a rule. None of them may leave anything that can be seen. */
export async function pushRefused(drill: Drill, repository: string, name: string): Promise<void> {
  const missing = newBlob(`${name} never pushed`, 5000);
  const image = imageOf(repository, missing, [], { name });
  const wrong = sha256Of(Buffer.from(`${name} another digest`));
  const bytes = contentOf(name, drill.random.between(2000, 200_000));
  const garbage = Buffer.from(`{"schemaVersion": 2, "${name}`);
  const type = { 'Content-Type': mediaTypes.image };
  const [keys, method, target, message] = drill.random.pick([
    [
      [manifestKey(repository, image.digest), tagKey(repository, refusedTag)],
      'PUT',
      `manifests/${refusedTag}`,
      { body: image.bytes, headers: type },
    ],
    [[manifestKey(repository, wrong)], 'PUT', `manifests/${wrong}`, { body: image.bytes, headers: type }],
    [
      [manifestKey(repository, sha256Of(garbage)), tagKey(repository, refusedTag)],
      'PUT',
      `manifests/${refusedTag}`,
      { body: garbage, headers: type },
    ],
    [[blobKey(repository, wrong), blobKey(repository, sha256Of(bytes))], 'POST', `blobs/uploads/?digest=${wrong}`, { body: bytes }],
  ] as const);
  for (const key of keys) drill.refused.add(key);
  const answer = await drill.node.request(method, `/v2/${repository}/${target}`, message);
  if (answer === 'in doubt') return;
  drill.counts.refused++;
  if (answer.status < 400) drill.failures.push(`${method} ${target}: ${answer.status} where it must be refused`);
}
