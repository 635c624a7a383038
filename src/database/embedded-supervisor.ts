// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:os';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import type { Identity } from './embedded-identity.js';

export interface Supervised {
  /** Process id of the command itself, not of the shell above it; undefined when there was no shell. */
  readonly pid: number | undefined;
  /** Resolves with the exit status as a shell gives it (128 + signal number), when the command is gone. */
  readonly exited: Promise<number>;
  /** From now on the command does not keep this process alive. */
  unref(): void;
  /** Closes the pipe; the shell then ends the command: SIGINT, after `graceSeconds` SIGQUIT, 5 s later SIGKILL. */
  stop(): Promise<number>;
}

export interface SupervisedCommand {
  readonly command: readonly string[];
  readonly identity: Identity;
  readonly environment: Readonly<Record<string, string>>;
  readonly libraries: string;
  /** Passed on to the command and all its descendants, so that the lock lasts as long as any of them. */
  readonly lockDescriptor: number;
  /** Removed when the command is gone, also when we are gone by then. */
  readonly temporaryDirectory?: string;
  readonly graceSeconds: number;
  readonly onLine: (line: string) => void;
}

/**
 * The shell waits for the command; its child, the watcher, waits for the end of our pipe (fd 0, which the kernel closes also when
 * we are killed). SIGINT is repeated because a shell starts background commands with it ignored: the first may come before the
 * command has its handler. HUP, INT and TERM are for us, not for the shells; `detached` keeps the terminal's from the command.
 */
const script = `
directory=$1 grace=$2 libraries=$3
shift 3
exec 4<&0 </dev/null
LD_LIBRARY_PATH=$libraries DYLD_LIBRARY_PATH=$libraries "$@" >/dev/null 4<&- &
command=$!
(
  trap '' HUP INT TERM
  exec 3>&- >/dev/null 2>&1
  while read -r line <&4; do :; done
  seconds=0
  while [ "$seconds" -lt "$grace" ]; do
    kill -INT "$command" || exit
    sleep 1
    seconds=$((seconds + 1))
  done
  kill -QUIT "$command" || exit
  sleep 5
  kill -KILL "$command"
) &
watcher=$!
trap '' HUP INT TERM
exec 4<&-
echo "$command"
exec >&2
wait "$command"
status=$?
exec 2>/dev/null
kill -KILL "$watcher"
[ -z "$directory" ] || rm -rf -- "$directory"
exit "$status"
`;

const drainMs = 300;
/** What a shell says of a command that is not there. */
const cannotStart = 127;

/** Starts the command so that it cannot outlive this process. */
export async function supervise(options: SupervisedCommand): Promise<Supervised> {
  const { identity, temporaryDirectory = '', graceSeconds, libraries } = options;
  const [file, ...rest] = [...identity.prefix, 'sh', '-c', script, 'sh', temporaryDirectory, String(graceSeconds), libraries];
  const child = spawn(file, [...rest, ...options.command], {
    detached: true,
    stdio: ['pipe', 'pipe', 'pipe', options.lockDescriptor],
    env: options.environment,
    cwd: '/',
    ...identity.user,
  });
  const { stdin, stdout, stderr } = child;
  if (stdin === null || stdout === null || stderr === null) throw new Error('spawn gave no pipes');
  stdin.on('error', () => {}); // EPIPE at the end of a shell that is gone already
  createInterface({ input: stderr }).on('line', options.onLine);
  const exited = statusOf(child, options.onLine);
  const pid = await Promise.race([firstNumber(stdout), exited.then(() => undefined)]);
  const handles = [child, stdin, stdout, stderr] as { ref?(): void; unref?(): void }[];
  return {
    pid,
    exited,
    unref() {
      for (const handle of handles) handle.unref?.();
    },
    async stop() {
      for (const handle of handles) handle.ref?.();
      stdin.end();
      return exited;
    },
  };
}

/** After the shell's exit its last lines may still be in the pipe; orphaned backends may hold that open for long. */
async function statusOf(child: ChildProcess, onLine: (line: string) => void): Promise<number> {
  const closed = new Promise((resolve) => child.on('close', resolve));
  try {
    const [code, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
    await Promise.race([closed, delay(drainMs)]);
    child.stderr?.destroy();
    return code ?? 128 + (signal === null ? 0 : constants.signals[signal]);
  } catch (error) {
    onLine((error as Error).message);
    return cannotStart;
  }
}

async function firstNumber(stream: NodeJS.ReadableStream): Promise<number | undefined> {
  for await (const line of createInterface({ input: stream })) return Number(line);
  return undefined;
}
