// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Pages of referrers, from Postgres and from the store: the same ones, each referrer once, and no more is read than is shown. */
import { Client } from 'pg';
import t, { type Test } from 'tap';
import { anybody } from '../src/access/caller.js';
import { migrate } from '../src/database/migrate.js';
import type { Queryer } from '../src/database/pool.js';
import type { Request } from '../src/http/contract.js';
import { ManifestCache } from '../src/manifest/manifest-cache.js';
import { parseDigest, type Digest } from '../src/oci/digest.js';
import { referrersTag } from '../src/oci/reference.js';
import type { RepositoryName } from '../src/oci/repository-name.js';
import type { MetadataReads } from '../src/reads/metadata-reads.js';
import { openStoreReads } from '../src/reads/store-reads.js';
import { getReferrers } from '../src/referrer/handlers.js';
import { listReferrers } from '../src/referrer/referrer-queries.js';
import type { BlobStore } from '../src/storage/blob-store.js';
import { entryKey, manifestTemplate, referrerTemplate, tagTemplate, type KeyTemplate } from '../src/storage/keys.js';
import { writeManifestObject } from '../src/storage/manifest-object.js';
import { freshDatabase } from './support/postgres.js';
import { describe, digestOf, imageOf, indexOf, types } from './support/wire-suite.js';

const repository = 'some/image' as RepositoryName;
const mebi = 1024 * 1024;
/** Largest of a page, and what is read ahead of it. */
const mostRead = 3 * mebi + 20 * 200_000;

interface Stored {
  readonly digest: Digest;
  readonly body: string;
  readonly mediaType: string;
  readonly subject: Digest | undefined;
  readonly artifactType: string | undefined;
  readonly tag: string | undefined;
  readonly children: readonly Digest[];
}

const stored = new Map<Digest, Stored>();

function store(body: string, more: Partial<Stored> = {}): Digest {
  const digest = parseDigest(digestOf(body));
  const none = { subject: undefined, artifactType: undefined, tag: undefined, children: [] };
  stored.set(digest, { digest, body, mediaType: types.manifest, ...none, ...more });
  return digest;
}

function storeFallback(subject: Digest, children: readonly Digest[], absent: readonly Digest[]): void {
  const entries = [...children, ...absent].map((digest) => ({ mediaType: types.manifest, digest, size: 1 }));
  store(indexOf(entries), { mediaType: types.index, tag: referrersTag(subject), children });
}

/** Many small ones, some of which have the subject, some stand in the fallback tag's index, and some both. */
const many = parseDigest(digestOf('many'));
const typeOf = (index: number): string => `application/vnd.${index % 4 === 0 ? 'fourth' : 'other'}`;
const small = Array.from({ length: 2_500 }, (_, index) => {
  const isReferring = index % 3 !== 0;
  const more = isReferring ? { subject: { ...describe(types.manifest, 'many'), digest: many } } : {};
  const body = imageOf([], { ...more, artifactType: typeOf(index), annotations: { index: String(index) } });
  return {
    isListed: !isReferring || index % 5 === 0,
    type: typeOf(index),
    digest: store(body, { subject: isReferring ? many : undefined, artifactType: typeOf(index) }),
  };
});
storeFallback(
  many,
  small.filter(({ isListed }) => isListed).map(({ digest }) => digest),
  [parseDigest(digestOf('absent'))],
);

/** 60 of 195 KB, which are a third of that in UTF-16 units. */
const large = parseDigest(digestOf('large'));
const largeOnes = Array.from({ length: 60 }, (_, index) => {
  const annotations = { text: `${index} ${'漢'.repeat(65_000)}` };
  return store(imageOf([], { subject: describe(types.manifest, 'large'), artifactType: typeOf(index), annotations }), {
    subject: large,
    artifactType: typeOf(index),
  });
});

/** An index of 20,000 that are not here. */
const sparse = parseDigest(digestOf('sparse'));
storeFallback(
  sparse,
  [],
  Array.from({ length: 20_000 }, (_, index) => parseDigest(digestOf(`absent ${index}`))),
);

const inOrder = (digests: readonly Digest[]): Digest[] => digests.toSorted();
const smallOnes = inOrder(small.map(({ digest }) => digest));
const fourths = new Set(small.filter(({ type }) => type === typeOf(0)).map(({ digest }) => digest));
const largeFourths = largeOnes.filter((_, index) => index % 4 === 0);
const late = new Set([...smallOnes.slice(-3), ...inOrder(largeOnes).slice(-20)]);

