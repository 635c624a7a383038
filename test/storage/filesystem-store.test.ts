// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { createHash } from 'node:crypto';
import { existsSync, utimesSync, writeFileSync } from 'node:fs';
import { mkdir, readdir } from 'node:fs/promises';
import path from 'node:path';
import t, { type Test } from 'tap';
import type { BlobStore } from '../../src/storage/blob-store.js';
import { openFilesystemStore, type FilesystemOptions } from '../../src/storage/filesystem-store.js';
import { addonProblem, loadAddon } from '../../src/worker/addon.js';
import { loadHasher } from '../../src/worker/hash.js';
import { openWorkerPool } from '../../src/worker/worker-pool.js';
import { temporaryDirectory } from '../support/registry.js';

const workers = openWorkerPool(2, 'auto');
const hasher = await loadHasher('auto');
t.teardown(() => workers.close());

/** The contract of a store; the next one (S3) has to pass it as it is. */
async function contract(t: Test, open: () => Promise<BlobStore>): Promise<void> {
  const store = await open();
  await t.test('small objects', (t) => smallObjects(t, store));
  await t.test('listing', (t) => listing(t, store));
  await t.test('deletion', (t) => deletion(t, store));
  await t.test('reading ranges', (t) => ranges(t, store));
  await t.test('writing data', (t) => writing(t, store));
  await t.test('a writer that went away', (t) => takingOver(t, store));
  await t.test('many at once', (t) => atOnce(t, store));
}

const durablePut = loadAddon()?.durablePut;
const withoutNative = durablePut === undefined && `THE NATIVE PUT IS NOT TESTED: ${addonProblem()}`;
if (withoutNative) console.error(withoutNative);

for (const [title, skip, options] of [
  ['filesystem', false, { workers, keepFreeBytes: 0 }],
  ['filesystem, native', withoutNative, { workers, keepFreeBytes: 0, durablePut }],
] as const) {
  void t.test(title, { skip }, async (t) => {
    const root = await temporaryDirectory('store-');
    await contract(t, () => openFilesystemStore(path.join(root, 'contract'), options));
    await t.test('its directory', (t) => directory(t, path.join(root, 'directory'), options));
  });
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
  t.equal(await store.get('small/a/1/x'), undefined, 'nor is what lies below one');
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
  t.equal((await store.get('repositories/a/b/z'))?.toString(), 'again', 'a place that was emptied is used again');
}

async function ranges(t: Test, store: BlobStore): Promise<void> {
  const bytes = noise(2_500_000);
  await write(store, 'data/00/ranges', bytes);
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
  const short = await store.open('data/00/ranges', bytes.length - 10, bytes.length + 10);
  await t.rejects(short.next(), 'an object that is shorter than it should be');
  short.close();
  // What was opened is read to its end although it is deleted meanwhile.
  const open = await store.open('data/00/ranges', 0, bytes.length);
  const first = Buffer.from((await open.next()) ?? []);
  await store.delete(['data/00/ranges']);
  const rest = await drain(open);
  t.ok(Buffer.concat([first, rest]).equals(bytes), 'a reader is not disturbed by a deletion');
}

async function writing(t: Test, store: BlobStore): Promise<void> {
  for (const algorithm of ['sha256', 'sha512'] as const) {
    const bytes = noise(700_000);
    const key = `data/01/${algorithm}`;
    const expected = createHash(algorithm).update(bytes).digest('hex');
    // Each part is written by a writer of its own, as requests of one session do.
    let state = hasher.initial(algorithm);
    let at = 0;
    for (const length of [1, 64 * 1024, 300_000, bytes.length - 365_537]) {
      const writer = await store.write(key, at);
      const buffer = arrayBufferOf(bytes.subarray(at, at + length), length + 10);
      const appended = await writer.append(at, algorithm, state, buffer, length);
      t.equal(appended.failure, undefined, 'stored');
      t.equal(appended.buffer.byteLength, length + 10, 'the buffer comes back');
      state = appended.state;
      at += length;
      await writer.sync();
      if (at === bytes.length) await writer.finish(at);
      await writer.close();
      await writer.close();
    }
    t.equal(Buffer.from(hasher.digest(algorithm, state)).toString('hex'), expected, `${algorithm} goes on from part to part`);
    t.ok((await read(store, key, 0, bytes.length)).equals(bytes), 'byte for byte');
    const other = algorithm === 'sha256' ? 'sha512' : 'sha256';
    const hashed = await store.hash(key, other, hasher.initial(other), bytes.length);
    t.equal(
      Buffer.from(hasher.digest(other, hashed)).toString('hex'),
      createHash(other).update(bytes).digest('hex'),
      `hashed again as ${other}`,
    );
    const part = await store.hash(key, other, hasher.initial(other), 1000);
    t.equal(
      Buffer.from(hasher.digest(other, part)).toString('hex'),
      createHash(other).update(bytes.subarray(0, 1000)).digest('hex'),
      'or only its beginning',
    );
  }
}

