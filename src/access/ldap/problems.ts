// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What goes wrong with a directory, told once until it is over. */
export interface Problems {
  arose(what: string, message: string, error: unknown): void;
  /** With a message, that it is over is told, too. */
  solved(what: string, message?: string): void;
}

export function openProblems(warn: (message: string, error: unknown) => void): Problems {
  const known = new Set<string>();
  return {
    arose(what, message, error) {
      if (known.has(what)) return;
      known.add(what);
      warn(message, error);
    },
    solved(what, message) {
      if (known.delete(what) && message !== undefined) warn(message, undefined);
    },
  };
}
