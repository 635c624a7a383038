// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Queryer } from '../database/pool.js';
import type { Metrics } from './metrics.js';

/** What the database knows of the cluster; every node tells the same. */
interface Counts {
  readonly nodes: number;
  readonly pending: number;
  readonly trash: number;
  readonly sessions: number;
}

/** Counting more rows than this is not worth its time: a figure that stands here says "at least". */
const mostCounted = 100_000;
/** However many scrape. */
const askEveryMs = 5_000;
/** What is older than this is not told. */
const staleAfterMs = 30_000;

/** Asked when somebody scrapes, and told by the next scrape where the database is slow; without the database they are absent. */
export function countCluster(metrics: Metrics, reads: Queryer): void {
  let counts: Counts | undefined;
  let askedMs = -Infinity;
  let asking: Promise<void> | undefined;
  metrics.prepare(() => {
    if (performance.now() - askedMs < askEveryMs) return Promise.resolve();
    asking ??= ask().finally(() => {
      asking = undefined;
    });
    return asking;
  });
  const ask = async (): Promise<void> => {
    counts = await findCounts(reads);
    askedMs = performance.now();
  };
  const told = (read: (counts: Counts) => number) => () =>
    counts === undefined || performance.now() - askedMs > staleAfterMs ? undefined : read(counts);
  const atMost = `counted up to ${mostCounted}`;
  metrics.gauge(
    'registry_nodes',
    'Nodes that are alive, as the database knows them.',
    told(({ nodes }) => nodes),
  );
  metrics.gauge(
    'registry_pending_writes',
    'Writes that are registered and not committed yet.',
    told(({ pending }) => pending),
  );
  metrics.gauge(
    'registry_trash_objects',
    `Objects of the store that wait for their deletion, ${atMost}.`,
    told(({ trash }) => trash),
  );
  metrics.gauge(
    'registry_upload_sessions',
    `Upload sessions that are open, ${atMost}.`,
    told(({ sessions }) => sessions),
  );
}

async function findCounts(reads: Queryer): Promise<Counts | undefined> {
  const { rows } = await reads.query<{ [Name in keyof Counts]: number }>({
    name: 'count-cluster',
    text: `SELECT (SELECT count(*)::int FROM nodes) AS nodes, (SELECT count(*)::int FROM pending_writes) AS pending,
                  (SELECT count(*)::int FROM (SELECT FROM object_trash LIMIT ${mostCounted}) t) AS trash,
                  (SELECT count(*)::int FROM (SELECT FROM upload_sessions LIMIT ${mostCounted}) s) AS sessions`,
  });
  return rows[0];
}
