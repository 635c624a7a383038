// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { KeyTemplate } from '../storage/keys.js';

/** A write that a client was told of. */
export interface RecentWrite {
  readonly sequence: bigint;
  /** Of its entries, in the order in which they were written. */
  readonly templates: readonly KeyTemplate[];
}

const keptMs = 60 * 60 * 1000;
/** About 20 MB of names; a node that is told of more forgets the oldest, and the walk over the store finds those. */
const mostWrites = 40_000;

/** What this node has acknowledged within the last hour: a database that has lost it is given it back before anything else is written. */
export class RecentWrites {
  private writes: (RecentWrite & { readonly at: number })[] = [];

  remember(sequence: bigint, templates: readonly KeyTemplate[]): void {
    this.writes.push({ sequence, templates, at: performance.now() });
    if (this.writes.length > mostWrites) this.writes = this.writes.slice(mostWrites / 10);
  }

  /** Oldest sequence first. */
  list(): RecentWrite[] {
    const since = performance.now() - keptMs;
    this.writes = this.writes.filter(({ at }) => at >= since);
    return this.writes.toSorted((a, b) => (a.sequence < b.sequence ? -1 : 1));
  }
}
