// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What every store does, whatever it is made of. */
import { batchLookups } from '../../src/storage/batch-lookups.js';
import { walkKeys } from '../../src/storage/walk-keys.js';
import { createHash } from 'node:crypto';
import type { Test } from 'tap';
import type { BlobStore, Part, Stored } from '../../src/storage/blob-store.js';
import { loadHasher } from '../../src/worker/hash.js';
import { arrayBufferOf, drain, noise, read } from './objects.js';

const hasher = await loadHasher('auto');

/** `open` gives a store over the same objects each time, as another node would. */
export async function contract(t: Test, open: () => Promise<BlobStore>): Promise<void> {
  const store = await open();
  await t.test('small objects', (t) => smallObjects(t, store));
  await t.test('many small objects', (t) => lookups(t, store));
  await t.test('listing', (t) => listing(t, store));
  await t.test('deletion', (t) => deletion(t, store));
  await t.test('reading ranges', (t) => ranges(t, store));
  await dataObjects(t, open);
  await t.test('many at once', (t) => atOnce(t, store));
}

/** That part of it where the rule for parts matters. */
export async function dataObjects(t: Test, open: () => Promise<BlobStore>): Promise<void> {
  const store = await open();
  await t.test('writing data', (t) => writing(t, store));
  await t.test('going on elsewhere', async (t) => goingOn(t, store, await open()));
  await t.test('what was begun and dropped', (t) => dropping(t, store));
}

async function smallObjects(t: Test, store: BlobStore): Promise<void> {
  for (const bytes of [Buffer.alloc(0), Buffer.from('x'), noise(100_000)]) {
    const key = `small/a/${bytes.length}`;
    t.equal(await store.get(key), undefined, 'absent');
    t.equal(await store.size(key), undefined, 'without a size');
    await store.put(key, bytes);
    t.ok(Buffer.from((await store.get(key)) ?? 'none').equals(bytes), `${bytes.length} bytes`);
    t.equal(await store.size(key), bytes.length, 'with their size');
    await store.put(key, bytes);
    t.ok(Buffer.from((await store.get(key)) ?? 'none').equals(bytes), 'the same again');
  }
  await store.put('small/a/1', Buffer.alloc(0));
  t.equal(await store.size('small/a/1'), 0, 'what is put without bytes has none');
  t.equal(await store.get('small/a/1/x'), undefined, 'nor is what lies below one');
}

async function lookups(t: Test, store: BlobStore): Promise<void> {
  const { get, size } = batchLookups(store);
  const objects = new Map<string, Buffer>([0, 1, 70_000, 2_500_000, 2, 1_000_000].map((bytes) => [`many/${bytes}`, noise(bytes)]));
  for (const [key, bytes] of objects) await store.put(key, bytes);
  const keys = [...objects.keys()].flatMap((key) => [key, `${key}/x`, `${key}-absent`]);
  const found = await Promise.all(keys.map((key) => get(key)));
  const sizes = await Promise.all(keys.map((key) => size(key)));
  for (const [index, key] of keys.entries()) {
    const expected = objects.get(key);
    t.equal(found[index] && Buffer.from(found[index]).equals(expected ?? Buffer.alloc(0)), expected && true, key);
    t.equal(sizes[index], expected?.byteLength, `its size: ${key}`);
  }
}

