// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** containerd by its command `ctr`, with a daemon of its own. It has no login: each command is given the name and the password. */
import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { run, spawnTracked } from '../support/command.js';
import { findTool } from '../support/tools.js';
import { isolated, type ClientStart, type StartClient } from './client.js';
import type { Layout } from './images.js';
import { tarOf } from './tar.js';

const startTimeoutMs = 30_000;
const stopTimeoutMs = 10_000;
/** Works everywhere, also where the scratch directory is on an overlay. */
const snapshotter = 'native';

export const startContainerd: StartClient = async (start) => {
  const daemonTool = await findTool('containerd');
  if ('missing' in daemonTool) return daemonTool;
  const tool = await findTool('ctr');
  if ('missing' in tool) return tool;
  if (process.getuid?.() !== 0) return { missing: 'containerd needs root' };
  const { scratch, tls } = start;
  const socket = path.join(scratch, 'containerd.sock');
  const env = isolated(scratch, tls);
  const ctr = async (...args: string[]) =>
    (await run(tool.path, ['--address', socket, '--namespace', 'drill', ...args], { env })).stdout.trim();
  const daemon = await startDaemon(daemonTool.path, start, socket, () => ctr('version'));
  if ('missing' in daemon) return daemon;
  const hosts = ['--hosts-dir', await writeHosts(start)];
  let user: string[] = [];

  async function digestOfImage(name: string): Promise<string> {
    const said = await ctr('images', 'list', `name==${name}`);
    return /sha256:[0-9a-f]{64}/.exec(said)?.[0] ?? said;
  }

  async function emptyStore(): Promise<void> {
    const names = (await ctr('images', 'list', '--quiet')).split('\n').filter((name) => name !== '');
    if (names.length > 0) await ctr('images', 'remove', '--sync', ...names);
    assert.equal(await ctr('content', 'list', '--quiet'), '', 'what is left in the store');
  }

  async function load(layout: Layout, base: string): Promise<string> {
    const archive = path.join(scratch, 'image.tar');
    await writeFile(archive, tarOf(await filesOf(layout.directory)));
    await ctr('images', 'import', '--all-platforms', '--no-unpack', '--base-name', base, archive);
    await rm(archive);
    return `${base}:${layout.tag}`;
  }

  async function pull(source: string): Promise<string> {
    await emptyStore();
    await ctr('images', 'pull', ...hosts, ...user, '--snapshotter', snapshotter, source);
    return digestOfImage(source);
  }

  return {
    version: /Version:\s+(\S+)/.exec(await ctr('version'))?.[1] ?? 'unknown',
    copiesIndexes: false,
    resumesPulls: false,
    close: daemon.stop,
    logIn: (username, password) => {
      user = ['--user', `${username}:${password}`];
      return Promise.resolve();
    },
    async push(layout, target) {
      await emptyStore();
      const local = await load(layout, 'drill/loaded');
      await ctr('images', 'push', ...hosts, ...user, target, local);
      return digestOfImage(local);
    },
    /** What was pulled says from where, so that a push knows what to mount. */
    async copy(source, target) {
      await pull(source);
      await ctr('images', 'push', ...hosts, ...user, target, source);
    },
    pull,
  };
};

/** hosts.toml, as the README has it. */
async function writeHosts({ scratch, host, tls }: ClientStart): Promise<string> {
  const directory = path.join(scratch, 'hosts');
  const url = `${tls === undefined ? 'http' : 'https'}://${host}`;
  const trust = tls === undefined ? '' : `  ca = "${tls.authorityFile}"\n`;
  await mkdir(path.join(directory, host), { recursive: true });
  await writeFile(path.join(directory, host, 'hosts.toml'), `server = "${url}"\n[host."${url}"]\n${trust}`);
  return directory;
}

async function filesOf(directory: string): Promise<{ name: string; content: Buffer }[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => path.join(entry.parentPath, entry.name));
  return Promise.all(files.map(async (file) => ({ name: path.relative(directory, file), content: await readFile(file) })));
}

async function startDaemon(
  containerd: string,
  { scratch }: ClientStart,
  socket: string,
  ask: () => Promise<unknown>,
): Promise<{ readonly stop: () => Promise<void> } | { readonly missing: string }> {
  const config = path.join(scratch, 'containerd.toml');
  await writeFile(
    config,
    `version = 2
root = "${path.join(scratch, 'root')}"
state = "${path.join(scratch, 'state')}"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
  address = "${socket}"
[ttrpc]
  address = "${socket}.ttrpc"
`,
  );
  const child = spawnTracked(containerd, ['--config', config], { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr?.on('data', (piece: Buffer) => (said += piece.toString()));
  let ending: string | undefined;
  child.once('error', (error) => (ending = error.message));
  child.once('exit', (code, signal) => (ending = signal ?? `exit ${code}`));
  const hasEnded = (): boolean => ending !== undefined;
  const stop = async (): Promise<void> => {
    child.kill('SIGTERM');
    for (const deadline = Date.now() + stopTimeoutMs; !hasEnded() && Date.now() < deadline;) await sleep(50);
    child.kill('SIGKILL');
  };
  for (const deadline = Date.now() + startTimeoutMs; !hasEnded() && Date.now() < deadline; await sleep(100)) {
    const answered = await ask().then(
      () => true,
      () => false,
    );
    if (answered) return { stop };
  }
  await stop();
  return { missing: `containerd did not start (${ending ?? 'no answer in time'}): ${said.trim().split('\n').slice(-3).join(' | ')}` };
}
