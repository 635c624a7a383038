// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * What access control costs: manifest GETs by tag and by digest from three nodes over one Postgres and one store (open to all; with identities; with two policies, too), by wrk,
 * among so many tags that policies are evaluated and not remembered; and pulls at a steady rate, with 1,000 logins a minute beside them and without.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { startRegistry, type RunningRegistry } from '../test/support/registry.js';
import { startStoppablePostgres } from '../test/support/stoppable-postgres.js';
import { hash as hashPassword } from '../src/worker/password-worker.js';
import { loadWithWrk, wrkInstalled } from './load-client.js';
import { readOptions } from './options.js';
import { cpuSeconds } from './process-usage.js';
import { manifestType } from './push.js';
import { seed, type SeededTag } from './seed.js';
import { median, percentile } from './statistics.js';
import { figure, renderTable, verdict } from './table.js';
import { type Address, Connection } from './wire.js';

if (!wrkInstalled()) throw new Error('this bench needs wrk');
const options = readOptions(5);
const seconds = options.count('seconds', 5, 2);
const loginSeconds = seconds * 4;
const loginsPerMinute = 1_000;
const pullsPerSecond = 400;
const password = 'a password that all have';
const people = Math.ceil((options.rounds * loginSeconds * loginsPerMinute) / 60) + 100;

const ways = {
  'open to all': 'open',
  'anonymous, with identities': 'identities',
  'bearer token': 'identities',
  'bearer token, two policies': 'policies',
} as const;
type Way = keyof typeof ways;
const reads = ['tag', 'digest'] as const;
type Read = (typeof reads)[number];

const scratch = mkdtempSync(join(options.memory, 'ha-registry-bench-access-'));
const paths = mkdtempSync(join(tmpdir(), 'ha-registry-bench-paths-'));
const database = await startStoppablePostgres({ max_connections: '100' });
const nodes = await startNodes();
try {
  // One repository: a token is for one or two.
  const seeded = await seed(
    { name: 'open', address: addressOf(nodes.open) },
    { repositories: 1, tags: options.count('tags', 20_000, 4000) },
  );
  for (const read of reads) writeFileSync(join(paths, read), seeded.map((each) => `${pathOf(each, read)}\n`).join(''));
  const repository = seeded[0]?.repository ?? '';
  await compareRequests(repository);
  await compareLogins(
    repository,
    seeded.map((each) => pathOf(each, 'tag')),
  );
} finally {
  for (const node of Object.values(nodes)) await node.stop();
  await database.close();
  for (const directory of [scratch, paths]) rmSync(directory, { recursive: true, force: true });
}
process.exit();

async function startNodes(): Promise<Record<(typeof ways)[Way], RunningRegistry>> {
  const hash = await hashPassword(password);
  const identity = Object.fromEntries(
    Array.from({ length: people }, (_, number) => [`person-${number}`, { password: hash, groups: ['dev'] }]),
  );
  const common = { database: { url: database.url }, workers: { threads: 1 }, log: { level: 'warn' }, server: { engine: options.engine } };
  const token = { secret: 'the secret of the bench', lifetime: '1h' };
  const policies = ['identity.id == "ci"', '"dev" in identity.groups && request.action in ["get-manifest", "get-blob"]'];
  const start = (more: object): Promise<RunningRegistry> =>
    startRegistry({ root: scratch, config: { ...common, ...more }, nodeArguments: options.nodeArguments });
  return {
    open: await start({}),
    identities: await start({ identity, access: { token, anonymous: true } }),
    policies: await start({ identity, access: { token }, repository: [{ namespace: '', policies }] }),
  };
}

async function compareRequests(repository: string): Promise<void> {
  const tokens = {
    identities: await getToken(nodes.identities, 'person-0', repository),
    policies: await getToken(nodes.policies, 'person-0', repository),
  };
  const rows: string[][] = [];
  const verdicts: string[] = [];
  for (const read of reads) {
    const taken = Object.fromEntries(Object.keys(ways).map((way) => [way, [] as number[]])) as Record<Way, number[]>;
    let errors = 0;
    for (let round = 0; round < options.rounds; round++) {
      for (const [way, node] of Object.entries(ways) as [Way, (typeof ways)[Way]][]) {
        const token = way.startsWith('bearer') && node !== 'open' ? tokens[node] : undefined;
        const measured = await costOf(nodes[node], read, token);
        taken[way].push(measured.cpuUs);
        errors += measured.errors;
      }
    }
    const ratio = (a: Way, b: Way): number => median(taken[a].map((value, round) => value / (taken[b][round] ?? Number.NaN)));
    const added = median(taken['bearer token, two policies'].map((value, round) => value - (taken['bearer token'][round] ?? Number.NaN)));
    for (const way of Object.keys(ways) as Way[])
      rows.push([`by ${read}`, way, figure(median(taken[way])), figure(ratio(way, 'open to all')), String(errors)]);
    const bearer = ratio('bearer token', 'anonymous, with identities');
    verdicts.push(verdict(`CPU of a GET by ${read} with a token / anonymous`, bearer, { atMost: 1.15 }));
    verdicts.push(verdict(`CPU of a GET by ${read} with a token / open to all`, ratio('bearer token', 'open to all'), { atMost: 1.15 }));
    verdicts.push(verdict(`two policies beside a GET by ${read}`, added, { atMost: 20 }, ' us'));
  }
  console.log(renderTable(['GET', 'who', 'CPU us', '/ open to all', 'errors'], rows));
  console.log(verdicts.join('\n'));
}