async function listing(t: Test, store: BlobStore): Promise<void> {
  // `-` and `.` sort before `/`, digits and letters after it; upper case sorts before lower case.
  const keys = [
    'list/a',
    'list/a-b',
    'list/a.b',
    'list/a-b/c',
    'list/a0',
    'list/aB',
    'list/ab',
    'list/b/a',
    'list/b/b/c',
    'list/b-/x',
    'list/b.x/y',
    'list/b0/z',
    'list/B/x',
    'list/_t/x',
  ].filter((key, _, all) => !all.some((other) => other.startsWith(`${key}/`)));
  for (const key of keys.toReversed()) await store.put(key, Buffer.from(key));
  const sorted = [...keys].sort((a, b) => (a < b ? -1 : 1));
  const below = (prefix: string, after = '') => sorted.filter((key) => key.startsWith(prefix) && key > after);
  for (const prefix of [
    'list/',
    'list/a',
    'list/a-',
    'list/a-b',
    'list/a-b/',
    'list/b',
    'list/b/',
    'list/b/b',
    'list/b/b/c',
    'list/B',
    'list',
    'li',
    'list/x',
    'list/b/b/c/d',
    'nothing/',
  ]) {
    t.strictSame(await store.list(prefix), below(prefix), `list ${prefix}`);
    for (const after of [...sorted, 'list/', 'list/b/', 'list/a-z', 'list/zzz', 'list']) {
      t.strictSame(await store.list(prefix, { after }), below(prefix, after), `list ${prefix} after ${after}`);
      const walked: string[] = [];
      for await (const key of walkKeys(store, prefix, after)) walked.push(key);
      t.strictSame(walked, below(prefix, after), `walk ${prefix} after ${after}`);
    }
    for (const limit of [1, 2, 3, 100]) {
      const paged: string[] = [];
      for (
        let page = await store.list(prefix, { limit });
        page.length > 0;
        page = await store.list(prefix, { limit, after: page.at(-1) ?? '' })
      ) {
        if (page.length > limit) t.fail('more than was asked for');
        paged.push(...page);
      }
      t.strictSame(paged, below(prefix), `list ${prefix} in pages of ${limit}`);
    }
  }
  t.ok(
    below('list/').every((key, index, all) => index === 0 || (all[index - 1] ?? '') < key),
    'in the order of bytes',
  );
  t.strictSame(await store.list('list/', { limit: 0 }), [], 'none of it');
  t.ok((await store.list('')).includes('list/a-b/c'), 'everything');
  await directories(t, store, keys);
}

