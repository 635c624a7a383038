// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Runs commands in a prepared environment, each bounded in time and in a process group of its own. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Environment } from './environment.js';

export interface Setting {
  readonly cwd: string;
  readonly env: Environment;
  /** What is put before each command, as `setpriv …`. */
  readonly prefix: readonly string[];
}

const runTimeoutMs = 300_000;
/** `dist/` may be built first, on a busy machine. */
const startTimeoutMs = 120_000;
const stopTimeoutMs = 15_000;

/** Answers what the command wrote. Throws with its last lines when it fails. */
export async function run(setting: Setting, command: readonly string[]): Promise<string> {
  const { child, output } = spawnCommand(setting, command);
  const code = await exitCode(child, runTimeoutMs);
  if (code !== 0) throw new Error(`${command.join(' ')} ended with ${code}\n${lastLines(output())}`);
  return output();
}

/**
 * Starts a node on a free port and ends it with SIGTERM. Answers how long both took. npm gets the signal itself and has to pass it on, which it
 * can because `start` begins with `exec`. npx can't: where `sh` is dash, the signal ends only the shell between the two.
 */
export async function startAndStop(setting: Setting, command: readonly string[], dataFolder: string): Promise<string> {
  const port = await freePort();
  const begin = performance.now();
  const { child, output } = spawnCommand(setting, [...command, '--root', dataFolder, '-p', `${port}`]);
  try {
    await waitUntilLive(child, port);
    const live = performance.now();
    process.kill(command[0] === 'npx' ? runByNpx(child.pid) : Number(child.pid), 'SIGTERM');
    const code = await exitCode(child, stopTimeoutMs);
    if (code !== 0) throw new Error(`after SIGTERM it ended with ${code}`);
    if (await isLive(port)) throw new Error('after SIGTERM it still answers');
    return `live after ${seconds(live - begin)}, ended after ${seconds(performance.now() - live)}`;
  } catch (error) {
    throw new Error(`${(error as Error).message}\n${lastLines(output())}`, { cause: error });
  } finally {
    killGroup(child);
  }
}

function spawnCommand({ cwd, env, prefix }: Setting, command: readonly string[]): { child: ChildProcess; output: () => string } {
  const [file = '', ...rest] = [...prefix, ...command];
  const child = spawn(file, rest, { cwd, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  child.stdout.on('data', (text: Buffer) => (output += text.toString()));
  child.stderr.on('data', (text: Buffer) => (output += text.toString()));
  return { child, output: () => output };
}

/** The code, or the signal's name. */
async function exitCode(child: ChildProcess, timeoutMs: number): Promise<number | string> {
  if (child.exitCode !== null || child.signalCode !== null) return child.exitCode ?? String(child.signalCode);
  const limit = new AbortController();
  const timer = sleep(timeoutMs, undefined, { signal: limit.signal }).then(
    () => killGroup(child),
    () => undefined,
  );
  const begin = performance.now();
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
  limit.abort();
  await timer;
  return performance.now() - begin >= timeoutMs ? `nothing within ${seconds(timeoutMs)}` : (code ?? String(signal));
}

function runByNpx(npx: number | undefined): number {
  const processes = execFileSync('ps', ['-A', '-o', 'pid=,ppid=,args='], { encoding: 'utf8' }).split('\n');
  for (const line of processes) {
    const [, pid, parent, args = ''] = /^ *(\d+) +(\d+) (.*)$/.exec(line) ?? [];
    if (Number(parent) === npx) return args.startsWith('sh -c') ? runByNpx(Number(pid)) : Number(pid);
  }
  throw new Error('npx has no child');
}

async function waitUntilLive(child: ChildProcess, port: number): Promise<void> {
  const limit = performance.now() + startTimeoutMs;
  while (!(await isLive(port))) {
    if (child.exitCode !== null || child.signalCode !== null) throw new Error(`it ended with ${child.exitCode ?? child.signalCode}`);
    if (performance.now() > limit) throw new Error(`not live after ${seconds(startTimeoutMs)}`);
    await sleep(100);
  }
}

async function isLive(port: number): Promise<boolean> {
  const response = await fetch(`http://127.0.0.1:${port}/livez`, { signal: AbortSignal.timeout(5000) }).catch(() => undefined);
  await response?.body?.cancel();
  return response?.status === 200;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

function killGroup(child: ChildProcess): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch {
    /* All of it has ended. */
  }
}

function lastLines(output: string): string {
  return output.trimEnd().split('\n').slice(-30).join('\n').replaceAll(/^/gm, '    ');
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}
