// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Where a command may not do its work it says so in one line, with exit code 1, and nothing has changed: all commands in this process, and one as the program that it is. */
import { readdirSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { Client } from 'pg';
import t from 'tap';
import type { Command } from '../src/commands/command.js';
import type * as configModule from '../src/config/config.js';
import { bareDirectory } from './support/bare-store.js';
import { databaseState, rowsOf } from './support/database-state.js';
import { HttpClient } from './support/http-client.js';
import { freshDatabase } from './support/postgres.js';
import { built, ha } from './support/program.js';
import { freePort, quickDirectory, startRegistry, temporaryDirectory } from './support/registry.js';
import { digestOf, imageWithBlobs, putManifest } from './support/wire-suite.js';

const { loadConfig } = await built<typeof configModule>('config/config.js');
const { version } = JSON.parse(await readFile(new URL('../package.json', import.meta.url), 'utf8')) as { version: string };

const repository = 'team/app';
const situations = ['rebuilt', 'away', 'newer', 'foreign', 'empty', 'nothing'] as const;
type Situation = (typeof situations)[number];

/** What the line says. */
const lines: Readonly<Record<Situation, RegExp>> = {
  rebuilt: /^the database is being rebuilt; let `ha-registry rebuild` go on to its end first$/,
  away: /^the database cannot be reached \(database\.url\): .*ECONNREFUSED.*$/,
  newer: /^the database belongs to a newer version of ha-registry \(its migration 9999 is not known to this one\)$/,
  foreign: /^the store .* belongs to the database of cluster .*$/,
  empty: /^the database is empty.*$/,
  nothing: /^there is no registry here: .*$/,
};

const directory = await temporaryDirectory('commands-');
const layout = path.join(directory, 'layout');
const target = path.join(directory, 'target');

/** Without a line of its own, a command says what all say; `may` where it has work to do there. */
const commands: readonly (readonly [args: readonly string[], own?: Partial<Record<Situation, RegExp | 'may'>>])[] = [
  [['gc']],
  [['gc', '--dry-run']],
  [['gc', '--now']],
  [['scrub']],
  [['tag', 'history', `${repository}:v1`]],
  [['tag', 'restore', `${repository}:v1`]],
  [['manifest', 'restore', `${repository}@${digestOf('never')}`]],
  [['export', repository, target]],
  [['import', layout, 'team/copy'], { nothing: 'may' }],
  [['rebuild', '--catch-up']],
  [['rebuild', '--from', 'distribution'], { nothing: 'may' }],
  [
    ['rebuild'],
    { rebuilt: /another rebuild of this database is going on/, foreign: /the database is not empty: /, empty: 'may', nothing: 'may' },
  ],
];

/** What `status` has to look at then, on standard output. */
const concerns: Readonly<Record<Situation, RegExp>> = {
  rebuilt: /LOOK +the database is being rebuilt from the store/,
  away: /LOOK +the database cannot be asked: the database cannot be reached \(database\.url\): .*ECONNREFUSED/,
  newer: /LOOK +the database cannot be asked: the database belongs to a newer version/,
  foreign: /LOOK +the store belongs to cluster /,
  empty: /LOOK +the database cannot be asked: the database is empty/,
  nothing: /LOOK +the database cannot be asked: there is no registry here/,
};

/** As main.ts runs it; rejects with what that prints in one line. */
async function run([name = '', ...args]: readonly string[]): Promise<number> {
  const module = await built<Record<string, Command>>(`commands/${name}.js`);
  const command = module[`${name}Command`];
  if (command === undefined) throw new Error(`no command ${name}`);
  const common = { config: { type: 'string' }, root: { type: 'string' } } as const;
  const { values, positionals } = parseArgs({ args, options: { ...command.options, ...common }, allowPositionals: true });
  const own = values as Record<string, string | boolean | undefined>;
  const config = loadConfig(own['config'] as string | undefined, { root: own['root'] as string });
  return command.run({ config, version, values: own, arguments: positionals });
}

/** One that is refused as the program tells it. */
const asProgram = ['tag', 'history', `${repository}:v1`];

void t.test('a command that may not', async (t) => {
  const [own, other, empty] = await Promise.all([freshDatabase(), freshDatabase(), freshDatabase()]);
  const places = {
    own: await quickDirectory('commands-'),
    other: await quickDirectory('commands-'),
    nowhere: await quickDirectory('commands-'),
  };
  const configured = async (url: string): Promise<string[]> => {
    const file = path.join(await temporaryDirectory('config-'), 'registry.yaml');
    await writeFile(file, JSON.stringify({ database: { url }, workers: { threads: 1 }, log: { level: 'warn' } }));
    return ['--root', places.own, '--config', file];
  };
  for (const [root, { url }] of [
    [places.own, own],
    [places.other, other],
  ] as const) {
    const node = await startRegistry({ root, config: { database: { url }, workers: { threads: 1 }, log: { level: 'warn' } } });
    const client = new HttpClient(node.port);
    await putManifest(client, repository, 'v1', await imageWithBlobs(client, repository, ['layer']));
    client.close();
    t.equal(await node.stop(), 0);
  }
  const here = await configured(own.url);
  t.equal((await ha(['export', repository, layout, ...here])).code, 0, 'without a node, and with nothing against it');

  const holder = new Client({ connectionString: own.url });
  await holder.connect();
  t.teardown(() => holder.end());
  const options: Readonly<Record<Situation, readonly string[]>> = {
    rebuilt: here,
    away: await configured(`postgres://nobody@localhost:${await freePort()}/nothing`),
    newer: here,
    foreign: await configured(other.url),
    empty: await configured(empty.url),
    nothing: ['--root', path.join(places.nowhere, 'data')],
  };
  const begin: Partial<Record<Situation, string>> = {
    rebuilt: `UPDATE cluster SET rebuild_started_at = now(); SELECT pg_advisory_lock(4872100916)`,
    newer: `INSERT INTO schema_migrations (number, name, breaking) VALUES (9999, '9999_of_tomorrow.sql', true)`,
  };
  const end: Partial<Record<Situation, string>> = {
    rebuilt: `UPDATE cluster SET rebuild_started_at = NULL; SELECT pg_advisory_unlock(4872100916)`,
    newer: 'DELETE FROM schema_migrations WHERE number = 9999',
  };
  const everything = async (): Promise<unknown> => ({
    databases: await Promise.all(
      [own.url, other.url].map(async (url) => [
        await databaseState(url),
        await rowsOf(url, 'SELECT to_jsonb(c) FROM cluster c'),
        await rowsOf(url, 'SELECT number FROM schema_migrations ORDER BY 1'),
        await rowsOf(url, 'SELECT id FROM nodes'),
        await rowsOf(url, 'SELECT sequence FROM pending_writes'),
      ]),
    ),
    empty: await rowsOf(empty.url, `SELECT relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'public'`),
    stores: await Promise.all([places.own, places.other].map((root) => bareDirectory(path.join(root, 'store')).list(/./))),
    nowhere: readdirSync(places.nowhere, { recursive: true }),
    layouts: readdirSync(directory),
  });

  for (const situation of situations) {
    await t.test(situation, async (t) => {
      if (begin[situation] !== undefined) await holder.query(begin[situation]);
      const before = await everything();
      for (const [args, own] of commands.filter((command) => command[1]?.[situation] !== 'may')) {
        const message = await run([...args, ...options[situation]]).then(String, (error: Error) => error.message);
        t.match(message, own?.[situation] ?? lines[situation], args.join(' '));
        t.notMatch(message, '\n', 'in one line');
      }
      const { code, stdout, stderr } = await ha([...asProgram, ...options[situation]]);
      t.strictSame([code, stdout, stderr.trim().split('\n').length], [1, '', 1], 'the program');
      t.match(stderr.replace(/^ha-registry: |\n$/g, ''), lines[situation], 'says it on standard error');
      const status = await ha(['status', ...options[situation]]);
      t.strictSame([status.code, status.stderr], [1, ''], 'status');
      t.match(status.stdout, concerns[situation], 'tells it');
      t.strictSame(await everything(), before, 'nothing has changed');
      if (end[situation] !== undefined) await holder.query(end[situation]);
    });
  }

  await t.test('no repository that fits', async (t) => {
    const { code, stdout, stderr } = await ha(['scrub', '--repository', 'tema/**', ...here]);
    t.strictSame([code, stdout], [1, ''], 'is no clean bill');
    t.match(stderr, /^ha-registry: no repository fits tema\/\*\*: .*\n$/);
    t.equal((await ha(['scrub', '--repository', 'team/*', ...here])).code, 0);
  });
});
