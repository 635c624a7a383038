// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The program as a process of its own that a test holds at pause points (src/database/pause-points.ts), to freeze or kill it there. */
import type { ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { spawnTracked } from './command.js';
import { main } from './program.js';
import { temporaryDirectory } from './registry.js';
import { until } from './wire-suite.js';

export interface HeldProgram {
  readonly child: ChildProcess;
  /** Resolves when somebody is held at each of these. */
  reached(...places: readonly string[]): Promise<void>;
  /** Goes on from all places. */
  release(): Promise<void>;
  /** The exit code; -1 for a signal. */
  readonly ended: Promise<number>;
}

/** For a machine that does much else. */
const limitMs = 120_000;
const preload = path.resolve(import.meta.dirname, 'hold-at.mjs');

export async function startHeld(args: readonly string[], places: readonly string[]): Promise<HeldProgram> {
  const directory = await temporaryDirectory('hold-');
  const env = { ...process.env, HOLD_AT: places.join(' '), HOLD_FILES: directory };
  const child = spawnTracked(process.execPath, ['--import', preload, main, ...args], { env, stdio: ['ignore', 'ignore', 'inherit'] });
  const ended = new Promise<number>((resolve) => child.once('exit', (code) => resolve(code ?? -1)));
  return {
    child,
    ended,
    async reached(...wanted) {
      await until(
        `somebody is at ${wanted.join(' and ')}`,
        () => wanted.every((place) => existsSync(path.join(directory, place))),
        limitMs,
      );
    },
    async release() {
      for (const file of await readdir(directory)) await rm(path.join(directory, file));
    },
  };
}
