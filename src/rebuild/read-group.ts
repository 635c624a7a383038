// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What the entries of one prefix say, after a look at the objects that they name. The newest entry wins; one that does not fit is quarantined, and nothing is guessed. */
import type { Digest } from '../oci/digest.js';
import type { Manifest } from '../oci/manifest.js';
import type { Tag } from '../oci/reference.js';
import type { RepositoryName } from '../oci/repository-name.js';
import type { Lookups } from '../storage/batch-lookups.js';
import type { DamageMarks } from '../storage/damage-marks.js';
import { dataKey, entryKey, isDeletion, isForeign, referrerTemplate, timeInTagBody } from '../storage/keys.js';
import type { EntryGroup, StoredEntry } from './entry-groups.js';
import { parseManifestObject } from './manifest-object.js';

/** An object that does not fit, and why. */
export interface Finding {
  readonly key: string;
  readonly reason: string;
  /** It counts all the same: reported, not quarantined. */
  readonly kept?: true;
}

export interface RestoredLink {
  readonly repository: RepositoryName;
  readonly digest: Digest;
  readonly uuid: string;
  readonly size: number;
  /** Where the data are, when not at their own key. */
  readonly key: string | undefined;
  readonly sequence: bigint;
  readonly damaged: boolean;
  /** Of the mark in the store that says so. */
  readonly damageSequence: bigint | undefined;
}

export interface RestoredManifest {
  readonly repository: RepositoryName;
  readonly digest: Digest;
  readonly sequence: bigint;
  readonly manifest: Manifest;
  readonly bytes: Uint8Array;
}

export interface RestoredTagEntry {
  readonly repository: RepositoryName;
  readonly tag: Tag;
  readonly prefix: string;
  readonly sequence: bigint;
  /** undefined: the tag was deleted. */
  readonly digest: Digest | undefined;
  /** Unknown for a deletion of a former version. */
  readonly at: Date | undefined;
}

export interface RestoredReferrer {
  readonly repository: RepositoryName;
  readonly subject: Digest;
  readonly digest: Digest;
  readonly sequence: bigint;
  readonly key: string;
}

/** What a group comes to. */
export interface GroupReading {
  readonly link?: RestoredLink;
  readonly manifest?: RestoredManifest;
  /** Newest first. */
  readonly tag?: readonly RestoredTagEntry[];
  readonly referrers?: readonly RestoredReferrer[];
  /** The prefix ends in a deletion. */
  readonly tombstone?: { readonly repository: RepositoryName; readonly path: string; readonly sequence: bigint };
  /** Entries below the one that counts: the commit that made it count would have put them there. */
  readonly superseded: readonly string[];
  readonly findings: readonly Finding[];
}

/** Tells whether data have their digest; undefined where that is not asked. */
export type VerifyData = (key: string, digest: Digest, size: number) => Promise<boolean>;

/** What is known of data beforehand, and how more is learned. */
export interface DataChecks {
  readonly marks: DamageMarks;
  readonly verify?: VerifyData | undefined;
}

export async function readGroup(store: Lookups, group: EntryGroup, checks: DataChecks): Promise<GroupReading> {
  const findings: Finding[] = group.strange.map((key) => ({ key, reason: 'not a key of the store layout' }));
  const reading = await readEntries(store, group, checks, findings);
  return { ...reading, findings };
}

function readEntries(store: Lookups, group: EntryGroup, checks: DataChecks, findings: Finding[]): Promise<Omit<GroupReading, 'findings'>> {
  switch (group.kind) {
    case 'link':
      return readLinks(store, group, checks, findings);
    case 'manifest':
      return readManifests(store, group, findings);
    case 'tag':
      return readTag(store, group, findings);
    case 'referrer':
      return Promise.resolve({ referrers: group.entries as readonly Extract<StoredEntry, { kind: 'referrer' }>[], superseded: [] });
  }
}

async function readLinks(store: Lookups, group: EntryGroup, { marks, verify }: DataChecks, findings: Finding[]) {
  for (const [index, entry] of group.entries.entries()) {
    if (entry.kind !== 'link') continue;
    const superseded = group.entries.slice(index + 1).map(({ key }) => key);
    const { repository, digest, uuid, sequence } = entry;
    if (uuid === 'deleted') return { tombstone: { repository, path: group.prefix, sequence }, superseded };
    const key = isForeign(uuid) ? await foreignKey(store, entry.key) : undefined;
    const place = key ?? dataKey(uuid);
    const size = await store.size(place);
    if (size === undefined) {
      findings.push({ key: entry.key, reason: `the data ${place} are missing` });
      continue;
    }
    const damageSequence = marks.get(uuid);
    const damaged = damageSequence !== undefined || (verify !== undefined && !(await verify(place, digest, size)));
    if (damaged) findings.push({ key: place, reason: `the bytes are not those of ${digest}` });
    return { link: { repository, digest, uuid, size, key, sequence, damaged, damageSequence }, superseded };
  }
  return { superseded: [] };
}

/** The body of a link that names a key elsewhere. */
async function foreignKey(store: Lookups, link: string): Promise<string | undefined> {
  const body = await store.get(link);
  return body === undefined || body.byteLength === 0 ? undefined : Buffer.from(body).toString('utf8').trim();
}

async function readManifests(store: Lookups, group: EntryGroup, findings: Finding[]) {
  for (const [index, entry] of group.entries.entries()) {
    if (entry.kind !== 'manifest') continue;
    const superseded = group.entries.slice(index + 1).map(({ key }) => key);
    const { repository, digest, sequence } = entry;
    if (entry.deleted) return { tombstone: { repository, path: group.prefix, sequence }, superseded };
    const object = await store.get(entry.key);
    // It was superseded and deleted since it was listed.
    if (object === undefined) continue;
    try {
      return { manifest: { repository, digest, sequence, ...parseManifestObject(object, digest) }, superseded };
    } catch (error) {
      findings.push({ key: entry.key, reason: `the manifest cannot be used: ${(error as Error).message}` });
    }
  }
  return { superseded: [] };
}

async function readTag(store: Lookups, group: EntryGroup, findings: Finding[]) {
  const tagEntries = group.entries.filter((entry) => entry.kind === 'tag');
  const times = await Promise.all(tagEntries.map(({ key }) => readTime(store, key, findings)));
  const entries = tagEntries.map((entry, index): RestoredTagEntry => {
    const { repository, sequence, digest } = entry;
    const common = { repository, tag: entry.tag, prefix: group.prefix, sequence };
    return { ...common, digest: digest === 'deleted' ? undefined : digest, at: times[index] };
  });
  const [newest] = entries;
  if (newest === undefined || newest.digest !== undefined) return { tag: entries, superseded: [] };
  return { tag: entries, tombstone: { repository: newest.repository, path: group.prefix, sequence: newest.sequence }, superseded: [] };
}

/** A tag says in its key where it points; its body tells only when that was. Deletions of former versions have none. */
async function readTime(store: Lookups, key: string, findings: Finding[]): Promise<Date | undefined> {
  const body = (await store.get(key)) ?? new Uint8Array();
  const time = timeInTagBody(body);
  if (time === undefined && !(body.byteLength === 0 && isDeletion(key)))
    findings.push({ key, reason: 'the time of the tag cannot be read; it is restored without', kept: true });
  return time;
}

/** The key under which a restored manifest stands among the referrers of its subject; undefined when it has none. */
export function referrerKeyOf({ repository, digest, sequence, manifest }: RestoredManifest): string | undefined {
  return manifest.subject === undefined ? undefined : entryKey(referrerTemplate(repository, manifest.subject, digest), sequence);
}
