// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The environments in which `run.ts` installs and starts. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, symlinkSync } from 'node:fs';
import { basename, delimiter, dirname, join } from 'node:path';

export type Environment = Record<string, string>;

/** This process's environment without what npm, a compiler's choice or a production setting would pass on. */
export function cleanEnvironment(): Environment {
  const env: Environment = { PATH: commandFolders().join(delimiter) };
  for (const [name, value] of Object.entries(process.env)) {
    if (value === undefined || name === 'PATH' || /^(npm_|NODE_ENV$|NODE_OPTIONS$|CC$|INIT_CWD$|TSX_|TAP_)/i.test(name)) continue;
    env[name] = value;
  }
  return env;
}

/** A PATH that begins with the commands of one npm package, installed below `base`. */
export function pathWith(base: string, specifier: string): Environment {
  const folder = join(base, 'tools', specifier);
  mkdirSync(folder, { recursive: true });
  execFileSync('npm', ['install', '--no-save', '--no-audit', '--no-fund', '--prefix', folder, specifier], { stdio: 'pipe' });
  const name = specifier.slice(0, specifier.lastIndexOf('@'));
  const bin = join(folder, 'node_modules', name, 'bin');
  const commands = existsSync(join(bin, 'node')) ? bin : join(folder, 'node_modules', '.bin');
  return { PATH: [commands, ...commandFolders()].join(delimiter) };
}

/** A PATH of links to every command but C compilers. */
export function pathWithoutCompilers(base: string): Environment {
  const folder = join(base, 'commands');
  mkdirSync(folder);
  for (const from of commandFolders()) {
    for (const name of existsSync(from) ? readdirSync(from) : []) {
      const isCompiler = /^(cc|c89|c99|tcc|zig)$|(^|-)(gcc|g\+\+|clang|clang\+\+)(-[\d.]+)?$/.test(name);
      if (!isCompiler && !existsSync(join(folder, name))) symlinkSync(join(from, name), join(folder, name));
    }
  }
  return { PATH: folder };
}

export function findCommand(name: string): boolean {
  return commandFolders().some((folder) => existsSync(join(folder, name)));
}

/** Of PATH, without the `node_modules/.bin` that npm and npx put in front. The Node that runs this comes first. */
function commandFolders(): string[] {
  const folders = (process.env['PATH'] ?? '').split(delimiter).filter((folder) => !/node_modules|node-gyp-bin/.test(folder));
  const own = dirname(process.execPath);
  return basename(process.execPath) === 'node' ? [own, ...folders.filter((folder) => folder !== own)] : folders;
}
