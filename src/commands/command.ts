// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { userInfo } from 'node:os';
import type { ParseArgsConfig } from 'node:util';
import type { Config } from '../config/config.js';

/** A command of the program other than `serve`; each has a file of its own in this folder and a line in command-line.ts. */
export interface Command {
  /** Its lines in the program's help. */
  readonly usage: string;
  /** Its own options, beside those that every command has. */
  readonly options: NonNullable<ParseArgsConfig['options']>;
  /** How many arguments without a name it takes. */
  readonly arguments?: { readonly least: number; readonly most: number };
  /** Resolves with the exit code. An Error that it throws is one line for the operator. */
  run(input: CommandInput): Promise<number>;
}

export interface CommandInput {
  readonly config: Config;
  readonly version: string;
  readonly values: Readonly<Record<string, string | boolean | undefined>>;
  readonly arguments: readonly string[];
}

/** Who runs a command, as a tag's history has it. */
export function commandUser(): string {
  try {
    return `command line (${userInfo().username})`;
  } catch {
    // A user id without a name, as in a container.
    return `command line (${process.getuid?.() ?? 'unknown'})`;
  }
}

/** The command line is wrong: exit code 2. */
export class UsageError extends Error {}

/** What is said on the way: on a terminal one line that changes, elsewhere nothing. */
export function showProgress(line: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${line}`);
}

/** A line of the result. */
export function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
