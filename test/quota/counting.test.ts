// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The sizes of repositories are right, whoever else is writing. */
import { isDeepStrictEqual } from 'node:util';
import t, { type Test } from 'tap';
import { Client } from 'pg';
import { undoWindowsOf } from '../../src/collector/lifetimes.js';
import { loadConfig } from '../../src/config/config.js';
import { openDatabase } from '../../src/database/pool.js';
import { openServers } from '../../src/database/servers.js';
import { foldAll, forgetUnlimited } from '../../src/quota/fold-sizes.js';
import { openPlace, type Place } from '../gc/place.js';
import { writeElsewhere } from '../support/postgres.js';
import { bytesOf, digestOf, imageOf, pushBlob, putManifest, until } from '../support/wire-suite.js';

const KiB = 1024;
const quota = { default: '100KiB', repositories: [{ match: 'free/**', size: 'unlimited' }] };

type Counting = Awaited<ReturnType<typeof openCounting>>;

async function openCounting(t: Test) {
  const place = await openPlace(t, { quota });
  const { config, sum, known } = await lookAt(place);
  const { pool: sizes } = config.database;
  const database = openDatabase({
    servers: openServers(config.database.servers),
    sizes,
    gcDelayMs: config.gc.delay,
    undoWindows: undoWindowsOf(config),
    onLoss: (error) => t.fail(error.message),
  });
  t.teardown(() => database.close());
  return { ...place, config, sum, known, pool: database.writes };
}

async function lookAt(place: Place) {
  const config = loadConfig(place.configFile, { root: place.root });
  const one = async (expression: string, repository: string): Promise<number | undefined> => {
    const [row] = await place.sql<{ bytes: string | null }>(`SELECT ${expression}(id) AS bytes FROM repositories WHERE name = $1`, [
      repository,
    ]);
    return row === undefined || row.bytes === null ? undefined : Number(row.bytes);
  };
  return {
    config,
    sum: (repository: string) => one('summed_size', repository),
    known: (repository: string) => one('known_size', repository),
  };
}

void t.test('counting', async (t) => {
  const place = await openCounting(t);
  await t.test('what is not limited is not counted', (t) => uncounted(t, place));
  await t.test('the collector makes room', (t) => collected(t, place));
  await t.test('many at a time', (t) => many(t, place));
  await t.test('pushes at the same time go beyond it together, and then it is full', (t) => together(t, place));
  await t.test('what was under way when the counting began is counted, too', (t) => began(t, place));
});

async function uncounted(t: Test, place: Counting): Promise<void> {
  const { client, sql, known, pool, config } = place;
  await pushBlob(client, 'free/uncounted', bytesOf(5 * KiB, 'free'));
  t.strictSame(await sql('SELECT * FROM repository_sizes UNION ALL SELECT id, bytes, NULL, NULL, NULL FROM repository_size_deltas'), []);
  for (const name of ['one', 'two']) await pushBlob(client, 'uncounted/a', bytesOf(5 * KiB, name));
  t.equal(await known('uncounted/a'), 10 * KiB, 'the first push made the repository, the second began to count');
  await forgetUnlimited(pool, config.quota);
  t.equal(await known('uncounted/a'), 10 * KiB, 'what has a quota goes on');
  await forgetUnlimited(pool, { default: Infinity, repositories: [] });
  t.equal(await known('uncounted/a'), undefined, 'without one it ends');
  await pushBlob(client, 'uncounted/a', bytesOf(5 * KiB, 'three'));
  t.equal(await known('uncounted/a'), 15 * KiB, 'and begins anew with the next');
}

async function collected(t: Test, place: Counting): Promise<void> {
  const { client, known, sum } = place;
  const image = imageOf([bytesOf(20 * KiB, 'kept')]);
  for (const blob of ['{}', bytesOf(20 * KiB, 'kept'), bytesOf(60 * KiB, 'unused')]) await pushBlob(client, 'collected/a', blob);
  t.equal((await putManifest(client, 'collected/a', 'v1', image)).status, 201);
  const large = bytesOf(50 * KiB, 'large');
  const push = () => client.send('POST', `/v2/collected/a/blobs/uploads/?digest=${digestOf(large)}`, { body: large });
  t.equal((await push()).status, 403);
  await place.age('2 days');
  await place.collect();
  t.equal(await known('collected/a'), 20 * KiB + 2 + image.length);
  t.equal(await sum('collected/a'), await known('collected/a'));
  t.equal((await push()).status, 201);
  await foldAll(place.pool);
  t.equal((await push()).status, 201);
  t.equal(await known('collected/a'), 70 * KiB + 2 + image.length);
}

