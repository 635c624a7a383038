// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Client } from 'pg';
import { migrateOn } from '../database/migrate.js';
import { collectorConnections, openDatabase, type Database } from '../database/pool.js';
import { checkServer } from '../database/requirements.js';
import type { Servers } from '../database/servers.js';
import { disconnect } from '../database/single-client.js';
import type { BlobStore } from '../storage/blob-store.js';
import { Continuity, type ContinuityOptions } from './continuity.js';
import { forgetNodes, joinCluster, type Membership } from './membership.js';
import { lockTopology, matchNodes, matchStore, refuseEmptyDatabase } from './topology.js';

export interface Cluster {
  readonly servers: Servers;
  readonly pool: { readonly reads: number; readonly writes: number };
  readonly gcDelayMs: number;
  readonly undoWindows: string;
  readonly store: BlobStore;
  readonly database: Database;
  readonly continuity: Continuity;
  readonly log: ContinuityOptions['log'];
}

export type ClusterOptions = Omit<Cluster, 'database' | 'continuity'> & {
  /** Told once per connection that was lost. */
  readonly onLoss: (error: Error) => void;
};

export interface EntryOptions {
  readonly version: string;
  /** Nobody else can be alive on this database. */
  readonly alone: boolean;
  /** Tells who waits for the start what it is waiting for. */
  readonly during: <T>(status: string, work: Promise<T>) => Promise<T>;
  /** Throws when this process must not join. */
  readonly refuse?: (client: Client) => Promise<void>;
}

/** Beside the pools of reads and writes: the collector's, presence, and for a while the check of the database. */
const otherConnections = collectorConnections + 2;
/** For nodes that start at the same time: they come in one after another. */
const patienceMs = 60_000;

/** The pools, which admit no connection before the cluster was entered. */
export function openCluster({ onLoss, ...parts }: ClusterOptions): Cluster {
  const continuity = new Continuity(parts);
  const database = openDatabase({
    servers: parts.servers,
    sizes: parts.pool,
    gcDelayMs: parts.gcDelayMs,
    undoWindows: parts.undoWindows,
    onLoss,
    admit: (client) => continuity.admit(client),
    checkWritable: () => continuity.checkWritable(),
  });
  return { ...parts, database, continuity };
}

/** Makes sure that database, store and nodes belong together, and joins. Throws an Error whose message is one line for the operator; may be tried again. */
export async function enterCluster(
  { servers, pool, store, database, continuity, log }: Cluster,
  options: EntryOptions,
): Promise<Membership> {
  // The pools were opened for the first of several, which need not be the one.
  if (await servers.find()) database.reconnect();
  const { empty, warnings } = await checkServer(servers.current(), { connections: pool.reads + pool.writes + otherConnections });
  for (const warning of warnings) log('warn', warning);
  if (empty) await refuseEmptyDatabase(store);
  await options.during('migrating the database', migrateOn(servers.current()));
  return join(continuity, { database, store, ...options });
}

/** Matches database, store and nodes, and registers this process as a node. */
export async function join(
  continuity: Continuity,
  { database, store, version, alone, refuse }: Omit<EntryOptions, 'during'> & Pick<Cluster, 'database' | 'store'>,
): Promise<Membership> {
  const patience = { statement_timeout: `${patienceMs}ms`, lock_timeout: `${patienceMs}ms` };
  const client = await database.connectAlone('start', patience, patienceMs);
  try {
    await lockTopology(client);
    await refuse?.(client);
    await matchStore(client, store);
    if (alone) await forgetNodes(client, store);
    const others = await matchNodes(client, store);
    await continuity.open(database, client, others === 0);
    const membership = await joinCluster(client, { version, store, generation: () => continuity.generation });
    continuity.join(() => membership.id);
    return membership;
  } finally {
    await disconnect(client);
  }
}