/** Microseconds of the node's CPU for a request. */
async function costOf(node: RunningRegistry, read: Read, token: string | undefined): Promise<{ cpuUs: number; errors: number }> {
  const load = { address: addressOf(node), path: '/v2/', connections: 64, pathsFile: join(paths, read), token };
  await loadWithWrk({ ...load, seconds: 1 });
  const before = cpuSeconds(node.pid).server;
  const { requests, errors } = await loadWithWrk({ ...load, seconds });
  return { cpuUs: ((cpuSeconds(node.pid).server - before) * 1e6) / requests, errors };
}

async function compareLogins(repository: string, pulled: readonly string[]): Promise<void> {
  const token = await getToken(nodes.identities, 'person-0', repository);
  const samples = { without: [] as number[], beside: [] as number[] };
  let [person, logins] = [1, 0];
  for (let round = 0; round < options.rounds; round++) {
    samples.without.push(await p99OfPulls(pulled, token));
    const end = new AbortController();
    const loggingIn = logInSteadily(repository, end.signal, () => `person-${person++}`);
    samples.beside.push(await p99OfPulls(pulled, token));
    end.abort();
    logins += await loggingIn;
  }
  const perMinute = (logins * 60) / (loginSeconds * options.rounds);
  const [without, beside] = [samples.without, samples.beside].map((taken) => figure(median(taken)));
  console.log(`\n${pullsPerSecond} pulls a second, p99: ${without} ms; beside ${figure(perMinute)} logins a minute ${beside} ms`);
  const ratio = median(samples.beside.map((value, round) => value / (samples.without[round] ?? Number.NaN)));
  console.log(verdict(`p99 of pulls beside ${figure(perMinute)} logins a minute / without`, ratio, { atMost: 1.25 }));
}

/** At fixed times, whether the one before is answered or not, and timed from there: a node that pauses is seen. */
async function p99OfPulls(pulled: readonly string[], token: string): Promise<number> {
  const connections = Array.from({ length: 16 }, () => new Connection(addressOf(nodes.identities)));
  const latencies: number[] = [];
  const start = performance.now();
  const headers = { Accept: manifestType, Authorization: `Bearer ${token}` };
  await Promise.all(
    connections.map(async (connection, lane) => {
      for (let number = lane; number < pullsPerSecond * loginSeconds; number += connections.length) {
        const due = start + (number * 1000) / pullsPerSecond;
        await until(due);
        const { status } = await connection.request({ method: 'GET', path: pulled[number % pulled.length] ?? '', headers });
        if (status !== 200) throw new Error(`a pull was answered with ${status}`);
        latencies.push(performance.now() - due);
      }
    }),
  );
  for (const connection of connections) connection.close();
  return percentile(latencies, 0.99);
}

/** Each time somebody whose password is not remembered. Gives how many. */
async function logInSteadily(repository: string, signal: AbortSignal, next: () => string): Promise<number> {
  const begun: Promise<string>[] = [];
  const start = performance.now();
  while (!signal.aborted) {
    await until(start + (begun.length * 60_000) / loginsPerMinute);
    begun.push(getToken(nodes.identities, next(), repository));
  }
  return (await Promise.all(begun)).length;
}

async function getToken(node: RunningRegistry, person: string, repository: string): Promise<string> {
  const headers = { Authorization: `Basic ${Buffer.from(`${person}:${password}`).toString('base64')}` };
  const answer = await fetch(`${node.url}/token?service=ha-registry&scope=repository:${repository}:pull`, { headers });
  if (answer.status !== 200) throw new Error(`a login was answered with ${answer.status}`);
  return ((await answer.json()) as { token: string }).token;
}

async function until(time: number): Promise<void> {
  const left = time - performance.now();
  if (left > 0) await sleep(left);
}

function pathOf(each: SeededTag, read: Read): string {
  return `/v2/${each.repository}/manifests/${each[read]}`;
}

function addressOf({ port }: RunningRegistry): Address {
  return { host: '127.0.0.1', port };
}
