// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import {
  findCounts,
  findIndexStatus,
  listNodes,
  type ClusterCounts,
  type IndexStatus,
  type NodeStatus,
} from '../cluster/status-queries.js';
import { findHindrance } from '../collector/gate-queries.js';
import { findStatus, type CollectionStatus } from '../collector/status-queries.js';
import type { Config } from '../config/config.js';
import { findScrubState, listDamaged, type DamagedBlob, type ScrubState } from '../scrub/state-queries.js';
import { readGeneration } from '../storage/cluster-marks.js';
import { readDamageMarks } from '../storage/damage-marks.js';
import { readOwner } from '../storage/owner.js';
import type { Command } from './command.js';
import { openDatabasePart, openStorePart } from './open-parts.js';

/** `ha-registry status`: how the cluster is. */
export const statusCommand: Command = {
  usage: `ha-registry status [--json] [options]

  Tells how the cluster is: database and store, nodes and who leads, uploads, what waits for its collection, what is damaged, and when everything was checked. Nodes may
  run or not. Exit code 1 when something needs a look: the database or the store cannot be reached, nobody knows what the other has, or something is damaged.

  --json               as JSON
`,
  options: { json: { type: 'boolean' } },
  async run({ config, version, values }) {
    const status = { version, database: await databaseStatus(config), store: await storeStatus(config) };
    const concerns = concernsOf(status);
    if (values['json'] === true) print(JSON.stringify({ ...status, concerns }));
    else tell(status, concerns);
    return concerns.length === 0 ? 0 : 1;
  },
};

interface Away {
  readonly state: 'away';
  readonly reason: string;
}

type DatabaseStatus =
  | Away
  | (IndexStatus & {
      readonly state: 'here';
      readonly nodes: readonly NodeStatus[];
      readonly queues: Omit<ClusterCounts, 'nodes' | 'sessions'> & CollectionStatus & { readonly hindrance: string | undefined };
      readonly scrub: ScrubState;
      readonly damaged: readonly DamagedBlob[];
    });

type StoreStatus =
  | Away
  | {
      readonly state: 'here';
      readonly kind: string;
      readonly location: string;
      readonly cluster: string | undefined;
      readonly generation: string | undefined;
      /** Data that are marked as damaged: also known without the database. */
      readonly damageMarks: number;
    };

interface Status {
  readonly version: string;
  readonly database: DatabaseStatus;
  readonly store: StoreStatus;
}

/** In the report; all of them are in the database. */
const mostDamaged = 1000;

async function databaseStatus(config: Config): Promise<DatabaseStatus> {
  return orAway(
    () => openDatabasePart(config, false),
    async ({ database: { writes } }) => {
      const [nodes, counts, collection, hindrance, scrub, damaged] = await Promise.all([
        listNodes(writes),
        findCounts(writes),
        findStatus(writes),
        findHindrance(writes),
        findScrubState(writes),
        listDamaged(writes, mostDamaged),
      ]);
      const { pending = 0, trash = 0 } = counts ?? {};
      const queues = { pending, trash, ...collection, hindrance };
      return { state: 'here', ...(await findIndexStatus(writes)), nodes, queues, scrub, damaged };
    },
  );
}

async function storeStatus(config: Config): Promise<StoreStatus> {
  return orAway(
    () => openStorePart(config, false),
    async ({ store }) => ({
      state: 'here',
      kind: store.kind,
      location: store.location,
      cluster: (await readOwner(store))?.cluster,
      generation: (await readGeneration(store))?.generation.toString(),
      damageMarks: (await readDamageMarks(store)).size,
    }),
  );
}

async function orAway<Part extends { close(): Promise<void> }, Found>(
  open: () => Promise<Part>,
  look: (part: Part) => Promise<Found>,
): Promise<Found | Away> {
  try {
    const part = await open();
    try {
      return await look(part);
    } finally {
      await part.close();
    }
  } catch (error) {
    return { state: 'away', reason: (error as Error).message };
  }
}

function concernsOf({ database, store }: Status): string[] {
  const concerns: string[] = [];
  if (database.state === 'away') concerns.push(`the database cannot be asked: ${database.reason}`);
  if (store.state === 'away') concerns.push(`the store cannot be asked: ${store.reason}`);
  if (database.state === 'here') {
    if (database.rebuilding) concerns.push('the database is being rebuilt from the store');
    if (database.behind) concerns.push('the database may be behind its store: `ha-registry rebuild --catch-up`');
    if (database.scrub.damaged > 0)
      concerns.push(`${database.scrub.damaged} blobs are damaged and not served; pushing them again heals them`);
    if (database.scrub.quarantined > database.scrub.damaged)
      concerns.push(`${database.scrub.quarantined} objects of the store do not fit (table quarantine)`);
  } else if (store.state === 'here' && store.damageMarks > 0) concerns.push(`${store.damageMarks} blobs are damaged and not served`);
  if (database.state === 'here' && store.state === 'here' && store.cluster !== undefined && store.cluster !== database.cluster)
    concerns.push(`the store belongs to cluster ${store.cluster}, the database to ${database.cluster}`);
  return concerns;
}

function tell({ version, database, store }: Status, concerns: readonly string[]): void {
  const lines: [string, string][] = [['version', version]];
  if (store.state === 'away') lines.push(['store', `away: ${store.reason}`]);
  else lines.push(['store', `${store.kind} ${store.location}, ${store.damageMarks} marks of damage`]);
  if (database.state === 'away') lines.push(['database', `away: ${database.reason}`]);
  else {
    const { cluster, generation, nodes, uploads, queues, scrub, damaged } = database;
    lines.push(['database', `cluster ${cluster}, generation ${generation}`]);
    if (nodes.length === 0) lines.push(['nodes', 'none is running']);
    for (const node of nodes) lines.push(['node', describeNode(node)]);
    lines.push(['uploads', `${uploads.open} open with ${uploads.bytes} bytes, ${uploads.receiving} of them being received`]);
    lines.push([
      'queues',
      `${queues.pending} writes pending; to be looked at: ${queues.manifests} manifests, ${queues.links} links, ${queues.blobs} blobs`,
    ]);
    lines.push(['trash', `${queues.trash} objects, among them ${queues.dataObjects} blobs of ${queues.dataBytes} bytes`]);
    if (queues.hindrance !== undefined) lines.push(['collection', `stands still: ${queues.hindrance}`]);
    lines.push(['scrub', describeScrub(scrub)]);
    for (const { digest, key, reason, repositories } of damaged)
      lines.push(['damaged', `${digest} in ${repositories.join(', ') || 'no repository'} (${key}): ${reason ?? 'found by a rebuild'}`]);
  }
  for (const concern of concerns) lines.push(['LOOK', concern]);
  for (const [name, text] of lines) print(`${name.padEnd(nameWidth)} ${text}`);
}

const nameWidth = 10;

function describeNode({ id, version, startedAt, silentSeconds, alive, leads }: NodeStatus): string {
  return `${id} ${version}, since ${startedAt}${leads ? ', leads' : ''}${alive ? '' : `, silent for ${silentSeconds} s`}`;
}

function describeScrub({ damaged, quarantined, oldestSeconds, comparedAt }: ScrubState): string {
  const oldest = oldestSeconds === undefined ? 'no blob yet' : `every blob within the last ${Math.ceil(oldestSeconds / 3600)} h`;
  return `${oldest}; entries ${comparedAt === undefined ? 'were never compared to the end' : `compared since ${comparedAt}`}; ${damaged} damaged, ${quarantined} in quarantine`;
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
