// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * What `npm start` runs: brings `dist/` and the native addon up to date, then runs `dist/main.js` in this process with the arguments given, and with `serve` where they name no command.
 * Plain JavaScript without dependencies, and not an npm `prestart`, because npm skips that one where `ignore-scripts` is set.
 *
 * `--build-only` does not run it, and is content without a compiler (npm's `prepare`); `--build-only --force` builds in any case.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const src = join(root, 'src');
const dist = join(root, 'dist');
const main = join(dist, 'main.js');
const addon = join(root, 'native', 'ha_registry.node');
/** In `dist/`: the fingerprint of the sources that it was built from. */
const stampName = '.sources';

const buildOnly = process.argv[2] === '--build-only';
/** A package without `dist/` would be of no use. */
const isPacking = ['pack', 'publish'].includes(process.env.npm_command);
const force = buildOnly && process.argv[3] === '--force';

try {
  buildDist();
  buildAddon();
} catch (error) {
  console.error(`ha-registry: ${error.message}`);
  process.exit(1);
}
if (!buildOnly) {
  const args = process.argv.slice(2);
  process.argv = [process.argv[0], main, ...(args[0]?.startsWith('-') === false ? [] : ['serve']), ...args];
  await import(pathToFileURL(main).href);
}

function buildDist() {
  /* A packed package: dist/ comes with it, the sources don't. */
  if (!existsSync(join(src, 'main.ts'))) return;
  const fingerprint = fingerprintSources();
  const isCurrent = existsSync(main) && readStamp() === fingerprint;
  if (isCurrent && !force) return;

  const compiler = findCompiler();
  if (compiler === undefined && buildOnly && !force && !isPacking) return;
  if (compiler === undefined) {
    const state = isCurrent ? 'can not be built' : existsSync(main) ? 'was built from other sources than src/' : 'is missing';
    throw new Error(`dist/ ${state} and TypeScript is not installed: run \`npm install --include=dev\` in ${root}`);
  }
  const fresh = makeFolder();
  try {
    const run = spawnSync(process.execPath, [compiler, '-p', join(root, 'tsconfig.build.json'), '--outDir', fresh], { stdio: 'inherit' });
    if (run.status !== 0) throw new Error('src/ does not compile; what the compiler says is above');
    for (const file of listFiles(src)) if (!/\.m?ts$|\.mjs$/.test(file)) copy(join(src, file), join(fresh, file));
    chmodSync(join(fresh, 'main.js'), 0o755);
    writeFileSync(join(fresh, stampName), fingerprint);
    replaceFiles(fresh);
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
}

/**
 * Moves each file on its own: a program that runs from `dist/`, or a second start that builds as well, finds at any time each file whole.
 * The stamp comes last, so an interrupted build is repeated.
 */
function replaceFiles(fresh) {
  const files = listFiles(fresh).sort((a, b) => Number(a === stampName) - Number(b === stampName));
  for (const file of files) {
    mkdirSync(dirname(join(dist, file)), { recursive: true });
    renameSync(join(fresh, file), join(dist, file));
  }
  const current = new Set(files);
  for (const file of listFiles(dist)) if (!current.has(file)) rmSync(join(dist, file), { force: true });
}

/** By content and not by time, so that copies and checkouts need no second build. */
function fingerprintSources() {
  const hash = createHash('sha256');
  const files = [...listFiles(src).map((file) => join('src', file)), 'tsconfig.json', 'tsconfig.build.json'];
  for (const file of files.sort((a, b) => (a < b ? -1 : 1))) {
    const bytes = readFileSync(join(root, file));
    hash.update(`${file}\0${bytes.length}\0`).update(bytes);
  }
  return hash.digest('hex');
}

function readStamp() {
  const stamp = join(dist, stampName);
  return existsSync(stamp) ? readFileSync(stamp, 'utf8') : undefined;
}

function findCompiler() {
  try {
    return createRequire(import.meta.url).resolve('typescript/bin/tsc');
  } catch {
    return undefined;
  }
}

/** Beside `dist/`, because source maps name their sources relative to it. Leftovers of killed builds go. */
function makeFolder() {
  const prefix = '.build-';
  const anHourAgo = Date.now() - 3600_000;
  try {
    for (const name of readdirSync(root).filter((name) => name.startsWith(prefix))) {
      if (statSync(join(root, name)).mtimeMs < anHourAgo) rmSync(join(root, name), { recursive: true, force: true });
    }
    return mkdtempSync(join(root, prefix));
  } catch (error) {
    const problem = `dist/ is not up to date and ${root} can't be written to (${error.code}): run \`npm run build\` there as its owner`;
    throw new Error(problem, { cause: error });
  }
}

/** Relative to `folder`, which may be missing. */
function listFiles(folder) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true }).filter((name) => statSync(join(folder, name), { throwIfNoEntry: false })?.isFile());
}

function copy(from, to) {
  mkdirSync(dirname(to), { recursive: true });
  copyFileSync(from, to);
}

/** Quietly at a start, whose log tells of a missing addon. `npm install` has just run the same as its `install` script. */
function buildAddon() {
  if (process.env.npm_lifecycle_event === 'prepare') return;
  const native = join(root, 'native');
  const sources = readdirSync(native).filter((name) => name.endsWith('.c'));
  const isCurrent = existsSync(addon) && sources.every((name) => statSync(join(native, name)).mtimeMs <= statSync(addon).mtimeMs);
  if (isCurrent && !force) return;
  const options = [...(buildOnly ? [] : ['--quiet']), ...(force ? ['--force'] : [])];
  spawnSync(process.execPath, [join(native, 'build.mjs'), ...options], { stdio: 'inherit' });
}
