// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { createInterface } from 'node:readline';
import { openPasswordPool } from '../worker/password-pool.js';
import { UsageError, type Command } from './command.js';

/** The password comes by standard input, so that it stands in no history and in no list of processes. */
export const hashPasswordCommand: Command = {
  usage: `ha-registry hash-password
  reads a password from standard input and prints its argon2 hash, for identity.<id>.password or an htpasswd file
`,
  options: {},
  async run() {
    const password = await readPassword();
    if (password === '') throw new UsageError('hash-password: expected a password on standard input');
    const pool = openPasswordPool();
    try {
      process.stdout.write(`${await pool.hash(password)}\n`);
    } finally {
      await pool.close();
    }
    return 0;
  },
};

/** The first line, which a terminal does not show. */
async function readPassword(): Promise<string> {
  const { stdin, stderr } = process;
  const isTerminal = stdin.isTTY && stderr.isTTY;
  if (isTerminal) stderr.write('Password: ');
  const lines = createInterface({ input: stdin, terminal: isTerminal });
  try {
    for await (const line of lines) return line;
    return '';
  } finally {
    lines.close();
    if (isTerminal) stderr.write('\n');
  }
}
