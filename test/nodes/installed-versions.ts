// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Versions side by side as in /opt/ha-registry, each from what `npm pack` packs, with `current` pointing to one of them. */
import { cp, mkdir, readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { run } from '../support/command.js';
import { temporaryDirectory } from '../support/registry.js';

export interface Installation {
  /** What ExecStart of the unit names. */
  readonly program: string;
  /** As an administrator does it: `ln -sfn` of another link, which is renamed over the old one. */
  use(version: string): Promise<void>;
  remove(version: string): Promise<void>;
}

const tree = path.resolve(import.meta.dirname, '../..');

export async function installVersions(...versions: readonly string[]): Promise<Installation> {
  const base = await temporaryDirectory('opt-');
  // Packs dist/ as it is: building it here would pull it away under other tests.
  await run('npm', ['pack', '--ignore-scripts', '--pack-destination', base], { cwd: tree });
  const tarball = (await readdir(base)).find((name) => name.endsWith('.tgz')) ?? '';
  for (const version of versions) {
    const place = path.join(base, version, 'lib/node_modules/ha-registry');
    await mkdir(place, { recursive: true });
    await run('tar', ['-xzf', path.join(base, tarball), '--strip-components=1', '-C', place]);
    // What `npm install --global --prefix` would fetch, build and link.
    await symlink(path.join(tree, 'node_modules'), path.join(place, 'node_modules'));
    await cp(path.join(tree, 'native/ha_registry.node'), path.join(place, 'native/ha_registry.node')).catch(() => undefined);
    await mkdir(path.join(base, version, 'bin'));
    await symlink('../lib/node_modules/ha-registry/dist/main.js', path.join(base, version, 'bin/ha-registry'));
    const manifest = path.join(place, 'package.json');
    await writeFile(manifest, (await readFile(manifest, 'utf8')).replace(/"version": "[^"]*"/, `"version": "${version}"`));
  }
  return {
    program: path.join(base, 'current/bin/ha-registry'),
    async use(version) {
      const link = path.join(base, 'current');
      await symlink(version, `${link}.new`);
      await rename(`${link}.new`, link);
    },
    remove: (version) => rm(path.join(base, version), { recursive: true }),
  };
}