async function takingOver(t: Test, store: BlobStore): Promise<void> {
  const bytes = noise(200_000);
  await write(store, 'data/02/abandoned', bytes);
  // What came after the last checkpoint does not count.
  const again = await store.write('data/02/abandoned', 100_000);
  const more = noise(10_000);
  await again.append(100_000, 'sha256', hasher.initial('sha256'), arrayBufferOf(more, more.length), more.length);
  await again.finish(110_000);
  t.equal(await store.size('data/02/abandoned'), 110_000, 'what the last writer left behind the end is cut off');
  t.ok((await read(store, 'data/02/abandoned', 0, 110_000)).equals(Buffer.concat([bytes.subarray(0, 100_000), more])), 'and written over');

  await store.adopt('data/02/abandoned', 60_000, 'data/03/adopted');
  t.equal(await store.size('data/03/adopted'), 60_000, 'adopted up to a point');
  t.ok((await read(store, 'data/03/adopted', 0, 60_000)).equals(bytes.subarray(0, 60_000)), 'byte for byte');
  const other = await store.write('data/02/abandoned', 110_000);
  await other.append(0, 'sha256', hasher.initial('sha256'), arrayBufferOf(more, more.length), more.length);
  await other.close();
  t.ok((await read(store, 'data/03/adopted', 0, 60_000)).equals(bytes.subarray(0, 60_000)), 'the writer before cannot reach it');
  const short = await store.write('data/03/adopted', 60_000);
  await t.rejects(short.finish(60_001), 'an object that lacks bytes is not finished');
  await short.close();
  await t.rejects(store.write('data/03/nothing', 5), 'what is not there cannot be gone on with');
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

/** What only a filesystem has. */
async function directory(t: Test, root: string, options: FilesystemOptions): Promise<void> {
  const store = await openFilesystemStore(root, options);
  await store.put('repositories/a/b/c', Buffer.from('x'));
  await store.delete(['repositories/a/b/c']);
  t.strictSame(await readdir(path.join(root, 'repositories')).catch(() => []), [], 'no empty directories pile up');
  const [old, fresh] = ['tmp/old', 'tmp/fresh'].map((name) => path.join(root, name));
  if (old === undefined || fresh === undefined) throw new Error('two names');
  await mkdir(path.join(root, 'tmp'), { recursive: true });
  for (const file of [old, fresh]) writeFileSync(file, 'x');
  utimesSync(old, 0, 0);
  const again = await openFilesystemStore(root, options);
  t.strictSame(
    [existsSync(old), existsSync(fresh)],
    [false, true],
    'a start removes what a crash long ago has left, and nothing that is being written',
  );
  t.notOk(
    (await again.list('')).some((key) => key.startsWith('tmp/')),
    'which is no object',
  );
  const file = path.join(root, 'a-file');
  writeFileSync(file, 'x');
  await t.rejects(openFilesystemStore(file, options), 'a root that is no directory');
}

async function write(store: BlobStore, key: string, bytes: Buffer): Promise<void> {
  const writer = await store.write(key, 0);
  await writer.append(0, 'sha256', hasher.initial('sha256'), arrayBufferOf(bytes, bytes.length), bytes.length);
  await writer.finish(bytes.length);
  await writer.close();
}

async function read(store: BlobStore, key: string, start: number, end: number): Promise<Buffer> {
  const source = await store.open(key, start, end);
  try {
    return await drain(source);
  } finally {
    source.close();
  }
}

async function drain(source: Awaited<ReturnType<BlobStore['open']>>): Promise<Buffer> {
  const pieces: Buffer[] = [];
  // A chunk is valid until the next one.
  for (let chunk = await source.next(); chunk !== undefined; chunk = await source.next()) pieces.push(Buffer.from(chunk));
  return Buffer.concat(pieces);
}

function arrayBufferOf(bytes: Buffer, size: number): ArrayBuffer {
  const buffer = new ArrayBuffer(size);
  new Uint8Array(buffer).set(bytes);
  return buffer;
}

let seed = 0;
function noise(size: number): Buffer {
  const block = createHash('sha512').update(`noise ${seed++}`).digest();
  const bytes = Buffer.alloc(size);
  for (let at = 0; at < size; at += block.length) {
    block.writeUInt32LE(at, 0);
    block.copy(bytes, at);
  }
  return bytes;
}
