// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * Real clients against this build, on each engine, or another registry: `npm run clients -- [--engine uws|node] [--url http://…] [--only name,…]`.
 * Prints one table, client × operation, and ends with the counts. With CI=true what cannot be run is a failure.
 */
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { startRegistry, temporaryDirectory } from '../support/registry.js';
import { countsLine, table, type Counts } from '../support/table.js';
import type { Client, StartClient } from './client.js';
import { startCrane } from './crane.js';
import { startDocker } from './docker.js';
import { makeLayouts, operations, type Drill } from './operations.js';
import { startOras } from './oras.js';
import { describeExchange, startProxy } from './proxy.js';
import { registryApi } from './registry-api.js';
import { startRegctl } from './regctl.js';
import { startSkopeo } from './skopeo.js';

const clients: Readonly<Record<string, StartClient>> = {
  crane: startCrane,
  oras: startOras,
  regctl: startRegctl,
  skopeo: startSkopeo,
  docker: startDocker,
};

type Cell = 'ok' | 'FAIL' | '-' | 'skipped';

interface Column {
  readonly client: string;
  readonly version: string;
  readonly cells: readonly Cell[];
}

const { values: options } = parseArgs({ options: { engine: { type: 'string' }, url: { type: 'string' }, only: { type: 'string' } } });

const chosen = Object.entries(clients).filter(([name]) => options.only?.split(',').includes(name) ?? true);
const cells: Cell[] = [];
if (options.url !== undefined) {
  cells.push(...(await drill(options.url, options.url)));
} else {
  for (const engine of options.engine === undefined ? ['uws', 'node'] : [options.engine]) {
    const registry = await startRegistry({ config: { server: { engine } } });
    cells.push(...(await drill(registry.url, `this build, engine ${engine}`)));
    await registry.stop();
    const complaints = registry
      .log()
      .split('\n')
      .filter((line) => /"level":"(error|fatal)"/.test(line));
    if (complaints.length > 0)
      console.log(`the registry's log has ${complaints.length} errors, the first ones:\n${complaints.slice(0, 5).join('\n')}\n`);
  }
}
const counts = count(cells);
console.log(countsLine(counts));
process.exitCode = counts.failed > 0 || (counts.skipped > 0 && process.env['CI'] === 'true') ? 1 : 0;

async function drill(url: string, title: string): Promise<Cell[]> {
  const columns: Column[] = [];
  for (const [name, start] of chosen) columns.push(await drillClient(url, name, start));
  const rows = operations.map((operation, row) => [operation.title, ...columns.map((column) => column.cells[row] ?? '-')]);
  const heads = [
    [title, ...columns.map(({ client }) => client)],
    ['', ...columns.map(({ version }) => version)],
  ];
  console.log(`\n${table([...heads, ...rows])}\n`);
  return columns.flatMap((column) => column.cells);
}

async function drillClient(url: string, name: string, start: StartClient): Promise<Column> {
  const scratch = await temporaryDirectory(`${name}-`);
  const home = path.join(scratch, 'home');
  await mkdir(home);
  const proxy = await startProxy(url);
  const client = await start({ scratch: home, host: proxy.host });
  if ('missing' in client) {
    console.log(`${name}: skipped, ${client.missing}`);
    await proxy.close();
    return { client: name, version: '', cells: operations.map(() => 'skipped') };
  }
  const prefix = `drill/${name}-${Date.now().toString(36)}`;
  const drill: Drill = {
    client,
    proxy,
    scratch,
    registry: registryApi(url),
    repository: (repository) => `${prefix}/${repository}`,
    name: (repository, tag) => `${proxy.host}/${prefix}/${repository}${tag === undefined ? '' : `:${tag}`}`,
    ...(await makeLayouts(scratch)),
  };
  const cells: Cell[] = [];
  for (const operation of operations) cells.push(await perform(name, client, operation, drill));
  await client.close?.();
  await proxy.close();
  return { client: name, version: client.version, cells };
}

async function perform(name: string, client: Client, { title, has, run }: (typeof operations)[number], drill: Drill): Promise<Cell> {
  if (!has(client)) return '-';
  drill.proxy.forget();
  const begin = performance.now();
  try {
    await run(drill);
    console.log(`${name}: ${title}: ok (${((performance.now() - begin) / 1000).toFixed(1)} s)`);
    return 'ok';
  } catch (error) {
    console.log(`\n${name}: ${title}: FAIL\n${error instanceof Error ? error.message : String(error)}`);
    console.log(`${drill.proxy.exchanges.slice(-20).map(describeExchange).join('\n')}\n`);
    return 'FAIL';
  }
}

function count(cells: readonly Cell[]): Counts {
  const number = (cell: Cell) => cells.filter((each) => each === cell).length;
  return { passed: number('ok'), failed: number('FAIL'), skipped: number('skipped') };
}
