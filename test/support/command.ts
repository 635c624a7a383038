// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Runs other programs from tests and drills, and sees to it that none of them outlives this process. */
import { spawn, spawnSync, type ChildProcess, type SpawnOptions } from 'node:child_process';
import { constants } from 'node:os';
import { descendants, killMarked, type ProcessMark } from './orphans.js';

export interface CommandOptions {
  readonly cwd?: string;
  /** Added to this process's environment; undefined removes a variable. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Written to standard input, which is closed at once otherwise. */
  readonly input?: string | Uint8Array;
  /** Killed after this long. */
  readonly timeoutMs?: number;
  /** Told of each piece of output as it comes. */
  readonly onOutput?: (text: string) => void;
}

export interface CommandResult {
  readonly stdout: string;
  readonly stderr: string;
}

export class CommandFailed extends Error {
  override readonly name = 'CommandFailed';
  /** How it ended. */
  readonly outcome: string;
  readonly result: CommandResult;

  constructor(line: string, outcome: string, result: CommandResult) {
    super(`${line}\n${outcome}\n${result.stderr}${result.stdout}`.trimEnd());
    this.outcome = outcome;
    this.result = result;
  }
}

/** Runs a program to its end. Rejects with `CommandFailed` unless it exits 0 in time. */
export async function run(command: string, args: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
  const { cwd, input, timeoutMs = 180_000, onOutput } = options;
  const child = spawnTracked(command, args, { cwd, env: { ...process.env, ...options.env }, stdio: 'pipe' });
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  const collect = (into: Buffer[]) => (piece: Buffer) => {
    into.push(piece);
    onOutput?.(piece.toString());
  };
  child.stdout?.on('data', collect(stdout));
  child.stderr?.on('data', collect(stderr));
  child.stdin?.on('error', () => {}); // A program may end before it has read its input; its exit code tells.
  child.stdin?.end(input);
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    child.kill('SIGKILL');
  }, timeoutMs);
  const ending = await ended(child);
  clearTimeout(timer);
  const result = { stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() };
  if (ending === 'exit 0') return result;
  throw new CommandFailed([command, ...args].join(' '), timedOut ? `no end after ${timeoutMs} ms` : ending, result);
}

/** Like `spawn`; the process and its descendants are killed when this one exits. Should this one be killed, the kernel kills the process where it can. */
export function spawnTracked(command: string, args: readonly string[], options: SpawnOptions): ChildProcess {
  installExitHooks();
  const child = canBindToParent() ? spawn('setpriv', ['--pdeathsig', 'KILL', command, ...args], options) : spawn(command, args, options);
  running.add(child);
  child.once('exit', () => running.delete(child));
  return child;
}

/** Has processes killed when this one exits. */
export function killAtExit(marks: readonly ProcessMark[]): void {
  installExitHooks();
  leftovers.push(...marks);
}

/** Registers a last act for this process's end, after all processes have been killed. It must be synchronous. */
export function atExit(act: () => void): void {
  installExitHooks();
  lastActs.push(act);
}

const running = new Set<ChildProcess>();
const leftovers: ProcessMark[] = [];
const lastActs: (() => void)[] = [];
let hooked = false;

function installExitHooks(): void {
  if (hooked) return;
  hooked = true;
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => process.exit(128 + constants.signals[signal]));
  }
  process.once('exit', () => {
    for (const { pid } of running) if (pid !== undefined) leftovers.push(...descendants(pid));
    for (const child of running) child.kill('SIGKILL');
    killMarked(leftovers);
    for (const act of lastActs) act();
  });
}

let bindsToParent: boolean | undefined;

/** Linux has it, with util-linux. setpriv becomes the program, so the process id is the program's. */
function canBindToParent(): boolean {
  bindsToParent ??= spawnSync('setpriv', ['--pdeathsig', 'KILL', 'true']).status === 0;
  return bindsToParent;
}

function ended(child: ChildProcess): Promise<string> {
  return new Promise((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('close', (code, signal) => resolve(signal === null ? `exit ${code}` : `ended by ${signal}`));
  });
}
