// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { destination, pino, type Logger } from 'pino';

export type Log = Logger;

/** JSON lines on stdout, written at once, so that the last words of a process that ends are not lost. */
export function openLog(level: string): Log {
  return pino(
    { level, base: null, timestamp: pino.stdTimeFunctions.isoTime, formatters: { level: (label) => ({ level: label }) } },
    destination({ dest: 1, sync: true }),
  );
}
