// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { randomUUID } from 'node:crypto';
import { gcProtocol } from '../collector/gate-queries.js';
import type { Queryer } from '../database/pool.js';

/** This process among the nodes. A node that was declared dead comes back under a new id, so that nothing it began before can be committed. */
export interface Membership {
  /** Changes when the node had to come back. */
  readonly id: string;
  /** Renews the heartbeat, and declares dead whoever has not for a minute. */
  beat(): Promise<void>;
  leave(): Promise<void>;
}

export const heartbeatMs = 5_000;
const deadAfter = '60 seconds';

/** With `alone`, nobody else can be alive on this database: every other row is of a process that ended without a goodbye. */
export async function joinCluster(writes: Queryer, version: string, alone: boolean): Promise<Membership> {
  const member = {
    id: randomUUID() as string,
    async beat() {
      const { rowCount } = await writes.query('UPDATE nodes SET heartbeat_at = clock_timestamp() WHERE id = $1', [member.id]);
      if (rowCount === 0) {
        const id = randomUUID();
        await insertNode(writes, id, version);
        member.id = id;
      }
      await writes.query('DELETE FROM nodes WHERE heartbeat_at < clock_timestamp() - $1::interval', [deadAfter]);
    },
    async leave() {
      await writes.query('DELETE FROM nodes WHERE id = $1', [member.id]);
    },
  };
  if (alone) await writes.query('DELETE FROM nodes');
  await insertNode(writes, member.id, version);
  return member;
}

async function insertNode(writes: Queryer, id: string, version: string): Promise<void> {
  await writes.query('INSERT INTO nodes (id, version, gc_protocol) VALUES ($1, $2, $3)', [id, version, gcProtocol]);
}
