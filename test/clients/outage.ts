// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * Real clients while Postgres is away: what they pull by tag and by digest all the time must arrive, a push must be refused at once, and succeed when Postgres is back.
 * With `--access` they are logged in, others that are started meanwhile log in, and the node is started anew without Postgres.
 *
 *     npm run outage -- [--seconds N] [--engine uws|node] [--access]
 */
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { basic, bearer, passwords, settings, type Person } from '../access/people.js';
import { startRegistry, temporaryDirectory, type RunningRegistry } from '../support/registry.js';
import { startStoppablePostgres } from '../support/stoppable-postgres.js';
import { table } from '../support/table.js';
import { failuresOf, Verdicts } from '../support/verdicts.js';
import type { Client, StartClient } from './client.js';
import { startCrane } from './crane.js';
import { startDocker } from './docker.js';
import { makeLayouts } from './operations.js';
import { startSkopeo } from './skopeo.js';

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '60' },
    engine: { type: 'string', default: 'uws' },
    access: { type: 'boolean', default: false },
  },
});
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
const asWriter = values.access ? basic('writer') : {};

async function outage(): Promise<void> {
  const database = await startStoppablePostgres();
  const access = values.access ? await settings() : {};
  const config = { database: { url: database.url }, server: { engine: values.engine }, log: { level: 'warn' }, ...access };
  let registry = await startRegistry({ config });
  const { host, root, port, url } = registry;
  const scratch = await temporaryDirectory('outage-');
  const layouts = await makeLayouts(scratch);
  const begin = async (name: string, who: Person, start: StartClient): Promise<Client | { missing: string }> => {
    const home = path.join(scratch, `${name}-${who}`);
    await mkdir(home);
    const client = await start({ scratch: home, host });
    if (values.access && !('missing' in client)) await client.logIn(who, passwords[who]);
    return client;
  };
  const testers: Tester[] = [];
  for (const [name, start] of Object.entries(starts)) {
    const client = await begin(name, 'writer', start);
    if ('missing' in client) {
      verdicts.skip(name, client.missing);
      continue;
    }
    const repository = `${host}/team/${name}`;
    const digest = await client.push(layouts.image, `${repository}:before`);
    testers.push({ name, client, digest, repository, pulls: 0 });
  }
  const token = values.access ? await getToken(url) : undefined;

  await database.stop();
  const deadline = Date.now() + seconds * 1000;
  await Promise.all(
    testers.map(async (tester) => {
      const { name, client, repository } = tester;
      const problems: string[] = [];
      while (problems.length === 0 && (tester.pulls < 2 || Date.now() < deadline)) problems.push(...(await failuresOf(() => pull(tester))));
      verdicts.give(`${name} pulls by tag and by digest while Postgres is away`, problems);
      if (values.access) return; // It is seen without; docker takes a minute to give up.
      const refused = (await failuresOf(() => client.push(layouts.index, `${repository}:meanwhile`))).length > 0;
      verdicts.give(`${name}: a push is refused while Postgres is away`, refused ? [] : ['it succeeded']);
    }),
  );
  if (token !== undefined) {
    for (const { name, digest, repository } of testers) {
      const logInAndPull = async (): Promise<void> => {
        const client = await begin(name, 'reader', starts[name] as StartClient);
        if ('missing' in client) throw new Error(client.missing);
        for (const reference of [':before', `@${digest}`]) await client.pull(`${repository}${reference}`);
        await client.close?.();
      };
      verdicts.give(`a ${name} that is started while Postgres is away logs in and pulls`, await failuresOf(logInAndPull));
    }
    registry = await restart(registry, () => startRegistry({ config, root, port }));
    verdicts.give('a node that is started without Postgres takes the tokens that it gave', await failuresOf(() => getTags(url, token)));
    const renew = async (): Promise<void> => getTags(url, await getToken(url));
    verdicts.give('and gives new ones', await failuresOf(renew));
    for (const tester of testers) {
      const pullTwice = async (): Promise<void> => {
        await pull(tester);
        await pull(tester);
      };
      verdicts.give(`${tester.name} goes on pulling from it`, await failuresOf(pullTwice));
    }
  }
  const since = performance.now();
  const refusal = await fetch(`${url}/v2/team/refused/blobs/uploads/`, { method: 'POST', headers: asWriter });
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
    const answer = await fetch(`${url}/v2/team/back/blobs/uploads/`, { method: 'POST', headers: asWriter });
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

async function pull(tester: Tester): Promise<void> {
  const { client, repository, digest } = tester;
  await client.pull(tester.pulls++ % 2 === 0 ? `${repository}:before` : `${repository}@${digest}`);
}

async function restart(registry: RunningRegistry, start: () => Promise<RunningRegistry>): Promise<RunningRegistry> {
  verdicts.give('the node ends cleanly without Postgres', (await registry.stop()) === 0 ? [] : [registry.log()]);
  return start();
}

async function getToken(url: string): Promise<string> {
  const answer = await fetch(`${url}/token?scope=repository:team/crane:pull`, { headers: basic('reader') });
  if (answer.status !== 200) throw new Error(`/token answered ${answer.status}`);
  return ((await answer.json()) as { token: string }).token;
}

async function getTags(url: string, token: string): Promise<void> {
  const { status } = await fetch(`${url}/v2/team/crane/tags/list`, { headers: bearer(token) });
  if (status !== 200) throw new Error(`with a token a list of tags was answered with ${status}`);
}

await verdicts.judge('the outage', outage);
