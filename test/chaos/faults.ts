// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * Two nodes behind a balancer and six clients that push and pull, while nodes are killed, frozen and rolled, Postgres goes away, and S3 is busy. No pull of what exists may fail,
 * no push may need more than one repetition while nodes are only rolled, and nothing that was acknowledged may be missing in the end.
 */
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { readStore } from '../drills/read-store.js';
import { filesOf } from '../drills/stored-objects.js';
import { Random } from '../drills/random.js';
import { freePort, startRegistry, temporaryDirectory, type RunningRegistry } from '../support/registry.js';
import { startStoppablePostgres, type StoppablePostgres } from '../support/stoppable-postgres.js';
import { table } from '../support/table.js';
import { findTool } from '../support/tools.js';
import { notRun, type Verdicts } from '../support/verdicts.js';
import { startBalancer } from './balancer.js';
import { ChaosClient } from './client.js';
import { pullImage, runClient, type Load } from './load.js';
import { startChaosS3, type ChaosS3 } from './object-store.js';

export interface FaultsOptions {
  readonly seed: number;
  readonly seconds: number;
  readonly engine: string;
  readonly store: 'filesystem' | 's3';
}

const clients = 6;
/** The balancer must have seen that a node is back before the next one goes. */
const settledMs = 1_500;
/** A pull is repeated inside the node meanwhile; its client waits five seconds. */
const longestBusyMs = 2_500;
/** Of the time, for rolling alone. */
const rollingShare = 0.35;

const faults: Record<string, number> = {};

interface Place {
  readonly port: number;
  registry: RunningRegistry;
}

export async function runFaults({ seed, seconds, engine, store }: FaultsOptions, verdicts: Verdicts): Promise<void> {
  const haproxy = await findTool('haproxy');
  if ('missing' in haproxy) notRun(haproxy.missing);
  const database = await startStoppablePostgres({ max_connections: '100' });
  const root = await temporaryDirectory('chaos-');
  const s3 = store === 's3' ? await startChaosS3() : undefined;
  const start = async (port: number): Promise<RunningRegistry> =>
    startRegistry({
      port,
      root,
      config: {
        database: { url: database.url },
        ...(s3 === undefined ? {} : { storage: { s3: s3.settings } }),
        server: { engine },
        workers: { threads: 1 },
        log: { level: 'warn' },
      },
    });
  const nodes: Place[] = [];
  for (let count = 0; count < 2; count++) {
    const port = await freePort();
    nodes.push({ port, registry: await start(port) });
  }
  const ports = nodes.map(({ port }) => port);
  const balancer = await startBalancer(haproxy.path, ports);
  const load: Load = {
    images: [],
    moving: new Map(),
    failures: [],
    counts: { pushes: 0, pulls: 0, pullRetries: 0, pushRetries: 0, mostPushRetries: 0, resumed: 0 },
    strict: true,
    over: false,
  };
  const working = Array.from({ length: clients }, (_, index) => runClient(load, index, balancer.port, new Random(seed + index + 1)));

  const begin = performance.now();
  const elapsed = () => (performance.now() - begin) / 1000 / seconds;
  const random = new Random(seed);
  await sleep(3_000);
  while (elapsed() < rollingShare) await roll(nodes, start);
  if (load.counts.pushes < clients) load.failures.push(`only ${load.counts.pushes} images were pushed`);
  verdicts.give('no pull failed and no push was repeated twice while nodes were rolled', load.failures);
  load.strict = false;
  while (elapsed() < 1) await fault(random, nodes, start, database, s3);
  load.over = true;
  await Promise.all(working);
  verdicts.give('no pull failed while nodes were killed, frozen and rolled and Postgres was away', load.failures);

  for (const { port } of nodes) await reread(load, port);
  verdicts.give(`all ${load.images.length} images that were acknowledged, byte for byte, by each node`, load.failures);
  const errors = nodes.flatMap(({ registry }) => registry.log().split('\n')).filter(isBug);
  load.failures.push(...errors.map((line) => line.slice(0, 400)));
  verdicts.give('no unexpected error in the logs of the last lives', load.failures);
  for (const { registry } of nodes) {
    const code = await registry.stop();
    if (code !== 0) load.failures.push(`a node ended with ${code}`);
  }
  if (s3 === undefined) {
    await compareStore(load, path.join(root, 'store'));
    verdicts.give('the store alone holds them, and what was deleted is not there', load.failures);
  }
  s3?.stop();
  await balancer.stop();
  await database.close();
  report(load);
}

async function roll(nodes: Place[], start: (port: number) => Promise<RunningRegistry>): Promise<void> {
  count('rolled');
  for (const node of nodes) {
    const code = await node.registry.stop();
    if (code !== 0) throw new Error(`SIGTERM: a node ended with ${code}\n${node.registry.log()}`);
    node.registry = await start(node.port);
    await sleep(settledMs);
  }
}

async function fault(
  random: Random,
  nodes: Place[],
  start: (port: number) => Promise<RunningRegistry>,
  database: StoppablePostgres,
  s3: ChaosS3 | undefined,
): Promise<void> {
  const node = random.pick(nodes);
  const share = random.next();
  if (s3 !== undefined && share < 0.2) {
    count('S3 busy');
    s3.busy(true);
    await sleep(random.between(500, longestBusyMs));
    s3.busy(false);
  } else if (share < 0.4) {
    count('killed');
    await node.registry.kill();
    await sleep(random.between(200, 3_000));
    node.registry = await start(node.port);
  } else if (share < 0.65) {
    count('frozen');
    process.kill(node.registry.pid, 'SIGSTOP');
    await sleep(random.between(1_000, 14_000));
    process.kill(node.registry.pid, 'SIGCONT');
  } else if (share < 0.75) await roll(nodes, start);
  else {
    count('Postgres stopped');
    await database.stop();
    await sleep(random.between(500, 6_000));
    await database.start();
  }
  await sleep(settledMs);
}

/** Everything that was acknowledged, from one node. */
async function reread(load: Load, port: number): Promise<void> {
  const client = new ChaosClient(port);
  for (const image of load.images) await pullImage(load, client, image);
  client.close();
}

async function compareStore(load: Load, store: string): Promise<void> {
  const { repositories, problems, missing } = await readStore(filesOf(store));
  load.failures.push(...problems, ...missing);
  for (const { repository, tag, digest, tagState } of load.images) {
    const found = repositories.get(repository)?.tags.get(tag);
    if (tagState === 'there' && found !== digest) load.failures.push(`${repository}:${tag}: ${found} in the store, ${digest} acknowledged`);
    if (tagState === 'gone' && found !== undefined) load.failures.push(`${repository}:${tag} is in the store, though it was deleted`);
  }
}

/** What is neither a refusal (503, logged with its cause) nor a job that Postgres left alone. */
function isBug(line: string): boolean {
  return /"level":(50|60)/.test(line) && !/"UNAVAILABLE"|ECONN|Connection terminated|57P0|connection|timeout/.test(line);
}

function count(what: string): void {
  faults[what] = (faults[what] ?? 0) + 1;
}

function report({ counts }: Load): void {
  console.log(
    table([
      ...Object.entries(faults).map(([what, times]) => [`times ${what}`, String(times)]),
      ['images pushed', String(counts.pushes)],
      ['images pulled', String(counts.pulls)],
      ['pull requests repeated once', String(counts.pullRetries)],
      ['pushes repeated', String(counts.pushRetries)],
      ['most repetitions of a push while only rolling', String(counts.mostPushRetries)],
      ['uploads continued after a break', String(counts.resumed)],
    ]),
  );
}
