// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { findCounts, mostCounted, type ClusterCounts } from '../cluster/status-queries.js';
import type { Queryer } from '../database/pool.js';
import { askedRarely } from './asked-rarely.js';
import type { Metrics } from './metrics.js';

/** What the database knows of the cluster; every node tells the same. */
export function countCluster(metrics: Metrics, reads: Queryer): void {
  const told = askedRarely<ClusterCounts>(metrics, () => findCounts(reads));
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