interface Source {
  readonly reads: Pick<MetadataReads, 'listReferrers'>;
  /** Bytes that were read since it was asked last. */
  readonly taken: () => number;
  /** Whether a fallback tag's index must be read, and each manifest whose type is asked about. */
  readonly knowsBytesOnly: boolean;
}

interface Case {
  readonly what: string;
  readonly subject: Digest;
  readonly artifactType?: string;
  readonly isVisible?: (digest: string) => boolean;
  readonly expected: readonly Digest[];
  readonly pages: number;
}

const fourth = typeOf(0);
const isOdd = (digest: string): boolean => Number.parseInt(digest.at(-1) ?? '', 16) % 2 === 1;
const isLate = (digest: string): boolean => late.has(digest as Digest);
const none = parseDigest(digestOf('nobody refers to it'));

const cases: readonly Case[] = [
  { what: 'all', subject: many, expected: smallOnes, pages: 3 },
  { what: 'of a type', subject: many, artifactType: fourth, expected: smallOnes.filter((digest) => fourths.has(digest)), pages: 1 },
  { what: 'of a type that none has', subject: many, artifactType: 'x', expected: [], pages: 1 },
  { what: 'every other one', subject: many, isVisible: isOdd, expected: smallOnes.filter(isOdd), pages: 2 },
  { what: 'the last ones only', subject: many, isVisible: isLate, expected: smallOnes.filter(isLate), pages: 1 },
  {
    what: 'the first page only',
    subject: many,
    isVisible: (digest) => digest <= (smallOnes[999] ?? ''),
    expected: smallOnes.slice(0, 1_000),
    pages: 1,
  },
  { what: 'none', subject: many, isVisible: () => false, expected: [], pages: 1 },
  {
    what: 'every other one of a type',
    subject: many,
    artifactType: fourth,
    isVisible: isOdd,
    expected: smallOnes.filter((digest) => fourths.has(digest) && isOdd(digest)),
    pages: 1,
  },
  { what: 'large ones', subject: large, expected: inOrder(largeOnes), pages: 4 },
  { what: 'large ones of a type', subject: large, artifactType: fourth, expected: inOrder(largeFourths), pages: 1 },
  { what: 'the last large ones', subject: large, isVisible: isLate, expected: inOrder(largeOnes).slice(-20), pages: 2 },
  { what: 'no large one', subject: large, isVisible: () => false, expected: [], pages: 1 },
  { what: 'only absent ones', subject: sparse, expected: [], pages: 1 },
  { what: 'nothing', subject: none, expected: [], pages: 1 },
];

void t.test('pages', async (t) => {
  const [database, log] = [await inPostgres(t), inStore()];
  for (const wanted of cases) {
    const pages = await pagesOf(database, wanted);
    check(t, `${wanted.what}, from Postgres`, wanted, pages, database);
    const fromStore = await pagesOf(log, wanted);
    check(t, `${wanted.what}, from the store`, wanted, fromStore, log);
    t.ok(
      fromStore.every(({ body }, index) => body === pages[index]?.body),
      `${wanted.what}: the same pages`,
    );
  }
});

void t.test('those who ask the store together', async (t) => {
  const source = inStore();
  const asked = cases.filter(({ subject, artifactType }) => subject === many && artifactType === undefined);
  const together = await Promise.all(asked.map((wanted) => pagesOf(source, wanted)));
  for (const [index, { what, expected }] of asked.entries()) {
    t.strictSame(together[index]?.flatMap(digestsOf), expected, `${what}: each sees their own`);
  }
});

interface Page {
  readonly body: string;
  /** Bytes that were read for it. */
  readonly taken: number;
}

function check(t: Test, what: string, wanted: Case, pages: readonly Page[], { knowsBytesOnly }: Source): void {
  const { expected, artifactType } = wanted;
  t.strictSame(pages.flatMap(digestsOf), expected, `${what}: each once`);
  t.equal(pages.length, wanted.pages, `${what}: full pages`);
  const most = (knowsBytesOnly ? 4 * mebi : 0) + (expected.length === 0 ? 250_000 : mostRead);
  for (const { body, taken } of pages) {
    t.ok(Buffer.byteLength(body) <= 4 * mebi, `${what}: a page of ${Buffer.byteLength(body)} bytes`);
    t.ok(taken <= most || (knowsBytesOnly && artifactType !== undefined), `${what}: ${taken} bytes were read`);
  }
}

function digestsOf({ body }: Page): Digest[] {
  return (JSON.parse(body) as { manifests: { digest: Digest }[] }).manifests.map(({ digest }) => digest);
}

