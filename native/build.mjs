// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * Builds `native/ha_registry.node` from its C files with the machine's C compiler and Node's own headers. npm runs it at `install`.
 * Without a compiler, headers or success it says so in one line and still succeeds: hash-wasm and the node engine then serve.
 * `--quiet` leaves out that line; `--force` builds anew.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, realpathSync, renameSync, rmSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const cFiles = ['addon.c', 'durable_put.c', 'notify.c'].map((name) => join(here, name));
const addon = join(here, 'ha_registry.node');
const attempt = join(here, `ha_registry.${process.pid}.node`);

try {
  if (process.argv.includes('--force') || !isUpToDate()) build();
} catch (error) {
  if (!process.argv.includes('--quiet')) {
    console.log(`ha-registry: the native addon was not built (${error.message}); hashing will be slower, everything else works`);
  }
} finally {
  rmSync(attempt, { force: true });
}

function isUpToDate() {
  const sources = [...cFiles, fileURLToPath(import.meta.url)];
  return (
    existsSync(addon) && sources.every((file) => statSync(file).mtimeMs <= statSync(addon).mtimeMs) && loadProblem(addon) === undefined
  );
}

/** Compiles aside and renames, so that a process that loads or has loaded the addon never sees half a file. */
function build() {
  if (process.platform === 'win32') throw new Error('Windows is not supported');
  const headers = findHeaders();
  const linking = process.platform === 'darwin' ? ['-bundle', '-undefined', 'dynamic_lookup'] : ['-shared'];
  const options = [
    '-std=gnu11',
    '-O2',
    '-Wall',
    '-Wextra',
    '-fPIC',
    '-fvisibility=hidden',
    ...linking,
    '-I',
    headers,
    '-o',
    attempt,
    ...cFiles,
  ];
  const compiled = compile(options);
  if (compiled.status !== 0) throw new Error(`the compiler failed: ${firstError(compiled.stderr)}`);
  if (compiled.stderr !== '') process.stderr.write(compiled.stderr);
  const problem = loadProblem(attempt);
  if (problem !== undefined) throw new Error(`it was built but can't be loaded: ${problem}`);
  renameSync(attempt, addon);
}

/** The first compiler there is. `CC` may carry arguments, as in `ccache gcc`. */
function compile(options) {
  const chosen = (process.env.CC ?? '').trim();
  const compilers = chosen === '' ? ['cc', 'gcc', 'clang'] : [chosen];
  for (const compiler of compilers) {
    const [command, ...first] = compiler.split(/\s+/);
    const run = spawnSync(command, [...first, ...options], { encoding: 'utf8' });
    if (run.error === undefined) return run;
    if (run.error.code !== 'ENOENT') throw run.error;
  }
  throw new Error(`no C compiler: ${compilers.join(', ')} not found`);
}

function findHeaders() {
  const executables = [process.execPath, realpathSync(process.execPath)];
  const prefixes = [
    process.env.npm_config_nodedir,
    ...executables.map((file) => dirname(dirname(file))),
    ...executables.map((file) => dirname(file)),
    process.config.variables.node_prefix,
    '/usr/local',
    '/usr',
  ];
  const folders = prefixes.filter((prefix) => typeof prefix === 'string' && prefix !== '').map((prefix) => join(prefix, 'include', 'node'));
  const found = folders.find((folder) => existsSync(join(folder, 'node_api.h')));
  if (found === undefined) throw new Error(`Node's headers were not found, neither in ${folders[0]} nor elsewhere`);
  return found;
}

/** In a process of its own: a broken library may end it. */
function loadProblem(file) {
  const script = 'try { process.dlopen({ exports: {} }, process.argv[1]) } catch (error) { console.log(error.message); process.exit(1) }';
  const run = spawnSync(process.execPath, ['-e', script, file], { encoding: 'utf8', env: { ...process.env, NODE_OPTIONS: '' } });
  if (run.status === 0) return undefined;
  return run.stdout.split('\n', 1)[0] || (run.error?.message ?? `Node ended with ${run.signal ?? run.status}`);
}

function firstError(output) {
  const lines = output.split('\n').filter((line) => line.trim() !== '');
  return (lines.find((line) => /\berror\b/.test(line)) ?? lines[0] ?? 'it said nothing').trim();
}
