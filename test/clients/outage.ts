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
import { table } from '../support/table.js';
import { failuresOf, Verdicts } from '../support/verdicts.js';
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

const verdicts = new Verdicts();

async function outage(): Promise<void> {
  const database = await startStoppablePostgres();
  const registry = await startRegistry({
    config: { database: { url: database.url }, server: { engine: values.engine }, log: { level: 'warn' } },
  });
  const scratch = await temporaryDirectory('outage-');
  const layouts = await makeLayouts(scratch);
  const testers: Tester[] = [];
  for (const [name, start] of Object.entries(starts)) {
    const home = path.join(scratch, name);
    await mkdir(home);
    const client = await start({ scratch: home, host: registry.host });
    if ('missing' in client) {
      verdicts.skip(name, client.missing);
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
      const problems: string[] = [];
      while (problems.length === 0 && (tester.pulls < 2 || Date.now() < deadline)) {
        const source = tester.pulls++ % 2 === 0 ? `${repository}:before` : `${repository}@${digest}`;
        problems.push(...(await failuresOf(() => client.pull(source))));
      }
      verdicts.give(`${name} pulls by tag and by digest while Postgres is away`, problems);
      const refused = (await failuresOf(() => client.push(layouts.index, `${repository}:meanwhile`))).length > 0;
      verdicts.give(`${name}: a push is refused while Postgres is away`, refused ? [] : ['it succeeded']);
    }),
  );
  const since = performance.now();
  const refusal = await fetch(`${registry.url}/v2/outage/refused/blobs/uploads/`, { method: 'POST' });
  const ms = performance.now() - since;
  const retryAfter = refusal.headers.get('retry-after');
  const asItShould = refusal.status === 503 && retryAfter !== null && ms < refusedWithinMs && /"UNAVAILABLE"/.test(await refusal.text());
  verdicts.give(
    'a write is refused at once with 503, Retry-After and the error JSON',
    asItShould ? [] : [`${refusal.status} after ${ms.toFixed(0)} ms, Retry-After ${retryAfter}`],
  );
  await database.start();
  const back = performance.now();
  for (;;) {
    const answer = await fetch(`${registry.url}/v2/outage/back/blobs/uploads/`, { method: 'POST' });
    if (answer.status === 202 || performance.now() - back > backWithinMs) break;
    await sleep(50);
  }
  const recoveredMs = performance.now() - back;
  verdicts.give('writes are taken again by themselves', recoveredMs < backWithinMs ? [] : [`not within ${backWithinMs} ms`]);
  for (const { name, client, repository } of testers) {
    verdicts.give(
      `${name} pushes again, and pulls it`,
      await failuresOf(async () => {
        await client.push(layouts.image, `${repository}:after`);
        await client.pull(`${repository}:after`);
      }),
    );
  }
  for (const { client } of testers) await client.close?.();
  verdicts.give('the node ends cleanly', (await registry.stop()) === 0 ? [] : [registry.log()]);
  await database.close();
  console.log(
    table([
      ['seconds without Postgres', String(seconds)],
      ['ms until a write was refused', ms.toFixed(0)],
      ['ms until writes were taken again', recoveredMs.toFixed(0)],
      ...testers.map(({ name, client, pulls }) => [`pulls by ${name} ${client.version}`, String(pulls)]),
    ]),
  );
}

await verdicts.judge('the outage', outage);
