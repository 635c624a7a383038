// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * Manifest GETs by tag from one node, and from two nodes over one Postgres and one store at the same time, by wrk with 64 connections to each: what a request costs
 * the nodes and Postgres. With cores to spare two nodes answer more; on this machine's cores the cost of a request must stay.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { startRegistry, type RunningRegistry } from '../test/support/registry.js';
import { startStoppablePostgres } from '../test/support/stoppable-postgres.js';
import { loadWithWrk, wrkInstalled } from './load-client.js';
import { readOptions } from './options.js';
import { cpuSeconds } from './process-usage.js';
import { seed } from './seed.js';
import { median } from './statistics.js';
import { figure, renderTable, verdict } from './table.js';

if (!wrkInstalled()) throw new Error('this bench needs wrk');
const options = readOptions(3);
const seconds = options.count('seconds', 10, 3);
const connections = 64;
/** Two nodes with two threads of wrk, Postgres beside them: below this they take each other's cores. */
const coresToSpare = 6;

interface Figures {
  readonly rate: number;
  readonly nodeUs: number;
  readonly postgresUs: number;
  readonly errors: number;
}

const scratch = mkdtempSync(join(options.memory, 'ha-registry-bench-two-'));
const paths = join(mkdtempSync(join(tmpdir(), 'ha-registry-bench-paths-')), 'tags');
const database = await startStoppablePostgres({ max_connections: '100' });
const config = { database: { url: database.url }, workers: { threads: 1 }, log: { level: 'warn' } };
const nodes = [await startRegistry({ root: scratch, config }), await startRegistry({ root: scratch, config })];
try {
  const [first] = nodes;
  if (first === undefined) throw new Error('no node');
  const count = { repositories: options.count('repositories', 1000, 100), tags: options.count('tags', 20_000, 2000) };
  const seeded = await seed({ name: 'ours', address: addressOf(first) }, count);
  writeFileSync(paths, seeded.map(({ repository, tag }) => `/v2/${repository}/manifests/${tag}\n`).join(''));
  const samples = { one: [] as Figures[], two: [] as Figures[] };
  for (let round = 0; round < options.rounds; round++) {
    samples.one.push(await load([first]));
    samples.two.push(await load(nodes));
  }
  const of = (taken: Figures[], pick: (figures: Figures) => number) => median(taken.map(pick));
  const cost = ({ nodeUs, postgresUs }: Figures) => nodeUs + postgresUs;
  console.log(
    renderTable(
      ['GET by tag', 'req/s', 'CPU us of a request', 'of it nodes', 'of it Postgres', 'errors'],
      Object.entries(samples).map(([name, taken]) => [
        `${name} node${name === 'two' ? 's' : ''}`,
        figure(of(taken, ({ rate }) => rate)),
        figure(of(taken, cost)),
        figure(of(taken, ({ nodeUs }) => nodeUs)),
        figure(of(taken, ({ postgresUs }) => postgresUs)),
        figure(of(taken, ({ errors }) => errors)),
      ]),
    ),
  );
  const more = of(samples.two, ({ rate }) => rate) / of(samples.one, ({ rate }) => rate);
  const dearer = of(samples.two, cost) / of(samples.one, cost);
  if (availableParallelism() >= coresToSpare) {
    console.log(verdict('requests/s of two nodes / of one', more, { atLeast: 1.6 }));
    console.log(`CPU of a request at two nodes / at one: ${figure(dearer)}`);
  } else {
    console.log(verdict('CPU of a request at two nodes / at one', dearer, { atMost: 1.1 }));
    console.log(`requests/s of two nodes / of one, on ${availableParallelism()} cores: ${figure(more)}`);
  }
} finally {
  for (const node of nodes) await node.stop();
  await database.close();
  rmSync(scratch, { recursive: true, force: true });
  rmSync(paths, { force: true });
}
process.exit();

function addressOf({ port }: RunningRegistry) {
  return { host: '127.0.0.1', port };
}

async function load(used: readonly RunningRegistry[]): Promise<Figures> {
  const once = (duration: number) =>
    Promise.all(
      used.map((node) =>
        loadWithWrk({
          address: addressOf(node),
          path: '/v2/',
          connections,
          pathsFile: paths,
          seconds: duration,
        }),
      ),
    );
  await once(2);
  const before = usage(used);
  const results = await once(seconds);
  const after = usage(used);
  const requests = results.reduce((sum, result) => sum + result.requests, 0);
  const perRequest = (cpu: number) => (cpu * 1e6) / requests;
  return {
    rate: requests / Math.max(...results.map((result) => result.seconds)),
    nodeUs: perRequest(after.nodes - before.nodes),
    postgresUs: perRequest(after.postgres - before.postgres),
    errors: results.reduce((sum, result) => sum + result.errors, 0),
  };
}

function usage(used: readonly RunningRegistry[]): { nodes: number; postgres: number } {
  return {
    nodes: used.reduce((sum, { pid }) => sum + cpuSeconds(pid).server, 0),
    // Postgres is a child of this process here, and so is wrk, which is not called postgres.
    postgres: cpuSeconds(process.pid).postgres,
  };
}
