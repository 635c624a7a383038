// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** CPU (Node and Postgres) of a small push and of a small pull with 10 repositories and with 10,000; alternated between two registries. */
import { contentFrom } from './content.js';
import { measure, medianSample, type Outcome, type Sample, targetOf } from './measure.js';
import { readOptions } from './options.js';
import { settle } from './process-usage.js';
import { makeImage, pullImage, pushImage } from './push.js';
import { seed, type SeededTag, sharedBlob } from './seed.js';
import { Server } from './servers.js';
import { percentile } from './statistics.js';
import { figure, renderTable, verdict } from './table.js';
import { timeOperations } from './timing.js';
import type { Connection } from './wire.js';

interface Filled {
  readonly server: Server;
  readonly repositories: number;
  readonly seeded: readonly SeededTag[];
  readonly samples: Record<Operation, Sample[]>;
}

type Operation = 'push' | 'pull';

const options = readOptions(5);
const counts = { push: options.quick ? 50 : 500, pull: options.quick ? 500 : 10_000 };
const width = 16;
/** Two naps of autovacuum: until it has analyzed the new tables, Postgres plans by guesses. */
const analyzeMs = 125_000;
/** What is pulled is what was seeded: one blob, which is config and layer. */
const seededImage = { config: sharedBlob, layers: [], manifest: contentFrom(Buffer.from('')) };

const servers: Server[] = [];
const registries: Filled[] = [];
try {
  for (const repositories of [10, options.count('repositories', 10_000, 500)]) {
    const server = await Server.start(`${repositories} repositories`, options.memory, options.registry);
    servers.push(server);
    const seeded = await seed(server, { repositories, tags: repositories });
    registries.push({ server, repositories, seeded, samples: { push: [], pull: [] } });
  }
  await new Promise((resolve) => setTimeout(resolve, options.quick ? 0 : analyzeMs));
  for (const server of servers) await settle(server.pid, server.directory);
  for (let round = 0; round <= options.rounds; round++) {
    for (const operation of ['push', 'pull'] as const) {
      for (const filled of registries) {
        const sample = await measureOnce(filled, operation, round);
        if (round > 0) filled.samples[operation].push(sample); // The first round warms up.
      }
    }
  }
  report();
} finally {
  for (const server of servers) await server.stop();
}

async function measureOnce({ server, seeded }: Filled, operation: Operation, round: number): Promise<Sample> {
  const count = counts[operation];
  const images = Array.from({ length: operation === 'push' ? count : 0 }, () => makeImage([4096, 32768]));
  const chosen = Array.from({ length: count }, () => seeded[Math.floor(Math.random() * seeded.length)]);
  const work = async (connection: Connection, index: number) => {
    const { repository = '', tag = '' } = chosen[index] ?? {};
    const image = images[index];
    if (image === undefined) await pullImage(connection, repository, tag, seededImage);
    else await pushImage(connection, repository, `pushed-${round}-${index}`, image);
  };
  return await measure(targetOf(server), async (): Promise<Outcome> => {
    const { seconds, latenciesMs, errors } = await timeOperations(server.address, { count, width }, work);
    if (errors > 0) throw new Error(`${errors} of ${count} failed`);
    return { client: 'net', amount: count, seconds, p50: percentile(latenciesMs, 0.5), p99: percentile(latenciesMs, 0.99), errors };
  });
}

function report(): void {
  const rows: string[][] = [];
  const verdicts: string[] = [];
  for (const operation of ['push', 'pull'] as const) {
    const costs = registries.map(({ repositories, samples }) => {
      const { amount, serverCpu, postgresCpu, p50, p99, seconds } = medianSample(samples[operation]);
      const [node, postgres] = [(serverCpu / amount) * 1000, (postgresCpu / amount) * 1000];
      rows.push([operation, ...[repositories, node + postgres, node, postgres, p50, p99, amount / seconds].map(figure)]);
      return node + postgres;
    });
    verdicts.push(
      verdict(`CPU of a ${operation}, many repositories / few`, (costs[1] ?? Number.NaN) / (costs[0] ?? Number.NaN), { atMost: 1.1 }),
    );
  }
  console.log(renderTable(['operation', 'repositories', 'CPU ms', 'Node ms', 'Postgres ms', 'p50 ms', 'p99 ms', '/s'], rows));
  console.log(verdicts.join('\n'));
}
