// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { findCatchUp, setCaughtUp } from '../cluster/cluster-queries.js';
import type { ServerPool } from '../database/pool.js';
import type { Journal } from '../journal/write-entries.js';
import { catchUp } from '../rebuild/catch-up.js';
import { holdWalk } from '../rebuild/catch-up-queries.js';
import type { Finding } from '../rebuild/read-group.js';

export interface CatchUpWork {
  readonly journal: Journal;
  readonly pool: ServerPool;
  /** False when the walk is another's, or nobody's, from now on. */
  readonly mayGoOn: () => boolean;
  /** Aborts when the node ends. */
  readonly signal: AbortSignal;
  readonly log: (level: 'info' | 'warn', line: string) => void;
}

const tellEveryMs = 30_000;
/** What does not fit is kept in `quarantine`; the log has the first of it. */
const mostFindings = 20;

/**
 * Brings a database that went back in time forward to what the store holds, where that is due. A walk that is broken off, because its node ends or leads no more, is
 * begun anew by the next leader: what was adopted by then is only looked at. Until one has come to its end nothing is deleted.
 */
export async function catchUpWhenDue(work: CatchUpWork): Promise<void> {
  const { pool } = work;
  const generation = await findCatchUp(pool);
  if (generation === undefined) return;
  const held = await holdWalk(pool);
  if (held === undefined) return;
  try {
    await walk(generation, { ...work, signal: AbortSignal.any([work.signal, held.lost]) });
  } finally {
    held.letGo();
  }
}

async function walk(generation: bigint, { journal, pool, mayGoOn, signal, log }: CatchUpWork): Promise<void> {
  const since = performance.now();
  const ended = new AbortController();
  let told = since;
  let findings = 0;
  log(
    'info',
    `the store is walked for what the database lacks since its generation ${generation}; until that is done nothing is collected`,
  );
  const onFinding = ({ key, reason }: Finding): void => {
    if (++findings <= mostFindings) log('warn', `found in the store: ${key}: ${reason}`);
  };
  const onProgress = ({ entries, adopted, dropped }: { entries: number; adopted: number; dropped: number }): void => {
    if (!mayGoOn()) ended.abort();
    if (performance.now() - told < tellEveryMs) return;
    told = performance.now();
    log('info', `the walk over the store: ${entries} entries so far, ${adopted} adopted, ${dropped} rows dropped`);
  };
  try {
    const counts = await catchUp(journal, pool, { onProgress, onFinding, signal: AbortSignal.any([signal, ended.signal]) });
    const seconds = Math.round((performance.now() - since) / 100) / 10;
    const sum = `${counts.entries} entries, ${counts.adopted} adopted, ${counts.dropped} rows dropped, ${findings} findings, in ${seconds} s`;
    if (await setCaughtUp(pool, generation)) log('info', `the database has caught up with the store: ${sum}`);
    else log('warn', `the database has changed during the walk over the store, which begins again: ${sum}`);
  } catch (error) {
    if (!signal.aborted && !ended.signal.aborted) throw error;
    log('info', 'the walk over the store was broken off: who leads next begins it anew');
  }
}
