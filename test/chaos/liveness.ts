// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * What is dead, by the rules of garbage collection and nothing else: computed here, from the rows and the bytes of manifests, beside the collector's own statements. A
 * manifest lives while it can be reached from a root over index → child and subject → referrer; a link while a manifest of its repository names its digest, or its time
 * has not come.
 */
import { Client } from 'pg';
import { absent } from '../drills/history.js';
import { blobKey, manifestKey, present, tagKey } from '../drills/drill.js';
import { referrersKey, type View } from '../drills/views.js';

/** Milliseconds, as the nodes are configured. */
export interface Lifetimes {
  readonly untaggedAfterMs: number;
  readonly undoWindowMs: number;
  readonly keepPulledMs: number;
}

interface ManifestRow {
  readonly repository: string;
  readonly digest: string;
  readonly bytes: Buffer;
  readonly due: number;
  readonly pushed: number;
  readonly pulled: number | null;
}

interface LinkRow {
  readonly repository: string;
  readonly digest: string;
  readonly due: number;
}

interface TagEntry {
  readonly repository: string;
  readonly tag: string;
  /** Null where the tag was deleted. */
  readonly digest: string | null;
  readonly at: number;
}

/** The rows at one moment. Times are milliseconds of the database's clock. */
export interface Snapshot {
  readonly now: number;
  readonly manifests: readonly ManifestRow[];
  readonly links: readonly LinkRow[];
  readonly tags: readonly { readonly repository: string; readonly tag: string; readonly digest: string }[];
  /** Oldest first. */
  readonly history: readonly TagEntry[];
}

const digestOf = (column: string): string =>
  `CASE get_byte(${column}, 0) WHEN 1 THEN 'sha256:' ELSE 'sha512:' END || encode(substr(${column}, 2), 'hex') AS digest`;
const ms = (column: string): string => `(extract(epoch FROM ${column}) * 1000)::float8`;

export async function takeSnapshot(url: string): Promise<Snapshot> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
    const rowsOf = async <Row extends object>(text: string): Promise<Row[]> => (await client.query<Row>(text)).rows;
    const [{ now } = { now: 0 }] = await rowsOf<{ now: number }>(`SELECT ${ms('clock_timestamp()')} AS now`);
    return {
      now,
      manifests: await rowsOf(
        `SELECT r.name AS repository, ${digestOf('m.digest')}, m.bytes, ${ms('m.due_at')} AS due, ${ms('m.pushed_at')} AS pushed, ${ms('m.pulled_at')} AS pulled
         FROM manifests m JOIN repositories r ON r.id = m.repository_id`,
      ),
      links: await rowsOf(
        `SELECT r.name AS repository, ${digestOf('l.digest')}, ${ms('l.due_at')} AS due FROM repository_blobs l JOIN repositories r ON r.id = l.repository_id`,
      ),
      tags: await rowsOf(
        `SELECT r.name AS repository, t.name AS tag, ${digestOf('t.digest')} FROM tags t JOIN repositories r ON r.id = t.repository_id`,
      ),
      history: await rowsOf(
        `SELECT r.name AS repository, h.name AS tag, ${digestOf('h.digest')}, ${ms('h.at')} AS at
         FROM tag_history h JOIN repositories r ON r.id = h.repository_id ORDER BY h.sequence`,
      ),
    };
  } finally {
    await client.end();
  }
}

interface References {
  readonly blobs: readonly string[];
  readonly children: readonly string[];
  readonly subject: string | undefined;
}

/** Keys of manifests and links that nothing keeps any more `laterMs` after the snapshot. */
export function deadOf(snapshot: Snapshot, laterMs: number, lifetimes: Lifetimes): Set<string> {
  const at = snapshot.now + laterMs;
  const dead = new Set<string>();
  for (const repository of new Set([...snapshot.manifests, ...snapshot.links].map((row) => row.repository))) {
    const within = <Row extends { readonly repository: string }>(rows: readonly Row[]): Row[] =>
      rows.filter((row) => row.repository === repository);
    const manifests = new Map(within(snapshot.manifests).map((row) => [row.digest, { ...row, ...referencesOf(row.bytes) }]));
    const live = new Set(rootsOf(manifests.values(), within(snapshot.tags), within(snapshot.history), at, lifetimes));
    for (const digest of live) {
      for (const child of manifests.get(digest)?.children ?? []) if (manifests.has(child)) live.add(child);
      for (const referrer of manifests.values()) if (referrer.subject === digest) live.add(referrer.digest);
    }
    const named = new Set([...manifests.values()].flatMap(({ blobs }) => blobs));
    for (const digest of manifests.keys()) if (!live.has(digest)) dead.add(manifestKey(repository, digest));
    for (const { digest, due } of within(snapshot.links)) if (!named.has(digest) && due <= at) dead.add(blobKey(repository, digest));
  }
  return dead;
}

function* rootsOf(
  manifests: Iterable<ManifestRow>,
  tags: Snapshot['tags'],
  history: Snapshot['history'],
  at: number,
  { untaggedAfterMs, undoWindowMs, keepPulledMs }: Lifetimes,
): Generator<string> {
  const tagged = new Set(tags.map(({ digest }) => digest));
  // An entry counts from the moment at which the next one of its tag took its place.
  const left = new Map<string, number>();
  const next = new Map<string, number>();
  for (const { tag, digest, at: since } of history.toReversed()) {
    if (digest !== null) left.set(digest, Math.max(left.get(digest) ?? 0, next.get(tag) ?? since));
    next.set(tag, since);
  }
  for (const { digest, due, pushed, pulled } of manifests) {
    const until = Math.max(
      due,
      pushed + untaggedAfterMs,
      (pulled ?? -Infinity) + keepPulledMs,
      (left.get(digest) ?? -Infinity) + undoWindowMs,
    );
    if (tagged.has(digest) || until > at) yield digest;
  }
}

function referencesOf(bytes: Buffer): References {
  type Descriptor = { readonly digest: string };
  const {
    config,
    layers = [],
    manifests = [],
    subject,
  } = JSON.parse(bytes.toString()) as {
    config?: Descriptor;
    layers?: Descriptor[];
    manifests?: Descriptor[];
    subject?: Descriptor;
  };
  return {
    blobs: [...(config === undefined ? [] : [config]), ...layers].map(({ digest }) => digest),
    children: manifests.map(({ digest }) => digest),
    subject: subject?.digest,
  };
}

/** The rows as the drill's keys and values. */
export function viewOfSnapshot({ manifests, links, tags }: Snapshot): View {
  const view: View = new Map();
  for (const { repository, digest } of links) view.set(blobKey(repository, digest), present);
  for (const { repository, tag, digest } of tags) view.set(tagKey(repository, tag), digest);
  const referrers = new Map<string, string[]>();
  for (const { repository, digest, bytes } of manifests) {
    view.set(manifestKey(repository, digest), present);
    const { subject } = referencesOf(bytes);
    if (subject === undefined) continue;
    const key = referrersKey(repository, subject);
    referrers.set(key, [...(referrers.get(key) ?? []), digest]);
  }
  for (const [key, digests] of referrers) view.set(key, digests.sort().join(' '));
  return view;
}

/** What was there and is not any more. */
export function goneBetween(before: View, after: View): string[] {
  return [...before.keys()].filter((key) => !key.startsWith('r ') && (before.get(key) ?? absent) !== absent && !after.has(key));
}
