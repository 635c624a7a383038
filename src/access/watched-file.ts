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

/**
 * Files that belong together, such as a certificate and its key, which change one after the other: `take` is tried whenever something has changed, until it succeeds. That
 * it does not is told once for each state that has lasted.
 */
export function watchFiles(files: readonly string[], take: () => Promise<void>, onError: (error: unknown) => void): { close(): void } {
  const look = (): string => files.map(stateOf).join('|');
  let taken = look();
  let failed: string | undefined;
  let told: string | undefined;
  let isTaking = false;
  const attempt = async (): Promise<void> => {
    const state = look();
    if (state === taken || isTaking) return;
    isTaking = true;
    try {
      await take();
      taken = state;
      failed = undefined;
    } catch (error) {
      if (failed === state && told !== state) {
        told = state;
        onError(error);
      }
      failed = state;
    } finally {
      isTaking = false;
    }
  };
  const timer = setInterval(() => void attempt(), lookEveryMs).unref();
  return { close: () => clearInterval(timer) };
}

/** Never throws: what cannot be looked at cannot be read either, which then says why. */
function stateOf(file: string): string {
  try {
    const { ino, size, mtimeMs } = statSync(file);
    return `${ino} ${size} ${mtimeMs}`;
  } catch {
    return 'none';
  }
}
