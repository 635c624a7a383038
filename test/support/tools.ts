// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * Finds the programs that drills need, and installs what is missing: Go programs of pinned versions into a cache outside the tree, others
 * as packages of the distribution.
 */
import { access, constants, mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import path from 'node:path';
import { CommandFailed, run } from './command.js';

export type Found = { readonly path: string } | { readonly missing: string };

interface GoProgram {
  readonly module: string;
  readonly version: string;
  readonly package: string;
  /** `go install` asks the proxy for longer module paths first, and where it refuses one a module of our own has to name the right one. */
  readonly through?: 'temporary module';
  /** The package is one of tests, and what `go.sum` says of its module and of that module's `go.mod`: checksum databases do not know every version. */
  readonly testsOf?: { readonly module: string; readonly goMod: string };
}

type Sums = NonNullable<GoProgram['testsOf']>;

const goPrograms = {
  crane: {
    module: 'github.com/google/go-containerregistry',
    version: 'v0.22.1',
    package: 'github.com/google/go-containerregistry/cmd/crane',
  },
  regctl: { module: 'github.com/regclient/regclient', version: 'v0.11.7', package: 'github.com/regclient/regclient/cmd/regctl' },
  oras: { module: 'oras.land/oras', version: 'v1.3.3', package: 'oras.land/oras/cmd/oras', through: 'temporary module' },
  // The tagged releases cannot be had by way of the Go module proxy.
  minio: { module: 'github.com/minio/minio', version: 'v0.0.0-20260212201848-7aac2a2c5b7c', package: 'github.com/minio/minio' },
  versitygw: { module: 'github.com/versity/versitygw', version: 'v1.7.0', package: 'github.com/versity/versitygw/cmd/versitygw' },
  conformance: {
    module: 'github.com/opencontainers/distribution-spec/conformance',
    version: 'v0.0.0-20260716174315-967efdc079b9',
    package: 'github.com/opencontainers/distribution-spec/conformance',
  },
  // The last of its commits with the suite of the released specification.
  'conformance-1.1': {
    module: 'github.com/opencontainers/distribution-spec/conformance',
    version: 'v0.0.0-20250220192232-583e014d1541',
    package: 'github.com/opencontainers/distribution-spec/conformance',
    testsOf: { module: 'h1:hR3QfebIYiUVKERH00V10eKn2s6mOiE4FvX9ZpEkjp0=', goMod: 'h1:DOO4RzIigGVoAksLURsDbKHpJ8zX5eEQfsmkqY39yyE=' },
  },
} as const satisfies Record<string, GoProgram>;

/** Program → Debian package. */
const debianPackages = {
  skopeo: 'skopeo',
  docker: 'docker.io',
  dockerd: 'docker.io',
  containerd: 'containerd',
  ctr: 'containerd',
  'docker-registry': 'docker-registry',
  haproxy: 'haproxy',
  nginx: 'nginx-light',
  pgbouncer: 'pgbouncer',
  slapd: 'slapd',
  'systemd-analyze': 'systemd',
  wrk: 'wrk',
} as const;

export type Tool = keyof typeof goPrograms | keyof typeof debianPackages;
/** All of them. */
export const tools = [...Object.keys(goPrograms), ...Object.keys(debianPackages)] as Tool[];

const found = new Map<Tool, Promise<Found>>();

/** Where a program is; it is installed if need be. Says why when it cannot be had. */
export function findTool(tool: Tool): Promise<Found> {
  const known = found.get(tool);
  if (known !== undefined) return known;
  const search = isGoProgram(tool) ? findGoProgram(tool) : findDebianProgram(tool, debianPackages[tool]);
  found.set(tool, search);
  return search;
}

/** Kept between runs, outside the tree. */
export function cacheDirectory(): string {
  const { CI_CACHE, XDG_CACHE_HOME } = process.env;
  return path.join(CI_CACHE || XDG_CACHE_HOME || path.join(homedir(), '.cache'), 'ha-registry-ci');
}

function isGoProgram(tool: Tool): tool is keyof typeof goPrograms {
  return tool in goPrograms;
}

async function findGoProgram(name: keyof typeof goPrograms): Promise<Found> {
  const given = name === 'conformance' ? process.env['OCI_CONFORMANCE_BINARY'] : undefined;
  if (given !== undefined && given !== '') {
    return (await isExecutable(given)) ? { path: path.resolve(given) } : { missing: `OCI_CONFORMANCE_BINARY=${given} cannot be executed` };
  }
  const program: GoProgram = goPrograms[name];
  const target = path.join(cacheDirectory(), 'bin', `${name}-${program.version}`);
  if (await isExecutable(target)) return { path: target };
  const scratch = `${target}.${process.pid}`;
  try {
    await mkdir(scratch, { recursive: true });
    await (program.testsOf === undefined ? buildGoProgram(program, scratch) : buildGoTests(name, program, program.testsOf, scratch));
    await rename(path.join(scratch, name), target);
    return { path: target };
  } catch (error) {
    const source = `${program.package}@${program.version}: `;
    return { missing: source + reason(error).replaceAll(source, '').replace(/^go: /, '') }; // go repeats the name at every step.
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

async function buildGoProgram({ module, version, package: source, through }: GoProgram, into: string): Promise<void> {
  const go = goIn(into);
  console.log(`building ${source}@${version} …`);
  if (through === undefined) {
    await go('install', `${source}@${version}`);
    return;
  }
  await go('mod', 'init', 'build');
  await go('get', `${module}@${version}`);
  await go('build', '-mod=mod', '-o', into, source);
}

async function buildGoTests(name: string, { module, version, package: source }: GoProgram, sums: Sums, into: string): Promise<void> {
  console.log(`building the tests of ${source}@${version} …`);
  await writeFile(path.join(into, 'go.mod'), `module build\n\ngo 1.23\n\nrequire ${module} ${version}\n`);
  await writeFile(path.join(into, 'go.sum'), `${module} ${version} ${sums.module}\n${module} ${version}/go.mod ${sums.goMod}\n`);
  await goIn(into)('test', '-mod=mod', '-c', '-o', name, source);
}

function goIn(directory: string): (...args: string[]) => Promise<unknown> {
  const env = { CGO_ENABLED: '0', GOBIN: directory };
  return (...args) => run('nice', ['-n', '5', 'go', ...args], { cwd: directory, env, timeoutMs: 20 * 60_000 });
}

async function findDebianProgram(name: string, debianPackage: string): Promise<Found> {
  const there = await onPath(name);
  if (there !== undefined) return { path: there };
  if (process.getuid?.() !== 0) return { missing: `${name} is not installed, and only root can install the package ${debianPackage}` };
  if ((await onPath('apt-get')) === undefined) return { missing: `${name} is not installed, and there is no apt-get` };
  try {
    const env = { DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' }; // In run level 1 a package does not start its service.
    await run('apt-get', ['install', '-y', '--no-install-recommends', debianPackage], { env, timeoutMs: 10 * 60_000 });
  } catch (error) {
    return { missing: `apt-get install ${debianPackage}: ${reason(error)}` };
  }
  const installed = await onPath(name);
  return installed === undefined ? { missing: `the package ${debianPackage} has no ${name}` } : { path: installed };
}

async function onPath(name: string): Promise<string | undefined> {
  for (const directory of [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/usr/bin']) {
    const candidate = path.join(directory, name);
    if (directory !== '' && (await isExecutable(candidate))) return candidate;
  }
  return undefined;
}

async function isExecutable(file: string): Promise<boolean> {
  try {
    await access(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** The end of what a failed program said: there the error is. */
function reason(error: unknown): string {
  if (!(error instanceof CommandFailed)) return error instanceof Error ? error.message : String(error);
  const said = `${error.result.stdout}\n${error.result.stderr}`.trim().split('\n').slice(-2);
  return said.join(' ').replaceAll(/\s+/g, ' ').trim() || error.outcome;
}
