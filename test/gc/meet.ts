// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** A request and a collection at the same place at the same time. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import type { Answer } from '../support/http-client.js';
import { digestOf } from '../support/wire-suite.js';
import type { Place } from './place.js';

/** Holds a round at a place, begins a request there, and lets the round go on once the request is answered or waits for a lock. */
export function meetAt(place: Place, gap: string, request: () => Promise<Answer>): Promise<Answer> {
  return meet(place, gap, () => place.collect(), request);
}

export async function meet(place: Place, gap: string, work: () => Promise<void>, request: () => Promise<Answer>): Promise<Answer> {
  const hold = place.hold(gap);
  const round = work();
  await Promise.race([hold.reached, round.then(() => Promise.reject(new Error(`${gap} was not reached`)))]);
  const state = { answered: false };
  const answer = request().finally(() => (state.answered = true));
  while (!state.answered && !(await waits(place))) await sleep(5);
  hold.release();
  await round;
  return answer;
}

export async function waits({ sql }: Place): Promise<boolean> {
  const rows = await sql(
    `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND application_name = 'ha-registry writes'`,
  );
  return rows.length > 0;
}

export async function readable(t: Test, { client }: Place, repository: string, content: string): Promise<void> {
  const { status, body } = await client.send('GET', `/v2/${repository}/blobs/${digestOf(content)}`);
  t.strictSame([status, body.toString()], [200, content], `${content} is there, byte by byte`);
}

/** Long after everything: nothing that is referred to was lost, and nothing is left over. */
export async function settle(place: Place): Promise<void> {
  for (let day = 0; day < 3; day++) {
    await place.age('25 hours');
    await place.collect();
  }
}