async function pagesOf({ reads, taken }: Source, { subject, artifactType, isVisible }: Case): Promise<Page[]> {
  const parts = { reads: reads as MetadataReads };
  const request = { signal: new AbortController().signal } as Request;
  const caller = { ...anybody, referrerFilter: () => isVisible };
  const pages: Page[] = [];
  let query = new URLSearchParams(artifactType === undefined ? {} : { artifactType });
  taken();
  while (pages.length < 10) {
    const { headers, body } = await getReferrers(parts, request, { repository, digest: subject }, query, caller);
    pages.push({ body: body as string, taken: taken() });
    const next = /^<[^?]+\?([^>]+)>/.exec(String(headers?.['Link'] ?? ''))?.[1];
    if (next === undefined) break;
    query = new URLSearchParams(next);
  }
  return pages;
}

async function inPostgres(t: Test): Promise<Source> {
  const database = await freshDatabase();
  await migrate(database.url);
  const client = new Client({ connectionString: database.url });
  await client.connect();
  t.teardown(async () => {
    await client.end();
    await database.drop();
  });
  const rows = JSON.stringify(
    [...stored.values()].map(({ digest, body, subject, tag, mediaType, artifactType = null, children }) => ({
      digest: column(digest),
      subject: subject === undefined ? null : column(subject),
      tag,
      media_type: mediaType,
      artifact_type: artifactType,
      body,
      children: children.map(column),
      annotations: (JSON.parse(body) as { annotations?: object }).annotations ?? null,
    })),
  );
  await client.query('INSERT INTO repositories (id, name) OVERRIDING SYSTEM VALUE VALUES (1, $1)', [repository]);
  const from = `FROM jsonb_to_recordset($1) AS x(digest bytea, subject bytea, tag text, media_type text, artifact_type text, body text, children bytea[], annotations jsonb)`;
  for (const insert of [
    `manifests (repository_id, digest, sequence, media_type, bytes, subject, artifact_type, annotations, due_at)
     SELECT 1, digest, row_number() OVER (), media_type, convert_to(body, 'UTF8'), subject, artifact_type, annotations, now() ${from}`,
    `manifest_children SELECT 1, digest, unnest(children) ${from}`,
    `tags (repository_id, name, digest, sequence) SELECT 1, tag, digest, row_number() OVER () ${from} WHERE tag IS NOT NULL`,
  ]) {
    await client.query(`INSERT INTO ${insert}`, [rows]);
  }
  let taken = 0;
  const query = async (...args: Parameters<Client['query']>) => {
    const answer = await (client.query as (...all: unknown[]) => Promise<{ rows: unknown[] }>).apply(client, args);
    taken += Buffer.byteLength(JSON.stringify(answer.rows));
    return answer;
  };
  return {
    reads: { listReferrers: (name, subject, filter) => listReferrers({ query } as unknown as Queryer, name, subject, filter) },
    taken: () => [taken, (taken = 0)][0] ?? 0,
    knowsBytesOnly: false,
  };
}

const column = (digest: Digest): string => `\\x01${digest.slice(7)}`;

function inStore(): Source {
  const objects = new Map<string, Uint8Array>();
  const put = (template: KeyTemplate, bytes = Buffer.alloc(0)): void => void objects.set(entryKey(template, 1n), bytes);
  for (const { digest, body, mediaType, subject, tag } of stored.values()) {
    put(manifestTemplate(repository, digest), Buffer.from(writeManifestObject(mediaType, Buffer.from(body))));
    if (subject !== undefined) put(referrerTemplate(repository, subject, digest));
    if (tag !== undefined) put(tagTemplate(repository, tag as never, digest));
  }
  const keys = [...objects.keys()].toSorted();
  let taken = 0;
  const bucket = {
    size: () => Promise.resolve(1),
    list: (prefix: string, { limit = Infinity } = {}) => {
      let at = firstFrom(keys, prefix);
      const found: string[] = [];
      for (; found.length < limit && keys[at]?.startsWith(prefix) === true; at++) found.push(keys[at] ?? '');
      return Promise.resolve(found);
    },
    get: (key: string) => {
      const bytes = objects.get(key);
      taken += bytes?.byteLength ?? 0;
      return Promise.resolve(bytes);
    },
  };
  const reads = openStoreReads(bucket as unknown as BlobStore, new ManifestCache(0));
  return { reads, taken: () => [taken, (taken = 0)][0] ?? 0, knowsBytesOnly: true };
}

function firstFrom(keys: readonly string[], prefix: string): number {
  let [low, high] = [0, keys.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((keys[middle] ?? '') < prefix) low = middle + 1;
    else high = middle;
  }
  return low;
}
