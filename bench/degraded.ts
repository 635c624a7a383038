// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What a pull takes while Postgres is there, and while it is away and everything is read from the store: a directory, and a bucket of MinIO. */
import { startRegistry } from '../test/support/registry.js';
import { stopS3Servers } from '../test/support/s3-server.js';
import { startStoppablePostgres } from '../test/support/stoppable-postgres.js';
import { missingStore, newStore, type StoreKind } from '../test/support/stores.js';
import { loadWithSockets, type LoadResult } from './load-client.js';
import { readOptions } from './options.js';
import { cpuSeconds } from './process-usage.js';
import { pushImage } from './push.js';
import { readImage } from './read-works.js';
import { median } from './statistics.js';
import { figure, renderTable } from './table.js';
import { fill } from './timing.js';

const options = readOptions(3);
const seconds = options.count('seconds', 4, 1);
const connections = 16;
const otherTags = 100;
const repository = 'bench/degraded';
const [kilobyte, megabyte] = readImage.layers;
const works = {
  'manifest by tag': `manifests/latest`,
  'manifest by digest': `manifests/${readImage.manifest.digest}`,
  'blob of 1 KiB': `blobs/${kilobyte?.digest}`,
  'blob of 1 MiB': `blobs/${megabyte?.digest}`,
};

interface Taken extends LoadResult {
  /** Of the node, for each request. */
  readonly cpuUs: number;
}

const load = loadWithSockets('GET');
const rows: string[][] = [];
let errors = 0;
for (const kind of ['filesystem', 's3'] as const) {
  if ((await missingStore(kind)) === false) await compare(kind);
}
await stopS3Servers();
console.log(`${options.rounds} rounds of ${seconds} s, medians; ${connections} connections`);
console.log(
  renderTable(['GET', 'store', 'p50 ms', 'without', 'p99 ms', 'without', 'req/s', 'without', 'CPU us', 'without', 'errors'], rows),
);
process.exit(errors > 0 ? 1 : 0);

async function compare(kind: StoreKind): Promise<void> {
  const { root, storage } = await newStore(kind);
  const postgres = await startStoppablePostgres();
  const node = await startRegistry({ root, config: { storage, database: { url: postgres.url }, log: { level: 'error' } } });
  const address = { host: '127.0.0.1', port: node.port };
  const untilState = async (wanted: string): Promise<void> => {
    for (let status = ''; status !== wanted; await new Promise((resolve) => setTimeout(resolve, 50))) {
      ({ status } = (await (await fetch(`${node.url}/readyz`)).json()) as { status: string });
    }
  };
  const measure = async (work: string): Promise<Taken> => {
    const path = `/v2/${repository}/${work}`;
    await load({ address, path, seconds: 0.5, connections });
    const before = cpuSeconds(node.pid).server;
    const result = await load({ address, path, seconds, connections });
    return { ...result, cpuUs: ((cpuSeconds(node.pid).server - before) * 1e6) / result.requests };
  };
  try {
    await fill({ name: kind, address }, { count: otherTags, width: 4 }, (connection, index) =>
      pushImage(connection, repository, index === 0 ? 'latest' : `t${index}`, readImage),
    );
    const samples = Object.keys(works).map((name) => ({ name, normal: [] as Taken[], without: [] as Taken[] }));
    for (let round = 0; round < options.rounds; round++) {
      for (const sample of samples) sample.normal.push(await measure(works[sample.name as keyof typeof works]));
      await postgres.stop();
      await untilState('degraded');
      for (const sample of samples) sample.without.push(await measure(works[sample.name as keyof typeof works]));
      await postgres.start();
      await untilState('ready');
    }
    for (const { name, normal, without } of samples) {
      const both = (pick: (taken: Taken) => number) => [normal, without].map((taken) => figure(median(taken.map(pick))));
      const failed = [...normal, ...without].reduce((sum, taken) => sum + taken.errors, 0);
      errors += failed;
      const rates = both(({ requests, seconds: lasted }) => requests / lasted);
      rows.push([
        name,
        kind,
        ...both(({ p50 }) => p50),
        ...both(({ p99 }) => p99),
        ...rates,
        ...both(({ cpuUs }) => cpuUs),
        String(failed),
      ]);
    }
  } finally {
    await node.stop();
    await postgres.close();
  }
}
