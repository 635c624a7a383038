// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Queryer } from '../database/pool.js';
import { findScrubState, type ScrubState } from '../scrub/state-queries.js';
import type { ScrubCounters } from '../scrub/scrubbing.js';
import { askedRarely } from './asked-rarely.js';
import type { Metrics } from './metrics.js';

/** What this node has checked, and what the database knows, which every node tells the same. */
export function countScrub(metrics: Metrics, counters: ScrubCounters, reads: Queryer): void {
  metrics.count('registry_scrub_checked_objects_total', 'Blobs, manifests and entries that the scrub has compared.', () =>
    byLabel('kind', { blob: counters.blobs, manifest: counters.manifests, entry: counters.entries }),
  );
  metrics.count('registry_scrub_checked_bytes_total', 'Bytes that the scrub has read.', () => counters.bytes);
  metrics.count('registry_scrub_findings_total', 'What the scrub has found, by what became of it.', () =>
    byLabel('outcome', {
      damaged: counters.damaged,
      repaired: counters.repaired,
      healed: counters.healed,
      reported: counters.reported,
    }),
  );
  const told = askedRarely<ScrubState>(metrics, () => findScrubState(reads));
  metrics.gauge(
    'registry_damaged_blobs',
    'Blobs that are damaged or missing in the store, and not served until they are pushed again.',
    told(({ damaged }) => damaged),
  );
  metrics.gauge(
    'registry_quarantined_objects',
    'Objects of the store that do not fit; the table quarantine has their keys and reasons.',
    told(({ quarantined }) => quarantined),
  );
  metrics.gauge(
    'registry_scrub_oldest_seconds',
    'How long ago the blob was checked that was not checked for the longest time.',
    told(({ oldestSeconds }) => oldestSeconds),
  );
}

function byLabel(name: string, values: Readonly<Record<string, number>>) {
  return Object.entries(values).map(([value, count]) => ({ labels: { [name]: value }, value: count }));
}
