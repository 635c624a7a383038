// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * Reads a registry from the objects of its store alone, with the layout of keys.ts and nothing else: what a rebuild, or a node without Postgres, would see.
 *
 *     npx tsx test/drills/read-store.ts ROOT/store
 */
import { createHash } from 'node:crypto';
import { realpath } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { dataKey, parseEntry, type Entry } from '../../src/storage/keys.js';
import { filesOf, type StoredObjects } from './stored-objects.js';

export interface StoredManifest {
  readonly mediaType: string;
  readonly bytes: Buffer;
}

export interface StoredRepository {
  readonly tags: Map<string, string>;
  readonly manifests: Map<string, StoredManifest>;
  /** Digest → the uuid of its data. */
  readonly links: Map<string, string>;
  /** Subject → referrers. */
  readonly referrers: Map<string, Set<string>>;
}

export interface StoreContent {
  readonly repositories: Map<string, StoredRepository>;
  /** Uuids of all data objects, linked or not. */
  readonly data: Set<string>;
  /** Uuids that any link names, hidden ones too. */
  readonly linked: Set<string>;
  /** What must not be: keys that mean nothing, bytes with another digest, links to nothing. */
  readonly problems: string[];
  /** Blobs of images without a link, which must not be unless a client has deleted them. */
  readonly missing: string[];
}

/** What was read once need not be read again: the bytes of an object never change. */
export interface Readings {
  readonly digests: Map<string, string>;
  readonly manifests: Map<string, Buffer>;
}

export const newReadings = (): Readings => ({ digests: new Map(), manifests: new Map() });

export async function readStore(objects: StoredObjects, read: Readings = newReadings()): Promise<StoreContent> {
  // A node that runs deletes what is superseded; then a listing may name what is gone, and is made again.
  for (let triesLeft = 20; ; triesLeft--) {
    try {
      return await readOnce(objects, read);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || triesLeft === 0) throw error;
    }
  }
}

async function readOnce(objects: StoredObjects, read: Readings): Promise<StoreContent> {
  const problems: string[] = [];
  const entries = new Map<string, Entry & { key: string }>();
  const linked = new Set<string>();
  const referrers: (Entry & { kind: 'referrer' })[] = [];
  for (const key of await objects.list('repositories')) {
    const entry = parseEntry(key);
    if (entry === undefined) problems.push(`${key}: no entry`);
    else if (entry.kind === 'referrer') referrers.push(entry);
    else {
      if (entry.kind === 'link' && entry.uuid !== 'deleted') linked.add(entry.uuid);
      const prefix = path.dirname(key);
      const known = entries.get(prefix);
      if (known === undefined || entry.sequence > known.sequence) entries.set(prefix, { ...entry, key });
    }
  }
  const data = new Set((await objects.list('data')).map((key) => path.basename(key)));
  const content: StoreContent = { repositories: new Map(), data, linked, problems, missing: [] };
  for (const entry of entries.values()) await addEntry(content, objects, entry, read);
  for (const referrer of referrers) addReferrer(content, referrer, entries);
  checkReferences(content);
  return content;
}

async function addEntry(content: StoreContent, objects: StoredObjects, entry: Entry & { key: string }, read: Readings): Promise<void> {
  const repository = repositoryOf(content, entry.repository);
  if (entry.kind === 'tag' && entry.digest !== 'deleted') repository.tags.set(entry.tag, entry.digest);
  if (entry.kind === 'manifest' && !entry.deleted) {
    const object = read.manifests.get(entry.key) ?? (await objects.read(entry.key));
    read.manifests.set(entry.key, object);
    const stored = splitManifest(object);
    if (stored === undefined) content.problems.push(`${entry.key}: no header lines`);
    else if (digestOf(entry.digest, stored.bytes) !== entry.digest) content.problems.push(`${entry.key}: bytes with another digest`);
    else repository.manifests.set(entry.digest, stored);
  }
  if (entry.kind === 'link' && entry.uuid !== 'deleted') {
    repository.links.set(entry.digest, entry.uuid);
    if (!content.data.has(entry.uuid)) content.problems.push(`${entry.key}: its data are not there`);
    else if ((await hashOnce(objects, entry.digest, entry.uuid, read)) !== entry.digest)
      content.problems.push(`${entry.key}: data with another digest`);
  }
}

