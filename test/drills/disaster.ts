// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * The database is lost: 200 repositories with 2,800 tags, indexes, referrers and history are pushed to a real node, its database is dropped, and `ha-registry rebuild`
 * makes another. The whole state is compared row by row, every answer with what it was, and then the registry has to pass the specification's checks.
 *
 *     npm run disaster
 */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import t from 'tap';
import { checkEverything } from '../specification/everything.js';
import { databaseState, rowsOf, stateDifferences, tagTimes } from '../support/database-state.js';
import { HttpClient } from '../support/http-client.js';
import { differences, populate } from '../support/populate.js';
import { freshDatabase } from '../support/postgres.js';
import { ha, main } from '../support/program.js';
import { quickDirectory, startRegistry, temporaryDirectory, type RunningRegistry } from '../support/registry.js';
import { filesOf, storedTagTimes } from '../support/stored-objects.js';
import { until } from '../support/wire-suite.js';

const repositories = 200;
/** Beside the fourteen that `populate` gives each repository anyway. */
const ownTags = 1;

interface Report {
  readonly findings: number;
  readonly tags: number;
  readonly manifests: number;
  readonly seconds: number;
}

void t.test('a lost database', async (t) => {
  const root = await quickDirectory('disaster-');
  const storage = { fs: { root_dir: root } };
  const directory = await temporaryDirectory('disaster-');
  const start = (url: string): Promise<RunningRegistry> =>
    startRegistry({
      config: { database: { url }, storage, log: { level: 'warn' } },
      launch: ({ port, configFile }) => ({
        command: process.execPath,
        args: [main, 'serve', '--config', configFile ?? '', '-p', String(port)],
      }),
    });

  const lost = await freshDatabase();
  let node = await start(lost.url);
  let client = new HttpClient(node.port);
  const expected = await populate(client, { repositories, tags: ownTags });
  await until(
    'what is superseded has been deleted',
    async () => (await rowsOf(lost.url, 'SELECT FROM object_trash WHERE not_before < now()')).length === 0,
  );
  client.close();
  t.equal(await node.stop(), 0, 'the node ends in peace');
  const before = await databaseState(lost.url);
  const count = (table: string): number => before[table]?.length ?? 0;
  t.equal(count('repositories'), repositories);
  t.ok(count('tags') >= 2_000, `${count('tags')} tags, ${count('manifests')} manifests, ${count('tag_history')} entries of history`);
  for (const table of ['manifest_children', 'missing_references', 'tombstones'])
    t.ok(count(table) > repositories, `${count(table)} ${table}`);
  await lost.drop();

  const { url } = await freshDatabase();
  const configFile = path.join(directory, 'registry.yaml');
  await writeFile(configFile, JSON.stringify({ database: { url }, storage }));
  const { code, stdout, stderr } = await ha(['rebuild', '--config', configFile, '--json']);
  t.strictSame([code, stderr], [0, ''], 'ha-registry rebuild');
  const report = JSON.parse(stdout) as Report;
  t.comment(`${report.manifests} manifests and ${report.tags} tags in ${report.seconds} s`);
  t.equal(report.findings, 0, 'nothing that does not fit');
  t.strictSame(await stateDifferences(url, before), [], 'row by row as it was');
  t.strictSame(await tagTimes(url), await storedTagTimes(filesOf(root)), 'with the times of tags');

  node = await start(url);
  client = new HttpClient(node.port);
  t.strictSame(await differences(client, expected), [], `each of ${expected.size} answers as before`);
  await t.test('the specification', (t) => checkEverything(t, client, false));
  client.close();
  t.equal(await node.stop(), 0, 'the node ends in peace');
});
