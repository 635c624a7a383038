// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * Real clients against this build, on each engine, or another registry: `npm run clients -- [--engine uws|node] [--url http://…] [--only name,…]`.
 * Prints one table, client × operation, and ends with the counts. With CI=true what cannot be run is a failure.
 */
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { run as runProgram } from '../support/command.js';
import { main } from '../support/program.js';
import { startRegistry, temporaryDirectory } from '../support/registry.js';
import { endWith, perform, printColumns, printComplaints, type Cell, type Column } from './cells.js';
import type { StartClient } from './client.js';
import { clients } from './clients.js';
import { makeLayouts, operations, type Drill } from './operations.js';
import { describeExchange, startProxy } from './proxy.js';
import { registryApi } from './registry-api.js';

const { values: options } = parseArgs({ options: { engine: { type: 'string' }, url: { type: 'string' }, only: { type: 'string' } } });

const chosen = Object.entries(clients).filter(([name]) => options.only?.split(',').includes(name) ?? true);
const cells: Cell[] = [];
if (options.url !== undefined) {
  cells.push(...(await drill(options.url, options.url)));
} else {
  for (const engine of options.engine === undefined ? ['uws', 'node'] : [options.engine]) {
    const registry = await startRegistry({ config: { server: { engine } } });
    cells.push(...(await drill(registry.url, `this build, engine ${engine}`, registry.root)));
    await registry.stop();
    printComplaints(registry.log());
  }
}
endWith(cells);

async function drill(url: string, title: string, root?: string): Promise<Cell[]> {
  const columns: Column[] = [];
  for (const [name, start] of chosen) columns.push(await drillClient(url, name, start, root));
  return printColumns(title, operations, columns);
}

async function drillClient(url: string, name: string, start: StartClient, root: string | undefined): Promise<Column> {
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
    ...(root === undefined ? {} : { command: (...args) => runProgram(process.execPath, [main, ...args, '--root', root]) }),
    registry: registryApi(url),
    repository: (repository) => `${prefix}/${repository}`,
    name: (repository, tag) => `${proxy.host}/${prefix}/${repository}${tag === undefined ? '' : `:${tag}`}`,
    ...(await makeLayouts(scratch)),
  };
  const evidence = (): string => proxy.exchanges.slice(-20).map(describeExchange).join('\n');
  const cells: Cell[] = [];
  for (const { title, has, run } of operations) {
    proxy.forget();
    cells.push(has(client, drill) ? await perform(name, title, () => run(drill), evidence) : '-');
  }
  await client.close?.();
  await proxy.close();
  return { client: name, version: client.version, cells };
}
