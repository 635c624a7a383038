// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * What garbage collection has to show, and where it is shown:
 *
 * | case | |
 * | --- | --- |
 * | 1 a push, a HEAD in each gap of a collection, and a collection in each gap of a push | gaps.ts |
 * | 2 what a HEAD, a mount, an upload said is there stays for the hour; what is queued or in the trash is pushed again | trash.ts, gaps.ts |
 * | 3 uploaded or mounted again between the phases, deletions that come late | trash.ts |
 * | 4 nodes that die or freeze | ../nodes/crashes.test.ts at named places; ../nodes/uploads.test.ts in mid-PATCH; ../nodes/cluster.test.ts the leader |
 * | 5 answers that are lost | moves.ts a collection's COMMIT, trash.ts deletions; ../nodes/uploads.test.ts a push's COMMIT; ../storage/s3-store.test.ts the bucket's |
 * | 6 many at once | trash.ts |
 * | 7 tags, children, referrers and refused pushes meanwhile | moves.ts, gaps.ts; basics.test.ts cycles |
 * | 8 streams and addresses of before | trash.ts, s3.test.ts |
 * | 10 a database that went back in time | command.test.ts; ../rebuild.test.ts, ../nodes/cluster.test.ts |
 */
import type { TAP } from 'tap';
import { collectionsInGaps, requestsInGaps } from './gaps.js';
import { moves } from './moves.js';
import type { Settings } from './place.js';
import { gates, manyAtOnce, promises, trash } from './trash.js';

/** The same on every store. One after another: what holds the code is there once in a process. */
export function interleavings(t: TAP, settings: () => Promise<Settings>, skip: string | false = false): void {
  const suites = {
    'a request in each gap of a collection': requestsInGaps,
    'a collection in each gap of a push': collectionsInGaps,
    'what comes and goes meanwhile': moves,
    promises,
    'the trash': trash,
    'nothing is collected': gates,
    'fifty clients push the same while it is collected': manyAtOnce,
  };
  for (const [title, suite] of Object.entries(suites)) void t.test(title, { skip }, async (t) => suite(t, await settings()));
}
