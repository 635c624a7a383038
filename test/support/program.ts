// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Runs a command of the program, as an operator would. */
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { CommandFailed, run, spawnTracked } from './command.js';

export const main = path.resolve(import.meta.dirname, '../../dist/main.js');

/** A module of the program that was built, for who needs its worker threads: they do not load TypeScript. */
export async function built<Module>(file: string): Promise<Module> {
  return (await import(pathToFileURL(path.join(path.dirname(main), file)).href)) as Module;
}

export interface Ending {
  /** -1 when a signal ended it. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export async function ha(args: readonly string[], timeoutMs = 180_000): Promise<Ending> {
  try {
    // Nor what libraries say about versions of Node.
    return { code: 0, ...(await run(process.execPath, [main, ...args], { timeoutMs, env: { NODE_NO_WARNINGS: '1' } })) };
  } catch (error) {
    if (!(error instanceof CommandFailed)) throw error;
    return { code: Number(/^exit (\d+)$/.exec(error.outcome)?.[1] ?? -1), ...error.result };
  }
}

/** Kills the command as soon as `moment` has come; false when it was done before. */
export async function haKilled(args: readonly string[], moment: (ended: () => boolean) => Promise<unknown>): Promise<boolean> {
  const child = spawnTracked(process.execPath, [main, ...args], { stdio: 'ignore' });
  let ended = false;
  const exit = new Promise<number | null>((resolve) => {
    child.once('exit', (code) => {
      ended = true;
      resolve(code);
    });
  });
  await moment(() => ended);
  child.kill('SIGKILL');
  return (await exit) !== 0;
}
