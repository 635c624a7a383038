// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Metrics } from './metrics.js';

/** However many scrape. */
const askEveryMs = 5_000;
/** What is older than this is not told. */
const staleAfterMs = 30_000;

/**
 * Figures that the database knows: asked for when somebody scrapes, and told by the next scrape where the database is slow; without the database they are absent.
 * What is returned makes a gauge's reading of one of them.
 */
export function askedRarely<Figures>(
  metrics: Metrics,
  find: () => Promise<Figures | undefined>,
): (read: (figures: Figures) => number | undefined) => () => number | undefined {
  let figures: Figures | undefined;
  let askedMs = -Infinity;
  let asking: Promise<void> | undefined;
  const ask = async (): Promise<void> => {
    figures = await find();
    askedMs = performance.now();
  };
  metrics.prepare(() => {
    if (performance.now() - askedMs < askEveryMs) return Promise.resolve();
    asking ??= ask().finally(() => {
      asking = undefined;
    });
    return asking;
  });
  return (read) => () => (figures === undefined || performance.now() - askedMs > staleAfterMs ? undefined : read(figures));
}
