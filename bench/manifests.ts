// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * Manifest GETs by tag and by digest, chosen at random among 200,000 tags in 10,000 repositories, by wrk with 64 connections: requests
 * per second of the Node process's CPU, and requests per second against docker-registry 2.8 (which is filled with fewer tags).
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { dockerRegistry } from './launches.js';
import { loadWithWrk, wrkInstalled } from './load-client.js';
import { measure, medianSample, type Sample, targetOf } from './measure.js';
import { readOptions } from './options.js';
import { settle } from './process-usage.js';
import { seed, type SeededTag } from './seed.js';
import { Server } from './servers.js';
import { figure, renderTable, verdict } from './table.js';

if (!wrkInstalled()) throw new Error('this bench needs wrk');
const options = readOptions(3);
const seconds = options.count('seconds', 10, 3);
const repositories = options.count('repositories', 10_000, 100);
const tags = options.count('tags', 200_000, 2000);
const scratch = mkdtempSync(join(tmpdir(), 'ha-registry-bench-paths-'));
const servers: Server[] = [];
try {
  const ours = await startFilled('ours', options.registry, repositories, tags);
  const theirs = await startFilled('docker-registry', dockerRegistry, Math.min(100, repositories), Math.min(2000, tags));
  const rows: string[][] = [];
  const verdicts: string[] = [];
  for (const [way, atLeast] of [['tag', 40_000] as const, ['digest', 45_000] as const]) {
    const samples = new Map<Server, Sample[]>([ours, theirs].map(({ server }) => [server, []]));
    for (let round = 0; round < options.rounds; round++) {
      for (const { server, pathsFiles } of [ours, theirs]) samples.get(server)?.push(await load(server, pathsFiles[way]));
    }
    const medians = new Map([...samples].map(([server, taken]) => [server, medianSample(taken)]));
    for (const [{ name }, sample] of medians) {
      const { amount, seconds: taken, p50, p99, errors, serverCpu, postgresCpu, peakRss } = sample;
      const cells = [amount / taken, perCore(sample), p50, p99, errors, serverCpu, postgresCpu, peakRss].map(figure);
      rows.push([`by ${way}`, name, ...cells]);
    }
    const [a, b] = [medians.get(ours.server), medians.get(theirs.server)];
    if (a === undefined || b === undefined) continue;
    verdicts.push(verdict(`requests per second of Node's CPU by ${way}`, perCore(a), { atLeast }));
    verdicts.push(verdict(`requests/s by ${way} / docker-registry`, a.amount / a.seconds / (b.amount / b.seconds), { atLeast: 15 }));
  }
  console.log(renderTable(['GET', 'registry', 'req/s', 'req/s per core', 'p50', 'p99', 'errors', 'CPU s', 'Postgres s', 'peak MiB'], rows));
  console.log(verdicts.join('\n'));
} finally {
  for (const server of servers) await server.stop();
  rmSync(scratch, { recursive: true });
}

async function startFilled(name: string, kind: typeof dockerRegistry, repositoryCount: number, tagCount: number) {
  const server = await Server.start(name, options.memory, kind);
  servers.push(server);
  const seeded = await seed(server, { repositories: repositoryCount, tags: tagCount });
  const pathsFiles = { tag: writePaths(name, 'tag', seeded), digest: writePaths(name, 'digest', seeded) };
  await settle(server.pid, server.directory);
  return { server, pathsFiles };
}

function writePaths(name: string, way: 'tag' | 'digest', seeded: readonly SeededTag[]): string {
  const file = join(scratch, `${name}-${way}`);
  writeFileSync(file, seeded.map((each) => `/v2/${each.repository}/manifests/${each[way]}\n`).join(''));
  return file;
}

async function load(server: Server, pathsFile: string): Promise<Sample> {
  const request = { address: server.address, path: '/v2/', connections: 64, pathsFile };
  await loadWithWrk({ ...request, seconds: 2 });
  return await measure(targetOf(server), async () => {
    const { requests, ...result } = await loadWithWrk({ ...request, seconds });
    return { amount: requests, ...result };
  });
}

function perCore({ amount, serverCpu }: Sample): number {
  return amount / serverCpu;
}
