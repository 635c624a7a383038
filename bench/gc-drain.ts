// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * A million due links, drained by garbage collection for some minutes while images are pushed and pulled: links per minute, and the latencies of pushes and pulls beside those
 * without collection, round after round; and in the end what is left, while nobody does anything. The links and their blobs are rows without objects in the store, seeded by COPY; deleting what is absent costs a call all the same.
 *
 *     npx tsx bench/gc-drain.ts [--links N] [--pushes N] [--minutes N] [--rounds N] [--root DIR] [--quick]
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import type { Client } from 'pg';
import { connectEmbedded } from '../test/support/embedded-connection.js';
import { startRegistry } from '../test/support/registry.js';
import { copyRows } from './copy-rows.js';
import { makeImage, pullImage, pushImage } from './push.js';
import { median, percentile } from './statistics.js';
import { figure, renderTable, verdict } from './table.js';
import { timeOperations } from './timing.js';
import type { Address } from './wire.js';

const { values } = parseArgs({
  options: {
    links: { type: 'string' },
    pushes: { type: 'string' },
    minutes: { type: 'string' },
    rounds: { type: 'string', default: '3' },
    root: { type: 'string', default: tmpdir() },
    quick: { type: 'boolean', default: false },
  },
});
const links = Number(values.links ?? (values.quick ? 20_000 : 1_000_000));
/** Of a round, beside clients. */
const minutes = Number(values.minutes ?? (values.quick ? 0.1 : 3));
/** Without collection; with it, as many as there is time for. */
const pushes = Number(values.pushes ?? (values.quick ? 100 : 1_000));
const rounds = Number(values.rounds);
const repositories = 100;
/** Less than what the machine can do: who measures a queue measures the queue. */
const width = 2;
const pushesAtOnce = 50;

interface Latencies {
  readonly push: number[];
  readonly pull: number[];
}

interface Round {
  readonly linksPerMinute: number;
  readonly without: Latencies;
  readonly beside: Latencies;
}

const root = mkdtempSync(path.join(values.root, 'ha-registry-bench-gc-'));
try {
  const registry = await startRegistry({ root, config: { log: { level: 'warn' }, gc: { interval: '1s' }, scrub: { enabled: false } } });
  const client = await connectEmbedded(root);
  const address = { host: '127.0.0.1', port: registry.port };
  await timePushes(address, Math.min(100, pushes), none()); // warms up
  const measured: Round[] = [];
  for (let round = 0; round < rounds; round++) measured.push(await runRound(client, address));
  report(measured, await drainAlone(client));
  await client.end();
  await registry.stop();
} finally {
  rmSync(root, { recursive: true, force: true, maxRetries: 5 });
}

async function runRound(client: Client, address: Address): Promise<Round> {
  const [without, beside] = [none(), none()];
  await untilDone(client);
  await timePushes(address, pushes, without);
  await seedLinks(client, links);
  const since = performance.now();
  while (performance.now() - since < minutes * 60_000) await timePushes(address, pushesAtOnce, beside);
  const drained = links - (await countDue(client));
  const passed = (performance.now() - since) / 60_000;
  await client.query('TRUNCATE gc_links, gc_blobs');
  return { linksPerMinute: drained / passed, without, beside };
}

/** Links a minute while nobody pushes. */
async function drainAlone(client: Client): Promise<number> {
  await untilDone(client);
  await seedLinks(client, links);
  const since = performance.now();
  while ((await countDue(client)) > 0) await sleep(500);
  return links / ((performance.now() - since) / 60_000);
}

async function untilDone(client: Client): Promise<void> {
  while (await someAre(client, 'object_trash WHERE not_before <= clock_timestamp() AND removed_at IS NULL')) await sleep(500);
}

async function countDue(client: Client): Promise<number> {
  const { rows } = await client.query<{ count: string }>('SELECT count(*) FROM gc_links WHERE due <= clock_timestamp()');
  return Number(rows[0]?.count);
}

/** Links that were due an hour ago, each to a blob of its own. Becomes visible, and is collected, all at once. */
async function seedLinks(client: Client, links: number): Promise<void> {
  const rows = Array.from({ length: links }, () => `\\\\x01${randomBytes(32).toString('hex')}\t${randomUUID()}`);
  const due = new Date(Date.now() - 3_600_000).toISOString();
  await client.query('BEGIN');
  await client.query(`INSERT INTO repositories (name) SELECT 'bench/dead' || i FROM generate_series(1, $1) i ON CONFLICT DO NOTHING`, [
    repositories,
  ]);
  const { rows: ids } = await client.query<{ id: string }>(`SELECT id FROM repositories WHERE name LIKE 'bench/dead%'`);
  await copyRows(client, 'blobs (digest, uuid, size)', links, (index) => `${rows[index]}\t1000`);
  await copyRows(
    client,
    'repository_blobs (digest, uuid, repository_id, sequence, due_at)',
    links,
    (index) => `${rows[index]}\t${ids[index % ids.length]?.id}\t${index + 1}\t${due}`,
  );
  await client.query('COMMIT');
}

async function someAre(client: Client, where: string): Promise<boolean> {
  return (await client.query(`SELECT FROM ${where} LIMIT 1`)).rowCount === 1;
}

async function timePushes(address: Address, count: number, { push, pull }: Latencies): Promise<void> {
  const images = Array.from({ length: count }, () => makeImage([4096, 32768]));
  const { errors } = await timeOperations(address, { count, width }, async (connection, index) => {
    const image = images[index] ?? makeImage([]);
    const [repository, tag] = [`bench/live${index % repositories}`, `t${push.length}`];
    const begin = performance.now();
    await pushImage(connection, repository, tag, image);
    const pushed = performance.now();
    await pullImage(connection, repository, tag, image);
    push.push(pushed - begin);
    pull.push(performance.now() - pushed);
  });
  if (errors > 0) throw new Error(`${errors} of ${count} pushes and pulls failed`);
}

function none(): Latencies {
  return { push: [], pull: [] };
}

function report(measured: readonly Round[], alone: number): void {
  const rows = measured.map(({ linksPerMinute, without, beside }, index) =>
    [index + 1, linksPerMinute, ...[without, beside].flatMap(({ push, pull }) => [push.length, ...shares(push), ...shares(pull)])].map(
      figure,
    ),
  );
  const head = ['pushes', 'push p50 ms', 'p99', 'pull p50 ms', 'p99'];
  console.log(`${links.toLocaleString('en')} due links; columns twice: without collection, and beside it`);
  console.log(renderTable(['round', 'links/min', ...head, ...head], rows));
  console.log(`${figure(alone)} links a minute while nobody pushes`);
  const ratio = (share: number): number =>
    median(measured.map(({ without, beside }) => percentile(beside.push, share) / percentile(without.push, share)));
  console.log(verdict('links a minute beside pushes', median(measured.map(({ linksPerMinute }) => linksPerMinute)), { atLeast: 300 }));
  console.log(verdict('p50 of a push beside a collection / without', ratio(0.5), { atMost: 1.1 }));
  console.log(verdict('p99 of a push beside a collection / without', ratio(0.99), { atMost: 1.5 }));
}

function shares(latencies: readonly number[]): number[] {
  return [percentile(latencies, 0.5), percentile(latencies, 0.99)];
}
