// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * Real clients that log in, over TLS with an authority that only they are told of: `npm run clients-access -- [--engine uws|node] [--challenge bearer|basic] [--only name,…]`.
 * Prints a table for each engine and challenge, client × operation, and ends with the counts. With CI=true what cannot be run is a failure.
 */
import { mkdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { basic, settings, type Person } from '../access/people.js';
import { HttpClient } from '../support/http-client.js';
import { makePrivateAuthority, type PrivateAuthority } from '../support/private-authority.js';
import { startRegistry, temporaryDirectory, type RunningRegistry } from '../support/registry.js';
import { accessOperations, type AccessDrill } from './access-operations.js';
import { endWith, perform, printColumns, printComplaints, type Cell, type Column } from './cells.js';
import type { StartClient, Tls } from './client.js';
import { clients } from './clients.js';
import { makeImage, writeLayout } from './images.js';
import { registryApi, type Ask, type RegistryApi } from './registry-api.js';
import { describeRequest, requestLog } from './request-log.js';
import { foreignAddress, openTunnel } from './tunnel.js';

const { values: options } = parseArgs({ options: { engine: { type: 'string' }, challenge: { type: 'string' }, only: { type: 'string' } } });

const present = 'team/present';
const chosen = (given: string | undefined, value: string): boolean => given?.split(',').includes(value) ?? true;

interface Place {
  readonly registry: RunningRegistry;
  readonly tls: Tls;
  readonly asAdmin: RegistryApi;
  readonly asStranger: RegistryApi;
}

const cells: Cell[] = [];
const authority = await makePrivateAuthority(`DNS:localhost,IP:127.0.0.1,IP:${foreignAddress}`);
const names = Object.keys(clients).filter((name) => chosen(options.only, name));
for (const challenge of ['bearer', 'basic'].filter((each) => chosen(options.challenge, each))) {
  for (const engine of ['uws', 'node'].filter((each) => chosen(options.engine, each))) {
    cells.push(...(await drill(authority, engine, challenge, names)));
  }
}
endWith(cells);

async function drill(authority: PrivateAuthority, engine: string, challenge: string, names: readonly string[]): Promise<Cell[]> {
  const { caFile, certificateFile, keyFile } = authority;
  const ca = await readFile(caFile, 'utf8');
  const server = { engine, tls: { server_certificate_bundle: certificateFile, server_private_key: keyFile } };
  const config = { server, log: { requests: 'all' }, ...(await settings({ challenge })) };
  const registry = await startRegistry({ config, ca });
  const tunnel = await openTunnel(registry.port);
  const http = new HttpClient(registry.port, ca);
  const as = (person: Person): RegistryApi => registryApi(registry.url, askOver(http, basic(person)));
  const tls = { authorityFile: caFile, proxyUrl: tunnel.url };
  const place: Place = { registry, tls, asAdmin: as('admin'), asStranger: as('stranger') };
  const mediaType = 'application/vnd.oci.image.index.v1+json';
  await place.asAdmin.putManifest(present, 'v1', mediaType, JSON.stringify({ schemaVersion: 2, mediaType, manifests: [] }));
  const columns: Column[] = [];
  for (const name of names) columns.push(await drillClient(place, name, clients[name] as StartClient));
  http.close();
  await tunnel.close();
  await registry.stop();
  printComplaints(registry.log());
  return printColumns(`engine ${engine}, ${challenge}`, accessOperations, columns);
}

async function drillClient({ registry, tls, asAdmin, asStranger }: Place, name: string, start: StartClient): Promise<Column> {
  const scratch = await temporaryDirectory(`${name}-`);
  const home = path.join(scratch, 'home');
  await mkdir(home);
  const host = `${foreignAddress}:${registry.port}`;
  const client = await start({ scratch: home, host, tls });
  if ('missing' in client) {
    console.log(`${name}: skipped, ${client.missing}`);
    return { client: name, version: '', cells: accessOperations.map(() => 'skipped') };
  }
  const repositories = { one: `team/${name}/one`, two: `team/${name}/two`, other: `other/${name}` };
  const log = requestLog(registry.log);
  const drill: AccessDrill = {
    client,
    registry: asAdmin,
    elsewhere: asStranger,
    log,
    repositories,
    name: (repository, tag) => `${host}/${repositories[repository]}${tag === undefined ? '' : `:${tag}`}`,
    present: `${host}/${present}:v1`,
    image: await writeLayout(path.join(scratch, 'image'), 'v1', makeImage()),
  };
  const evidence = (): string => log.requests().slice(-30).map(describeRequest).join('\n');
  const cells: Cell[] = [];
  for (const { title, has, run } of accessOperations) {
    log.forget();
    cells.push(has(client) ? await perform(name, title, () => run(drill), evidence) : '-');
  }
  await client.close?.();
  return { client: name, version: client.version, cells };
}

function askOver(http: HttpClient, own: Record<string, string>): Ask {
  return async (url, { method = 'GET', headers = {}, body } = {}) => {
    const answer = await http.send(method, new URL(url).pathname, {
      headers: { ...own, ...headers },
      ...(body === undefined ? {} : { body }),
    });
    const told = Object.entries(answer.headers).map(([name, value]) => [name, String(value)] as [string, string]);
    return new Response(answer.body, { status: answer.status, headers: told });
  };
}