async function directories(t: Test, store: BlobStore, keys: readonly string[]): Promise<void> {
  const below = (prefix: string) =>
    [...new Set(keys.flatMap((key) => /^[^/]*\//.exec(key.startsWith(prefix) ? key.slice(prefix.length) : '')?.[0] ?? []))]
      .map((name) => prefix + name)
      .sort((a, b) => (a < b ? -1 : 1));
  for (const prefix of ['list/', 'list/b/', 'list/b/b/', 'list/nothing/', '']) {
    const expected = prefix === '' ? ['list/'] : below(prefix);
    const all = await store.listDirectories(prefix);
    if (prefix === '') t.ok(all.includes('list/'), 'the topmost ones');
    else t.strictSame(all, expected, `directories of ${prefix}`);
    for (const limit of [1, 2, 100]) {
      const paged: string[] = [];
      for (
        let page = await store.listDirectories(prefix, { limit });
        page.length > 0;
        page = await store.listDirectories(prefix, { limit, after: page.at(-1) ?? '' })
      ) {
        if (page.length > limit) t.fail('more than was asked for');
        paged.push(...page);
      }
      t.strictSame(paged, all, `directories of ${prefix} in pages of ${limit}`);
    }
  }
  t.strictSame(await store.listDirectories('list/', { limit: 0 }), [], 'none of them');
}

async function deletion(t: Test, store: BlobStore): Promise<void> {
  for (const key of ['repositories/a/x', 'repositories/a/y', 'repositories/a/b/z']) await store.put(key, Buffer.from('x'));
  await store.delete(['repositories/a/x', 'repositories/a/nothing', 'repositories/nobody/x']);
  t.strictSame(await store.list('repositories/'), ['repositories/a/b/z', 'repositories/a/y'], 'one is gone, the absent ones are too');
  await store.delete(['repositories/a/x']);
  await store.delete([]);
  await store.delete(['repositories/a/y', 'repositories/a/b/z']);
  t.strictSame(await store.list('repositories/'), [], 'all of them');
  await store.put('repositories/a/b/z', Buffer.from('again'));
  t.equal(Buffer.from((await store.get('repositories/a/b/z')) ?? []).toString(), 'again', 'a place that was emptied is used again');
}

async function ranges(t: Test, store: BlobStore): Promise<void> {
  const bytes = noise(2_500_000);
  await writeWhole(store, 'data/00/ranges', bytes);
  for (const [start, end] of [
    [0, bytes.length],
    [0, 1],
    [bytes.length - 1, bytes.length],
    [1_048_575, 1_048_577],
    [1_000_000, 2_400_000],
    [5, 5],
    [0, 1_048_576],
  ] as const) {
    t.ok((await read(store, 'data/00/ranges', start, end)).equals(bytes.subarray(start, end)), `${start} to ${end}`);
  }
  const source = await store.open('data/00/ranges', 0, bytes.length);
  await source.next();
  source.close();
  source.close();
  t.pass('closed in the middle, twice');
  await t.rejects(store.open('data/00/nothing', 0, 1), 'an object that is not there');
  await t.rejects(read(store, 'data/00/ranges', bytes.length - 10, bytes.length + 10), 'an object that is shorter than it should be');
  // What was opened is read to its end although it is deleted meanwhile.
  const open = await store.open('data/00/ranges', 0, bytes.length);
  const first = Buffer.from((await open.next()) ?? []);
  await store.delete(['data/00/ranges']);
  const rest = await drain(open);
  t.ok(Buffer.concat([first, rest]).equals(bytes), 'a reader is not disturbed by a deletion');
}

/** Lengths of parts that the store allows, the last one short. */
function partsOf({ parts }: BlobStore): number[] {
  const wanted = parts.wantedBytes(1);
  const lengths = parts.equal ? [wanted, wanted, 5] : [1, 64 * 1024, 300_000].map((bytes) => Math.max(bytes, parts.smallestBytes));
  return [...lengths, parts.equal ? wanted : 334_463].slice(0, parts.equal ? 3 : 4);
}

async function writing(t: Test, store: BlobStore): Promise<void> {
  for (const algorithm of ['sha256', 'sha512'] as const) {
    const lengths = partsOf(store);
    const bytes = noise(lengths.reduce((sum, length) => sum + length, 0));
    const key = `data/01/${algorithm}`;
    const begun = await store.begin(key);
    // Each part is written by a writer of its own, as requests of one session do. Numbers have gaps.
    let state = hasher.initial(algorithm);
    let at = 0;
    const parts: Part[] = [];
    for (const [index, length] of lengths.entries()) {
      const writer = await store.write(key, begun, at);
      const buffer = arrayBufferOf(bytes.subarray(at, at + length), length + 10);
      const appending = writer.append({ number: 3 * index + 1, offset: at, algorithm, state, buffer, length });
      t.equal(buffer.byteLength, 0, 'the buffer is away');
      state = await appending.hashed;
      const stored = await appending.stored;
      t.equal(stored.failure, undefined, 'stored');
      t.equal(stored.buffer.byteLength, length + 10, 'the buffer comes back');
      parts.push(partOf(stored));
      at += length;
      await writer.sync();
      if (at === bytes.length) {
        await writer.finish(at, parts);
        await writer.close();
        await (await store.write(key, begun, at)).finish(at, parts);
      }
      await writer.close();
      await writer.close();
    }
    t.equal(digestOf(algorithm, state), hash(algorithm, bytes), `${algorithm} goes on from part to part`);
    t.equal(await store.size(key), bytes.length, 'and is as long as it should be');
    t.ok((await read(store, key, 0, bytes.length)).equals(bytes), 'byte for byte');
    const other = algorithm === 'sha256' ? 'sha512' : 'sha256';
    const hashed = await store.hash(key, other, hasher.initial(other), bytes.length);
    t.equal(digestOf(other, hashed), hash(other, bytes), `hashed again as ${other}`);
    const beginning = await store.hash(key, other, hasher.initial(other), 1000);
    t.equal(digestOf(other, beginning), hash(other, bytes.subarray(0, 1000)), 'or only its beginning');
  }
}

async function goingOn(t: Test, store: BlobStore, elsewhere: BlobStore): Promise<void> {
  const [first = 0, second = 0] = partsOf(store);
  const bytes = noise(first + second + 1000);
  const key = 'data/02/moved';
  const begun = await store.begin(key);
  const one = await append(await store.write(key, begun, 0), 1, 0, bytes.subarray(0, first));
  // Bytes that came after the last checkpoint do not count, and a writer that wakes cannot change any that do.
  const frozen = await store.write(key, begun, first);
  await append(frozen, 2, first, noise(second));
  const own = store.adopt === undefined ? key : 'data/03/adopted';
  await elsewhere.adopt?.(key, first, own);
  const writer = await elsewhere.write(own, begun, first);
  const three = await append(writer, 3, first, bytes.subarray(first, first + second));
  await append(frozen, 4, first, noise(second));
  const last = await append(writer, 5, first + second, bytes.subarray(first + second));
  await frozen.close();
  await writer.finish(bytes.length, [one, three, last]);
  await writer.close();
  t.ok((await read(store, own, 0, bytes.length)).equals(bytes), 'what another node went on with');

  const short = 'data/02/short';
  const begunShort = await store.begin(short);
  const writerShort = await store.write(short, begunShort, 0);
  const part = await append(writerShort, 1, 0, bytes.subarray(0, 1000));
  await t.rejects(writerShort.finish(1001, [part]), 'an object that lacks bytes is not finished');
  await writerShort.close();
  if (store.parts.numbered) return;
  await t.rejects(store.write('data/03/nothing', '', 5), 'what is not there cannot be gone on with');
  const again = await store.write(own, begun, first);
  await append(again, 1, first, bytes.subarray(0, 1000));
  await again.finish(first + 1000, []);
  t.equal(await store.size(own), first + 1000, 'what the last writer left behind the end is cut off');
}

async function dropping(t: Test, store: BlobStore): Promise<void> {
  const key = 'data/04/dropped';
  const begun = await store.begin(key);
  const writer = await store.write(key, begun, 0);
  await append(writer, 1, 0, noise(1000));
  await writer.close();
  await store.abort(key, begun);
  await store.abort(key, begun);
  t.equal(await store.size(key), undefined, 'nothing is left');
  t.strictSame(await store.list(key), [], 'nor listed');
  if (!store.parts.numbered) return;
  const late = await (await store.write(key, begun, 0)).append(newPart(2, 0, noise(1000))).stored;
  t.ok(late.failure instanceof Error, 'nothing can be added to it');
  t.equal(late.buffer.byteLength, 1000, 'and the buffer comes home');
}

/** Directories come and go while others write into them. */
async function atOnce(t: Test, store: BlobStore): Promise<void> {
  const keys = Array.from({ length: 40 }, (_, index) => `repositories/busy/d${index % 4}/e/${index}`);
  for (let round = 0; round < 8; round++) {
    await Promise.all(keys.map((key) => store.put(key, Buffer.from(key))));
    if ((await store.list('repositories/busy/')).length !== keys.length) t.fail('one is missing');
    const half = keys.slice(0, 20);
    await Promise.all([...half.map((key) => store.delete([key])), ...keys.slice(20).map((key) => store.put(key, Buffer.from(key)))]);
    t.strictSame(await store.list('repositories/busy/'), keys.slice(20).sort(), 'the others stay');
    await Promise.all(keys.map((key) => store.delete([key])));
    t.strictSame(await store.list('repositories/busy/'), [], 'none is left');
  }
}

function newPart(number: number, offset: number, bytes: Buffer) {
  const buffer = arrayBufferOf(bytes, bytes.length);
  return { number, offset, algorithm: 'sha256', state: hasher.initial('sha256'), buffer, length: bytes.length } as const;
}

async function append(writer: Awaited<ReturnType<BlobStore['write']>>, number: number, offset: number, bytes: Buffer): Promise<Part> {
  return partOf(await writer.append(newPart(number, offset, bytes)).stored);
}

function partOf(stored: Stored): Part {
  if (stored.failure !== undefined) throw stored.failure;
  return stored.part;
}

async function writeWhole(store: BlobStore, key: string, bytes: Buffer): Promise<void> {
  const begun = await store.begin(key);
  const writer = await store.write(key, begun, 0);
  await writer.finish(bytes.length, [await append(writer, 1, 0, bytes)]);
  await writer.close();
}

function digestOf(algorithm: 'sha256' | 'sha512', state: Uint8Array): string {
  return Buffer.from(hasher.digest(algorithm, state)).toString('hex');
}

function hash(algorithm: string, bytes: Buffer): string {
  return createHash(algorithm).update(bytes).digest('hex');
}
