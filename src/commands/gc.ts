// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { markIntervalMs, type Continuity } from '../cluster/continuity.js';
import { collect } from '../collector/collect.js';
import { newCounters, type Collection } from '../collector/collection.js';
import { forecast, type Forecast } from '../collector/forecast.js';
import { findHindrance } from '../collector/gate-queries.js';
import { lifetimesBy } from '../collector/lifetimes.js';
import { prune } from '../collector/prune.js';
import { findStatus, type CollectionStatus } from '../collector/status-queries.js';
import { runPeriodically } from '../jobs/periodic.js';
import type { Journal } from '../journal/write-entries.js';
import { showProgress, UsageError, type Command, type CommandInput } from './command.js';
import { openRegistry, type Parts } from './open-parts.js';
import { withJournal } from './with-journal.js';

/** `ha-registry gc`: what the nodes do by themselves, told or done now. */
export const gcCommand: Command = {
  usage: `ha-registry gc [--dry-run | --now] [--json] [options]

  Tells how much waits for its collection. Nodes collect by themselves, and may run or not.

  --dry-run            list what would go now; nothing is deleted
  --now                collect now what is due; no delay becomes shorter by it
  --json               the result as JSON; with --dry-run a line for each thing, and the sums last
`,
  options: { 'dry-run': { type: 'boolean' }, now: { type: 'boolean' }, json: { type: 'boolean' } },
  async run({ config, version, values }: CommandInput) {
    const [dryRun, now, json] = ['dry-run', 'now', 'json'].map((name) => values[name] === true) as [boolean, boolean, boolean];
    if (dryRun && now) throw new UsageError('gc: --dry-run and --now exclude each other');
    const parts = await openRegistry(config);
    try {
      const { pool, lifetimesOf } = { pool: parts.database.collector, lifetimesOf: lifetimesBy(config) };
      if (dryRun) await tell(forecast({ pool, store: parts.store, lifetimesOf }), json);
      else if (now) return await withJournal(parts, version, (journal, continuity) => collectNow(config, parts, journal, continuity, json));
      else tellStatus(await findStatus(pool), await findHindrance(pool), json);
      return 0;
    } finally {
      await parts.close();
    }
  },
};

/** As a node among the others, so that nothing is rebuilt under it. Exit code 1 when something forbids it. */
async function collectNow(
  config: CommandInput['config'],
  { database, store }: Parts,
  { node }: Journal,
  continuity: Continuity,
  json: boolean,
): Promise<number> {
  const counters = newCounters();
  const collection: Collection = {
    pool: database.collector,
    store,
    node,
    lifetimesOf: lifetimesBy(config),
    batch: config.gc.batch,
    delayMs: config.gc.delay,
    obstacle: () => continuity.obstacle,
    refresh: () => continuity.refresh(),
    counters,
  };
  const marks = runPeriodically(
    markIntervalMs,
    () => continuity.refresh(),
    () => undefined,
  );
  try {
    const before = await findStatus(database.collector);
    const all = before.manifests + before.links + before.blobs;
    await prune(collection);
    await collect(collection, () => showProgress(bar(counters.looked, all, counters)));
  } finally {
    showProgress('');
    await marks.stop();
  }
  const { manifests, links, blobs, records, objects, failedObjects, dataObjects, dataBytes, skippedLocked, lastRoundMs, hindrance } =
    counters;
  if (json) {
    const seconds = Math.round(lastRoundMs) / 1000;
    const sums = { manifests, links, blobs, records, objects, failedObjects, dataObjects, dataBytes, skippedLocked, seconds, hindrance };
    print(JSON.stringify(sums));
  } else {
    if (hindrance !== undefined) print(`Nothing was collected: ${hindrance}.`);
    else
      print(
        `Collected ${manifests} manifests, ${links} links, ${blobs} blobs and ${records} old records; ${skippedLocked} rows were in use and are left for later.`,
      );
    print(
      `Deleted ${objects} objects (${failedObjects} failed), among them ${dataObjects} blobs collected before, with ${dataBytes} bytes.`,
    );
  }
  return hindrance === undefined ? 0 : 1;
}

async function tell(things: AsyncIterable<Forecast>, json: boolean): Promise<void> {
  const sums = { manifests: 0, links: 0, blobs: 0, bytes: 0, records: 0, objects: 0 };
  for await (const thing of things) {
    sums[`${thing.kind}s`]++;
    if (thing.kind === 'blob') sums.bytes += thing.bytes;
    print(json ? JSON.stringify(thing) : line(thing));
  }
  if (json) print(JSON.stringify(sums));
  else
    print(
      `${sums.manifests} manifests, ${sums.links} links, ${sums.blobs} blobs of ${sums.bytes} bytes, ${sums.records} old records; ${sums.objects} objects of earlier rounds.`,
    );
}

function line(thing: Forecast): string {
  if (thing.kind === 'object' || thing.kind === 'record') return `${thing.kind.padEnd(9)} ${thing.key}`;
  if (thing.kind === 'blob') return `blob      ${thing.digest} ${thing.bytes}`;
  return `${thing.kind.padEnd(9)} ${thing.repository}@${thing.digest}`;
}

function tellStatus(status: CollectionStatus, hindrance: string | undefined, json: boolean): void {
  if (json) return print(JSON.stringify({ ...status, hindrance }));
  print(
    `To be looked at: ${status.manifests} manifests, ${status.links} links, ${status.blobs} blobs; the oldest is overdue by ${Math.round(status.queueOverdueSeconds)} s.`,
  );
  print(
    `In the trash: ${status.dataObjects} blobs of ${status.dataBytes} bytes; the oldest object is overdue by ${Math.round(status.trashOverdueSeconds)} s.`,
  );
  if (hindrance !== undefined) print(`Nothing is collected now: ${hindrance}.`);
}

const barWidth = 30;

function bar(done: number, all: number, { manifests, links, blobs }: Collection['counters']): string {
  const share = all === 0 ? 1 : Math.min(1, done / all);
  const filled = Math.round(share * barWidth);
  return `[${'#'.repeat(filled)}${'-'.repeat(barWidth - filled)}] ${done} looked at, ${manifests} manifests, ${links} links, ${blobs} blobs`;
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
