// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Files that become unreadable while they are watched. */
import { rename, rm, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import t from 'tap';
import { watchFile, watchFiles } from '../../src/access/watched-file.js';
import { temporaryDirectory } from '../support/registry.js';
import { until } from '../support/wire-suite.js';

const directory = await temporaryDirectory('watched-');

/** A link to itself: not even its state can be asked for, as in a directory that may not be entered, which root always may. */
async function hide(file: string): Promise<void> {
  await symlink(file, `${file}.new`);
  await rename(`${file}.new`, file);
}

async function show(file: string, text: string): Promise<void> {
  await rm(file);
  await writeFile(file, text);
}

void t.test('a file', async (t) => {
  const file = path.join(directory, 'one');
  await writeFile(file, 'first');
  const errors: unknown[] = [];
  const watched = watchFile(
    file,
    (text) => text,
    () => undefined,
    (error) => errors.push(error),
  );
  t.teardown(() => watched.close());
  await hide(file);
  await until('it is told', () => errors.length > 0);
  t.match(errors, [{ code: 'ELOOP' }]);
  t.equal(watched.current, 'first', 'what was there goes on');
  await show(file, 'second');
  await until('it is read again', () => watched.current === 'second');
  t.equal(errors.length, 1);
});

void t.test('files that belong together', async (t) => {
  const files = [path.join(directory, 'certificate'), path.join(directory, 'key')] as const;
  for (const file of files) await writeFile(file, 'first');
  let taken = 0;
  const errors: unknown[] = [];
  const watched = watchFiles(
    files,
    () => (errors.length === 0 ? Promise.reject(new Error('no good')) : Promise.resolve(void taken++)),
    (error) => errors.push(error),
  );
  t.teardown(() => watched.close());
  await hide(files[1]);
  await until('it is told', () => errors.length > 0);
  await until('and tried again', () => taken > 0);
  t.match(errors, [{ message: 'no good' }]);
});

void t.test('a file that cannot be looked at in the beginning', async (t) => {
  const file = path.join(directory, 'hidden');
  await writeFile(file, '');
  await hide(file);
  const watch = () =>
    watchFile(
      file,
      (text) => text,
      () => undefined,
      () => undefined,
    );
  t.throws(watch, { code: 'ELOOP', syscall: 'open' }, 'is read all the same, which says what is wrong');
});
