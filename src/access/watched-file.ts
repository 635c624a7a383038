// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Files that an operator changes while the program runs. */
import { readFileSync, statSync } from 'node:fs';

export interface WatchedFile<T> {
  readonly current: T;
  close(): void;
}

/** Looking costs a stat, and sees what is renamed or mounted over it, too. */
const lookEveryMs = 2_000;

/**
 * The file's content, parsed. Throws what `parse` throws at first; later what cannot be read or parsed is told once, and what was there before goes on.
 */
export function watchFile<T>(
  file: string,
  parse: (text: string) => T,
  onChange: () => void,
  onError: (error: unknown) => void,
): WatchedFile<T> {
  let seen = stateOf(file);
  let current = parse(readFileSync(file, 'utf8'));
  const timer = setInterval(() => {
    const state = stateOf(file);
    if (state === seen) return;
    seen = state;
    try {
      current = parse(readFileSync(file, 'utf8'));
      onChange();
    } catch (error) {
      onError(error);
    }
  }, lookEveryMs).unref();
  return {
    get current() {
      return current;
    },
    close: () => clearInterval(timer),
  };
}

function stateOf(file: string): string {
  const stats = statSync(file, { throwIfNoEntry: false });
  return stats === undefined ? 'none' : `${stats.ino} ${stats.size} ${stats.mtimeMs}`;
}
