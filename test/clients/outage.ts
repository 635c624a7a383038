// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * Real clients while Postgres is away: what they pull by tag and by digest all the time must arrive, a push must be refused at once, and succeed when Postgres is back.
 *
 *     npm run outage -- [--seconds N] [--engine uws|node]
 */
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { startRegistry, temporaryDirectory } from '../support/registry.js';
import { startStoppablePostgres } from '../support/stoppable-postgres.js';
import { countsLine, table } from '../support/table.js';
import type { Client, StartClient } from './client.js';
import { startCrane } from './crane.js';
import { startDocker } from './docker.js';
import { makeLayouts } from './operations.js';
import { startSkopeo } from './skopeo.js';

const { values } = parseArgs({ options: { seconds: { type: 'string', default: '60' }, engine: { type: 'string', default: 'uws' } } });
const seconds = Number(values.seconds);
const starts: Readonly<Record<string, StartClient>> = { crane: startCrane, skopeo: startSkopeo, docker: startDocker };
/** A refusal that a person would wait for. */
const refusedWithinMs = 5_000;
const backWithinMs = 15_000;

interface Tester {
  readonly name: string;
  readonly client: Client;
  readonly digest: string;
  readonly repository: string;
  pulls: number;
}

const failures: string[] = [];
let passed = 0;

function verdict(what: string, problem: string | undefined): void {
  if (problem === undefined) passed++;
  else failures.push(what);
  console.log(`${problem === undefined ? 'ok    ' : 'FAILED'}  ${what}${problem === undefined ? '' : `\n        ${problem}`}`);
}

async function attempt(work: () => Promise<unknown>): Promise<string | undefined> {
  try {
    await work();
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

const database = await startStoppablePostgres();
const registry = await startRegistry({
  config: { database: { url: database.url }, server: { engine: values.engine }, log: { level: 'warn' } },
});
const scratch = await temporaryDirectory('outage-');
const layouts = await makeLayouts(scratch);
const testers: Tester[] = [];
let skipped = 0;
for (const [name, start] of Object.entries(starts)) {
  const home = path.join(scratch, name);
  await mkdir(home);
  const client = await start({ scratch: home, host: registry.host });
  if ('missing' in client) {
    skipped++;
    console.log(`${name}: skipped, ${client.missing}`);
    continue;
  }
  const repository = `${registry.host}/outage/${name}`;
  const digest = await client.push(layouts.image, `${repository}:before`);
  testers.push({ name, client, digest, repository, pulls: 0 });
}

await database.stop();
const deadline = Date.now() + seconds * 1000;
await Promise.all(
  testers.map(async (tester) => {
    const { name, client, repository, digest } = tester;
    let problem: string | undefined;
    for (const source of [`${repository}:before`, `${repository}@${digest}`]) {
      problem ??= await attempt(() => client.pull(source));
      tester.pulls++;
    }
    while (Date.now() < deadline && problem === undefined) {
      problem = await attempt(() => client.pull(tester.pulls++ % 2 === 0 ? `${repository}:before` : `${repository}@${digest}`));
    }
    verdict(`${name} pulls by tag and by digest while Postgres is away`, problem);
    verdict(
      `${name}: a push is refused while Postgres is away`,
      (await attempt(() => client.push(layouts.index, `${repository}:meanwhile`))) === undefined ? 'it succeeded' : undefined,
    );
  }),
);
const since = performance.now();
const refusal = await fetch(`${registry.url}/v2/outage/refused/blobs/uploads/`, { method: 'POST' });
const ms = performance.now() - since;
const retryAfter = refusal.headers.get('retry-after');
verdict(
  'a write is refused at once with 503, Retry-After and the error JSON',
  refusal.status === 503 && retryAfter !== null && ms < refusedWithinMs && /"UNAVAILABLE"/.test(await refusal.text())
    ? undefined
    : `${refusal.status} after ${ms.toFixed(0)} ms, Retry-After ${retryAfter}`,
);
await database.start();
const back = performance.now();
for (;;) {
  const answer = await fetch(`${registry.url}/v2/outage/back/blobs/uploads/`, { method: 'POST' });
  if (answer.status === 202 || performance.now() - back > backWithinMs) break;
  await sleep(50);
}
const recoveredMs = performance.now() - back;
verdict('writes are taken again by themselves', recoveredMs < backWithinMs ? undefined : `not within ${backWithinMs} ms`);
for (const { name, client, repository } of testers) {
  verdict(
    `${name} pushes again, and pulls it`,
    await attempt(async () => {
      await client.push(layouts.image, `${repository}:after`);
      await client.pull(`${repository}:after`);
    }),
  );
}
for (const { client } of testers) await client.close?.();
verdict('the node ends cleanly', (await registry.stop()) === 0 ? undefined : registry.log());
await database.close();
console.log(
  table([
    ['seconds without Postgres', String(seconds)],
    ['ms until a write was refused', ms.toFixed(0)],
    ['ms until writes were taken again', recoveredMs.toFixed(0)],
    ...testers.map(({ name, client, pulls }) => [`pulls by ${name} ${client.version}`, String(pulls)]),
  ]),
);
console.log(countsLine({ passed, failed: failures.length, skipped }));
process.exit(failures.length > 0 || (skipped > 0 && process.env['CI'] === 'true') ? 1 : 0);
