// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { EventEmitter, once } from 'node:events';
import { existsSync, utimesSync, writeFileSync } from 'node:fs';
import { mkdir, open, readdir, readlink, type FileHandle } from 'node:fs/promises';
import path from 'node:path';
import t, { type Test } from 'tap';
import type { BlobStore } from '../../src/storage/blob-store.js';
import { openFilesystemStore, type FilesystemOptions } from '../../src/storage/filesystem-store.js';
import { claimStore } from '../../src/storage/owner.js';
import { addonProblem, loadAddon } from '../../src/worker/addon.js';
import { HashClock } from '../../src/worker/hash-clock.js';
import { openWorkerPool } from '../../src/worker/worker-pool.js';
import { temporaryDirectory } from '../support/registry.js';
import { contract } from './store-contract.js';

const workers = openWorkerPool({ threads: 2, hash: 'auto', clock: new HashClock() });
t.teardown(() => workers.close());

/** Most directories are left for the next time. */
const listTrees: typeof workers.listTrees = (task) => workers.listTrees({ ...task, mostNames: 3 });

const durablePut = loadAddon()?.durablePut;
const withoutNative = durablePut === undefined && `THE NATIVE PUT IS NOT TESTED: ${addonProblem()}`;
if (withoutNative) console.error(withoutNative);

for (const [title, skip, options] of [
  ['filesystem', false, { workers, keepFreeBytes: 0 }],
  ['filesystem, few names at once', false, { workers: { ...workers, listTrees }, keepFreeBytes: 0 }],
  ['filesystem, native', withoutNative, { workers, keepFreeBytes: 0, durablePut }],
] as const) {
  void t.test(title, { skip }, async (t) => {
    const root = await temporaryDirectory('store-');
    await contract(t, () => openFilesystemStore(path.join(root, 'contract'), options));
    await t.test('its directory', (t) => directory(t, path.join(root, 'directory'), options));
    const noProcess = !existsSync('/proc/self/fd') && 'only Linux tells what is synced';
    await t.test('directories that others make anew', { skip: noProcess }, (t) => madeAnew(t, path.join(root, 'anew'), options));
  });
}

/** Another node removes a directory that is empty, and makes it anew; it dies before that is synced. */
async function madeAnew(t: Test, root: string, options: FilesystemOptions): Promise<void> {
  const [one, other] = [await openFilesystemStore(root, options), await openFilesystemStore(root, options)];
  const tags = 'repositories/r/_tags';
  await one.put(`${tags}/t/1`, Buffer.from('x'));
  await other.delete([`${tags}/t/1`]);
  t.notOk(existsSync(path.join(root, 'repositories/r')), 'removed');
  await mkdir(path.join(root, tags, 't'), { recursive: true });
  const parents = ['', 'repositories', 'repositories/r', tags].map((directory) => path.join(root, directory).replace(/\/$/, ''));
  const synced = async (key: string): Promise<string[]> => {
    const seen = await syncedWhile(root, () => one.put(key, Buffer.from('x')));
    return seen.filter((directory) => parents.includes(directory)).sort();
  };
  t.strictSame(await synced(`${tags}/t/2`), parents, 'every directory above the file is synced');
  t.strictSame(await synced(`${tags}/t/3`), [], 'the next time there is no need to');
}

/** The directories that are synced by way of this process's file handles. */
async function syncedWhile(directory: string, work: () => Promise<void>): Promise<string[]> {
  const handle = await open(directory, 'r');
  const prototype = Object.getPrototypeOf(handle) as FileHandle;
  await handle.close();
  const { value: sync } = Object.getOwnPropertyDescriptor(prototype, 'sync') as { value: (this: FileHandle) => Promise<void> };
  const seen: string[] = [];
  prototype.sync = async function (this: FileHandle) {
    seen.push(await readlink(`/proc/self/fd/${this.fd}`));
    return sync.call(this);
  };
  try {
    await work();
  } finally {
    prototype.sync = sync;
  }
  return seen;
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

const ownerOf = (id: string) => ({ cluster: id, store: id });

async function newStore(): Promise<BlobStore> {
  return openFilesystemStore(await temporaryDirectory('claim-'), { workers, keepFreeBytes: 0 });
}

async function outcomes(claims: readonly Promise<void>[]): Promise<string[]> {
  return (await Promise.allSettled(claims)).map(({ status }) => status);
}

void t.test('nodes that claim a new store at once', async (t) => {
  const one = await newStore();
  t.strictSame(
    await outcomes(['a', 'a', 'a'].map((id) => claimStore(one, ownerOf(id)))),
    Array(3).fill('fulfilled'),
    'those of one cluster share it',
  );
  t.strictSame(await one.list('cluster/'), ['cluster/owner'], 'which is marked');
  await t.rejects(claimStore(one, ownerOf('b')), /belongs to the database of cluster a/, 'another cluster comes too late');

  // Both have written their claim before either looks.
  const two = await newStore();
  let claims = 0;
  const bothHave = new EventEmitter();
  const together = once(bothHave, 'written');
  const held: BlobStore = Object.create(two, {
    put: {
      value: async (key: string, bytes: Uint8Array) => {
        await two.put(key, bytes);
        if (++claims === 2) bothHave.emit('written');
        await together;
      },
    },
  }) as BlobStore;
  t.strictSame(
    await outcomes([claimStore(held, ownerOf('a')), claimStore(held, ownerOf('b'))]),
    ['rejected', 'rejected'],
    'two clusters see each other',
  );
  await claimStore(two, ownerOf('a'));
  t.pass('and the one that stays has it');

  // One sleeps between finding no owner and writing its claim.
  const three = await newStore();
  const late: BlobStore = Object.create(three, {
    put: {
      value: async (key: string, bytes: Uint8Array) => {
        if (key.endsWith('/b')) await claimStore(three, ownerOf('a'));
        await three.put(key, bytes);
      },
    },
  }) as BlobStore;
  await t.rejects(claimStore(late, ownerOf('b')), /belongs to the database of cluster a/, 'who was overtaken sees it');
  t.match(Buffer.from((await three.get('cluster/owner')) ?? []).toString(), '"a"', 'and changes nothing');
});
