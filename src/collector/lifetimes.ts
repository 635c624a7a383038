// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Config } from '../config/config.js';
import { repositoryPattern } from '../oci/repository-pattern.js';

/** How long a manifest stays that nothing else keeps, in milliseconds. */
export interface Lifetimes {
  /** Since it was pushed first; Infinity: for ever. */
  readonly untaggedAfterMs: number;
  /** Since a tag was moved away from it, or deleted. */
  readonly undoWindowMs: number;
  /** Since it was pulled last. */
  readonly keepPulledMs: number;
}

/** By repository: the first line of `gc.repositories` whose pattern fits says what it says, the rest is as for all. */
export function lifetimesBy({ gc }: Pick<Config, 'gc'>): (repository: string) => Lifetimes {
  const patterns = gc.repositories.map((line) => ({ line, pattern: repositoryPattern(line.match) }));
  return (repository) => {
    const line = patterns.find(({ pattern }) => pattern.test(repository))?.line;
    return {
      untaggedAfterMs: line?.untagged_after ?? gc.untagged_after,
      // A tag that moves does not move its old manifest's time on; the window does so in its place.
      undoWindowMs: Math.max(line?.undo_window ?? gc.undo_window, gc.delay),
      keepPulledMs: line?.keep_pulled ?? gc.keep_pulled,
    };
  };
}

/** The same windows for undo_window() in Postgres (migrations/0026): patterns in the order in which they are tried. */
export function undoWindowsOf({ gc }: Pick<Config, 'gc'>): string {
  const lines = [...gc.repositories, { match: '**', undo_window: undefined }];
  return JSON.stringify(
    lines.map(({ match, undo_window: own }) => ({
      pattern: repositoryPattern(match).source,
      ms: Math.max(own ?? gc.undo_window, gc.delay),
    })),
  );
}