async function many(t: Test, place: Counting): Promise<void> {
  const { client, known, sum, pool, sql } = place;
  const repositories = ['many/a', 'many/b', 'free/many'];
  const blobs = Array.from({ length: 12 }, (_, index) => bytesOf(1_000 + index, `blob ${index}`));
  for (const blob of blobs) await pushBlob(client, 'free/many', blob);
  await pushBlob(client, 'many/a', 'first');
  const pushing = { over: false };
  const fold = async (): Promise<void> => {
    while (!pushing.over) {
      await foldAll(pool);
      await sql('SELECT recount_size(repository_id) FROM repository_sizes ORDER BY repository_id');
    }
  };
  const folders = [fold(), fold()];
  await Promise.all(
    Array.from({ length: 8 }, async (_, worker) => {
      for (let step = 0; step < 25; step++) {
        const number = worker * 25 + step;
        const blob = blobs[(number * 7) % blobs.length] as Uint8Array;
        const repository = repositories[number % 2] as string;
        const kind = (number >> 1) % 3;
        const answer =
          kind === 0
            ? await client.send('DELETE', `/v2/${repository}/blobs/${digestOf(blob)}`)
            : kind === 1
              ? await client.send('POST', `/v2/${repository}/blobs/uploads/?mount=${digestOf(blob)}&from=free/many`, { body: '' })
              : await client.send('POST', `/v2/${repository}/blobs/uploads/?digest=${digestOf(blob)}`, { body: blob });
        if (![201, 202, 404, 503].includes(answer.status)) t.fail(`${kind}: ${answer.status} ${answer.body.toString()}`);
      }
    }),
  );
  pushing.over = true;
  await Promise.all(folders);
  for (const repository of ['many/a', 'many/b']) {
    const bytes = await sum(repository);
    t.equal(await known(repository), bytes, 'sum and rows');
    await foldAll(pool);
    t.equal(await known(repository), bytes, 'folded');
  }
  t.strictSame(await sql('SELECT * FROM repository_size_deltas'), []);
}

async function together(t: Test, place: Counting): Promise<void> {
  const { client, known } = place;
  await pushBlob(client, 'together/a', 'first');
  const held = place.hold('write.prepared');
  const slow = pushBlob(client, 'together/a', bytesOf(60 * KiB, 'slow'));
  await held.reached;
  await pushBlob(client, 'together/a', bytesOf(60 * KiB, 'quick'));
  held.release();
  await slow;
  t.equal(await known('together/a'), 120 * KiB + 5);
  t.equal((await client.send('POST', `/v2/together/a/blobs/uploads/?digest=${digestOf('x')}`, { body: 'x' })).status, 403);
}

async function began(t: Test, place: Counting): Promise<void> {
  const { client, known, sum, pool, sql, config } = place;
  await pushBlob(client, 'free/began', bytesOf(3 * KiB, 'source'));
  await pushBlob(client, 'began/a', bytesOf(1 * KiB, 'first'));
  await forgetUnlimited(pool, { default: Infinity, repositories: [] });
  t.teardown(await writeElsewhere(config.database.servers[0] ?? ''));
  // As a commit of a link that takes long.
  const slow = new Client({ connectionString: config.database.servers[0] });
  await slow.connect();
  t.teardown(() => slow.end());
  await slow.query('BEGIN');
  await slow.query(
    `INSERT INTO repository_blobs (repository_id, digest, uuid, sequence, due_at)
     SELECT (SELECT id FROM repositories WHERE name = 'began/a'), rb.digest, rb.uuid, rb.sequence, rb.due_at
     FROM repository_blobs rb JOIN repositories r ON r.id = rb.repository_id WHERE r.name = 'free/began'`,
  );
  await pushBlob(client, 'began/a', bytesOf(2 * KiB, 'second'));
  for (let round = 0; round < 2; round++) await foldAll(pool);
  t.equal(await known('began/a'), 3 * KiB);
  const states = () => sql("SELECT s.state FROM repository_sizes s JOIN repositories r ON r.id = s.repository_id WHERE r.name = 'began/a'");
  t.strictSame(await states(), [{ state: 'waiting' }]);
  await slow.query('COMMIT');
  t.equal(await sum('began/a'), 6 * KiB, 'it has not seen that anybody counts');
  await until('it is exact', async () => {
    await foldAll(pool);
    return isDeepStrictEqual(await states(), [{ state: 'exact' }]);
  });
  t.equal(await known('began/a'), 6 * KiB, 'what it had not seen is counted');
  await sql('UPDATE repository_sizes SET bytes = 5');
  await foldAll(pool);
  t.equal(await known('began/a'), 5, 'what is spoilt');
  await sql(`UPDATE repository_sizes SET counted_at = counted_at - interval '25 hours'`);
  await foldAll(pool);
  t.equal(await known('began/a'), 6 * KiB, 'is right a day later');
}
