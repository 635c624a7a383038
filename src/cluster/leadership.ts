// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * A node's presence: one connection that holds the node's lock and, on one node, the leader's. Both go with the process at once, and with `idle_session_timeout` when
 * it is frozen or cut off. Leading saves work; nothing depends on there being only one leader.
 */
import type { Client } from 'pg';
import type { Database } from '../database/pool.js';
import type { BlobStore } from '../storage/blob-store.js';
import { nodeKey } from '../storage/keys.js';
import type { Membership } from './membership.js';

export interface Presence {
  /** Whether this node leads, as far as it can know. */
  readonly isLeader: boolean;
  /** Resolves when it was first known who leads. */
  readonly settled: Promise<void>;
  /** Leaves the cluster. */
  stop(): Promise<void>;
}

export interface PresenceOptions {
  readonly database: Database;
  readonly membership: Membership;
  readonly store: BlobStore;
  /** Whether it may lead, asked at each beat: who cannot do the work leaves it to another. */
  readonly mayLead: () => boolean;
  readonly onChange: (isLeader: boolean) => void;
  readonly onError: (error: unknown) => void;
}

/** Others take over within `idleTimeoutMs` and a beat: 13 s after a leader froze, at once when it ended. */
const beatMs = 3_000;
const idleTimeoutMs = 10_000;
/** A connection that was lost is replaced sooner than a beat: until then the node counts as half dead. */
const retryMs = 500;
const timeoutMs = 5_000;

const settings = {
  idle_session_timeout: `${idleTimeoutMs}ms`,
  statement_timeout: '4s',
  lock_timeout: '2s',
  tcp_keepalives_idle: '3',
  tcp_keepalives_interval: '2',
  tcp_keepalives_count: '3',
};

export function startPresence({ database, membership, store, mayLead, onChange, onError }: PresenceOptions): Presence {
  let client: Client | undefined;
  let leads = false;
  let toldLeading = false;
  let beatAt = -Infinity;
  let failing = false;
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;
  let beating = Promise.resolve();
  let settle: () => void;
  const settled = new Promise<void>((resolve) => (settle = resolve));
  const isLeader = (): boolean => leads && performance.now() - beatAt < idleTimeoutMs;
  const tell = (): void => {
    if (isLeader() === toldLeading || stopped) return;
    toldLeading = !toldLeading;
    onChange(toldLeading);
  };
  const lost = (which: Client): void => {
    if (client !== which) return;
    client = undefined;
    leads = false;
    tell();
    which.end().catch(() => undefined);
    schedule(retryMs);
  };
  const open = async (): Promise<Client> => {
    const opened = await database.connectAlone('presence', settings, timeoutMs);
    await lockNode(opened, membership.id);
    opened.on('end', () => lost(opened));
    return opened;
  };
  const beat = async (): Promise<void> => {
    // As of the question: an answer that waited in a frozen process is old.
    const askedAt = performance.now();
    client ??= await open();
    const current = client;
    try {
      const candidate = mayLead();
      if (leads && !candidate) {
        leads = false;
        await current.query('SELECT pg_advisory_unlock(4872101, 0)');
      }
      const answer = await sendBeat(current, membership.id, leads || !candidate);
      if (!answer.known) {
        await membership.rejoin(current);
        await lockNode(current, membership.id);
      }
      leads = candidate && answer.leads && client === current;
      beatAt = askedAt;
      // Not waited for: until the next beat the connection must not be idle for long.
      if (answer.died.length > 0) void store.delete(answer.died.map(nodeKey)).catch(onError);
    } catch (error) {
      lost(current);
      throw error;
    }
  };
  const run = (): void => {
    clearTimeout(timer);
    beating = runOnce(beating);
  };
  const runOnce = async (before: Promise<void>): Promise<void> => {
    await before;
    if (stopped) return;
    try {
      await beat();
      failing = false;
      schedule(beatMs);
    } catch (error) {
      database.suspect(error);
      if (!failing) onError(error);
      failing = true;
      schedule(retryMs);
    }
    tell();
    settle();
  };
  const schedule = (ms: number): void => {
    if (stopped) return;
    clearTimeout(timer);
    timer = setTimeout(run, ms);
  };
  run();
  return {
    get isLeader() {
      return isLeader();
    },
    settled,
    async stop() {
      stopped = true;
      clearTimeout(timer);
      await beating;
      try {
        client ??= await open();
        await membership.leave(client);
      } catch {
        // Without the database nobody can be told; the others notice.
      } finally {
        await client?.end().catch(() => undefined);
      }
    },
  };
}

/** Locks of ids that the node had before are kept: they go with the connection, and nobody asks for them. */
async function lockNode(client: Client, id: string): Promise<void> {
  await client.query('SELECT pg_advisory_lock_shared(4872102, hashtext($1::uuid::text))', [id]);
}

async function sendBeat(
  client: Client,
  id: string,
  leads: boolean,
): Promise<{ readonly known: boolean; readonly leads: boolean; readonly died: readonly string[] }> {
  const { rows } = await client.query<{ known: boolean; leads: boolean; died: string[] }>({
    name: 'beat',
    text: 'SELECT * FROM beat($1, $2)',
    values: [id, leads],
  });
  return rows[0] ?? { known: false, leads: false, died: [] };
}
