// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * `npx tsx test/lifecycle/run.ts [case…]`: installs and starts copies of this tree in the ways that people do, asks each for `/livez`, and
 * ends it with SIGTERM. Needs the npm registry. The copies hold what Git would: tracked files, and new ones that are not ignored.
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cleanEnvironment, findCommand, pathWith, pathWithoutCompilers, type Environment } from './environment.js';
import { run, startAndStop, type Setting } from './processes.js';

interface Case {
  readonly name: string;
  /** A reason to leave it out on this machine. */
  readonly skip?: string | undefined;
  readonly env?: () => Environment;
  /** What is put before each command, as `setpriv …`. */
  readonly prefix?: readonly string[];
  /** What the installation must leave behind. */
  readonly leaves: { readonly addon: boolean; readonly dist: boolean };
  /** How often the installation says that there is no native addon. */
  readonly saysNoAddon?: number;
  /** Answers the package's folder and the command to start it in `setting.cwd`. */
  readonly install?: (setting: Setting) => Promise<Installed>;
}

interface Installed {
  readonly folder: string;
  readonly start: string[];
  readonly output: string;
}

const base = mkdtempSync(join(tmpdir(), 'ha-registry-lifecycle-'));
chmodSync(base, 0o755);

const nobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'];
const otherNode = process.versions.node.startsWith('22.') ? '20' : '22';
const complete = { addon: ['cc', 'gcc', 'clang'].some(findCommand), dist: true };

const cases: Case[] = [
  { name: 'default', leaves: complete },
  { name: 'ignore-scripts', env: () => ({ npm_config_ignore_scripts: 'true' }), leaves: { addon: false, dist: false } },
  { name: 'no-compiler', env: () => pathWithoutCompilers(base), leaves: { addon: false, dist: true }, saysNoAddon: 1 },
  { name: 'production', env: () => ({ NODE_ENV: 'production' }), leaves: complete },
  { name: 'production-npm-10', env: () => ({ NODE_ENV: 'production', ...pathWith(base, 'npm@10') }), leaves: complete },
  { name: 'ordinary-user', skip: skipOrdinaryUser(), prefix: nobody, leaves: complete },
  {
    name: `node-${otherNode}`,
    env: () => pathWith(base, `node-${process.platform}-${process.arch}@${otherNode}`),
    leaves: complete,
  },
  { name: 'tarball', install: installTarball, leaves: complete },
];

const chosen = process.argv.slice(2);
const counts = { passed: 0, failed: 0, skipped: 0 };
for (const one of cases.filter(({ name }) => chosen.length === 0 || chosen.includes(name))) {
  const begin = performance.now();
  const [outcome, detail] = one.skip === undefined ? await judge(one) : (['skipped', one.skip] as const);
  counts[outcome]++;
  const seconds = ((performance.now() - begin) / 1000).toFixed(0);
  console.log(`${one.name.padEnd(18)}${seconds.padStart(4)} s  ${outcome.padEnd(7)}  ${detail}`);
}
if (counts.failed === 0) rmSync(base, { recursive: true, force: true });
else console.log(`The copies were left in ${base}`);
console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exitCode = counts.failed > 0 || counts.passed === 0 ? 1 : 0;

async function judge(one: Case): Promise<readonly ['passed' | 'failed', string]> {
  try {
    return ['passed', await check(one)];
  } catch (error) {
    return ['failed', error instanceof Error ? error.message : String(error)];
  }
}

/** Answers what was found, for the table. */
async function check({ name, env, prefix = [], leaves, saysNoAddon = 0, install = installCheckout }: Case): Promise<string> {
  const folder = join(base, name);
  const cwd = join(folder, 'checkout');
  const home = join(folder, 'home');
  mkdirSync(home, { recursive: true });
  copyTree(cwd);
  const setting: Setting = { cwd, prefix, env: { ...cleanEnvironment(), ...(prefix.length > 0 && { HOME: home }), ...env?.() } };
  if (prefix.length > 0) execFileSync('chown', ['-R', '65534:65534', folder]);
  const versions = (
    await run(setting, ['sh', '-c', 'echo "Node $(node -p process.versions.node), npm $(npm --version 2>/dev/null)"'])
  ).trim();

  const { folder: installed, start, output } = await install(setting);
  expect('the addon after the installation', existsSync(join(installed, 'native/ha_registry.node')), leaves.addon);
  expect('dist/ after the installation', existsSync(join(installed, 'dist/main.js')), leaves.dist);
  expect('lines about the missing addon', output.split('the native addon was not built').length - 1, saysNoAddon);
  return `${versions}; ${await startAndStop(setting, start, join(home, 'data'))}`;
}

function expect<Value>(what: string, found: Value, wanted: Value): void {
  if (found !== wanted) throw new Error(`${what}: ${String(found)}, not ${String(wanted)}`);
}

async function installCheckout(setting: Setting): Promise<Installed> {
  const output = await run(setting, ['npm', 'install', '--prefer-offline', '--no-audit', '--no-fund']);
  return { folder: setting.cwd, start: ['npm', 'start', '--'], output };
}

/** As from the registry: packed in a checkout, installed elsewhere without anything to develop with. */
async function installTarball(setting: Setting): Promise<Installed> {
  await installCheckout(setting);
  await run(setting, ['npm', 'pack', '--pack-destination', '..']);
  const tarball = readdirSync(join(setting.cwd, '..')).find((name) => name.endsWith('.tgz'));
  if (tarball === undefined) throw new Error('npm pack left no tarball');
  rmSync(setting.cwd, { recursive: true });
  mkdirSync(setting.cwd);
  const install = ['npm', 'install', '--prefer-offline', '--no-audit', '--no-fund', '--omit=dev', '--foreground-scripts', `../${tarball}`];
  const output = await run(setting, install);
  return { folder: join(setting.cwd, 'node_modules/ha-registry'), start: ['npx', 'ha-registry', 'serve'], output };
}

function copyTree(to: string): void {
  const listed = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], { encoding: 'utf8' });
  const files = listed.split('\0').filter((file) => file !== '' && existsSync(file));
  for (const file of files) cpSync(file, join(to, file));
}

function skipOrdinaryUser(): string | undefined {
  if (process.getuid?.() !== 0) return 'every case ran as an ordinary user';
  return findCommand('setpriv') ? undefined : 'setpriv (util-linux) is not there';
}