/** A referrer counts with the manifest's entry of the same sequence. */
function addReferrer(content: StoreContent, referrer: Entry & { kind: 'referrer' }, entries: Map<string, Entry & { key: string }>): void {
  const manifest = entries.get(`repositories/${referrer.repository}/_manifests/${referrer.digest.replace(':', '/')}`);
  if (manifest?.kind !== 'manifest' || manifest.deleted || manifest.sequence !== referrer.sequence) return;
  const { referrers } = repositoryOf(content, referrer.repository);
  const known = referrers.get(referrer.subject);
  if (known === undefined) referrers.set(referrer.subject, new Set([referrer.digest]));
  else known.add(referrer.digest);
}

/** Tags point at manifests, images have their blobs, and who names a subject stands among its referrers. */
function checkReferences({ repositories, problems, missing }: StoreContent): void {
  for (const [name, { tags, manifests, links, referrers }] of repositories) {
    for (const [tag, digest] of tags) if (!manifests.has(digest)) problems.push(`${name}:${tag}: points at no manifest`);
    for (const [digest, { bytes }] of manifests) {
      const {
        config,
        layers = [],
        subject,
      } = JSON.parse(bytes.toString()) as Record<'config' | 'subject', { digest: string } | undefined> & {
        layers?: { digest: string }[];
      };
      for (const blob of config === undefined ? layers : [config, ...layers])
        if (!links.has(blob.digest)) missing.push(`${name}@${digest}: no link to ${blob.digest}`);
      if (subject !== undefined && referrers.get(subject.digest)?.has(digest) !== true)
        problems.push(`${name}@${digest}: not among the referrers of ${subject.digest}`);
    }
  }
}

function repositoryOf({ repositories }: StoreContent, name: string): StoredRepository {
  const known = repositories.get(name);
  if (known !== undefined) return known;
  const repository = { tags: new Map(), manifests: new Map(), links: new Map(), referrers: new Map() };
  repositories.set(name, repository);
  return repository;
}

function splitManifest(object: Buffer): StoredManifest | undefined {
  const end = object.indexOf('\n\n');
  const mediaType = /^Content-Type: (.+)$/m.exec(object.subarray(0, end).toString())?.[1];
  return end < 0 || mediaType === undefined ? undefined : { mediaType, bytes: object.subarray(end + 2) };
}

function digestOf(like: string, bytes: Uint8Array): string {
  const algorithm = like.slice(0, like.indexOf(':'));
  return `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`;
}

async function hashOnce(objects: StoredObjects, like: string, uuid: string, { digests }: Readings): Promise<string> {
  const algorithm = like.slice(0, like.indexOf(':'));
  const key = dataKey(uuid);
  const known = `${algorithm} ${uuid} ${await objects.size(key)}`;
  let digest = digests.get(known);
  if (digest === undefined) {
    const hash = createHash(algorithm);
    for await (const piece of objects.stream(key)) hash.update(piece);
    digest = `${algorithm}:${hash.digest('hex')}`;
    digests.set(known, digest);
  }
  return digest;
}

async function command(directory: string | undefined): Promise<number> {
  if (directory === undefined) {
    console.error('usage: npx tsx test/drills/read-store.ts ROOT/store');
    return 2;
  }
  const { repositories, data, linked, problems, missing } = await readStore(filesOf(directory));
  for (const [name, { tags, manifests, links, referrers }] of [...repositories].sort(([a], [b]) => (a < b ? -1 : 1))) {
    console.log(`${name}: ${tags.size} tags, ${manifests.size} manifests, ${links.size} blobs, ${referrers.size} manifests with referrers`);
    for (const [tag, digest] of [...tags].sort(([a], [b]) => (a < b ? -1 : 1))) console.log(`  ${tag} ${digest}`);
  }
  console.log(`${data.size} data objects, ${[...data].filter((uuid) => !linked.has(uuid)).length} of them without a link`);
  for (const problem of [...problems, ...missing]) console.error(problem);
  return problems.length + missing.length === 0 ? 0 : 1;
}

if (process.argv[1] !== undefined && (await realpath(process.argv[1])) === fileURLToPath(import.meta.url)) {
  process.exitCode = await command(process.argv[2]);
}
