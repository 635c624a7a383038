// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Nodes of one cluster, as its tests start and use them. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Client } from 'pg';
import type { Test } from 'tap';
import { CommandFailed, run } from '../support/command.js';
import { HttpClient } from '../support/http-client.js';
import type { OwnPostgres } from '../support/own-postgres.js';
import { freePort, startRegistry, temporaryDirectory, type RunningRegistry } from '../support/registry.js';
import { imageWithBlobs, putManifest, until } from '../support/wire-suite.js';

const main = path.resolve(import.meta.dirname, '../../dist/main.js');

export interface ClusterNode extends RunningRegistry {
  readonly client: HttpClient;
}

export const settings = (database: object): object => ({
  server: { drain_timeout: '5s' },
  workers: { threads: 2 },
  log: { level: 'info' },
  database,
});

export async function startNode(t: Test, root: string, database: object, more: object = {}): Promise<ClusterNode> {
  const registry = await startRegistry({ root, config: { ...settings(database), ...more } });
  const client = new HttpClient(registry.port);
  t.teardown(async () => {
    client.close();
    await registry.stop().catch(() => undefined);
  });
  return { ...registry, client };
}

export const leads = ({ log }: ClusterNode): boolean => {
  const told = [...log().matchAll(/this node leads( no more)?/g)].at(-1);
  return told !== undefined && told[1] === undefined;
};

/** A tag by itself, so that each push is a write of its own. */
export async function pushTag({ client }: ClusterNode, repository: string, tag: string, content = tag): Promise<string> {
  const image = await imageWithBlobs(client, repository, [content]);
  const answer = await putManifest(client, repository, tag, image);
  if (answer.status !== 201) throw new Error(`pushing ${tag}: ${answer.status} ${answer.body.toString()}`);
  return image;
}

export async function pulls(node: ClusterNode, repository: string, tag: string): Promise<string> {
  const ask = () => node.client.send('GET', `/v2/${repository}/manifests/${tag}`);
  // A connection that was idle for ten seconds is closed, perhaps at this very moment.
  return (await ask().catch(ask)).body.toString();
}

/** A client that tries again, as it is told to. */
export async function untilPushed(node: ClusterNode, repository: string, tag: string): Promise<void> {
  let last = '';
  const push = async (): Promise<boolean> => {
    try {
      await pushTag(node, repository, tag);
      return true;
    } catch (error) {
      last = String(error);
      return false;
    }
  };
  await until(`${tag} is pushed`, push, 60_000).catch((error: unknown) => {
    throw new Error(`${String(error)}: ${last}\n${node.log().slice(-3000)}`, { cause: error });
  });
}

/** The one line with which a node refuses to start. */
export async function refusal(root: string, database: object, before: () => Promise<void> = () => Promise.resolve()): Promise<string> {
  await before();
  const { outcome, result } = await failureOf(root, database);
  if (outcome !== 'exit 1' || result.stderr.trim().includes('\n')) throw new Error(`${outcome}: ${result.stderr}`);
  return result.stderr.trim();
}

export async function failureOf(root: string, database: object): Promise<CommandFailed> {
  const config = path.join(await temporaryDirectory('config-'), 'registry.yaml');
  await writeFile(config, JSON.stringify(settings(database)));
  try {
    await run(process.execPath, [main, 'serve', '--root', root, '-p', String(await freePort()), '--config', config], { timeoutMs: 60_000 });
  } catch (error) {
    if (error instanceof CommandFailed) return error;
    throw error;
  }
  throw new Error('it started and ended well');
}

export async function query(url: string, text: string): Promise<unknown[]> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(text)).rows;
  } finally {
    await client.end();
  }
}

export async function untilRows(url: string, text: string, count: number): Promise<void> {
  await until(`${count} rows of ${text}`, async () => (await query(url, text)).length === count);
}

export async function highestSequence(postgres: OwnPostgres): Promise<bigint> {
  const [row] = await postgres.query(
    'SELECT max(sequence) AS highest FROM (SELECT sequence FROM manifests UNION ALL SELECT sequence FROM repository_blobs UNION ALL SELECT sequence FROM tag_history) s',
  );
  return BigInt(String(row?.['highest']));
}
