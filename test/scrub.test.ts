// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Bit rot: what a disk loses or changes behind the registry's back is found, is not served, and is healed. */
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import path from 'node:path';
import { Pool } from 'pg';
import t from 'tap';
import { migrate } from '../src/database/migrate.js';
import { Pace } from '../src/scrub/pace.js';
import { beginWalk, completeWalk, saveWalk } from '../src/scrub/walk-queries.js';
import { bareBucket, bareDirectory, flipBit, type BareStore } from './support/bare-store.js';
import { databaseState, rowsOf, stateDifferences } from './support/database-state.js';
import { errorCode, HttpClient, jsonOf } from './support/http-client.js';
import { freshDatabase, writeElsewhere } from './support/postgres.js';
import { ha } from './support/program.js';
import { quickDirectory, startRegistry, temporaryDirectory, type RunningRegistry } from './support/registry.js';
import { s3Server, s3Settings, stopS3Servers, type S3Server } from './support/s3-server.js';
import { startStoppablePostgres } from './support/stoppable-postgres.js';
import { bytesOf, describe, digestOf, imageOf, imageWithBlobs, pushBlob, putManifest, types, until } from './support/wire-suite.js';

t.jobs = 2;
const server = await s3Server();
t.teardown(stopS3Servers);
const missing = 'missing' in server && `BIT ROT ON S3 IS NOT TESTED: ${server.missing}`;
if (missing) console.error(missing);

const kinds = ['filesystem', 's3'] as const;
type Kind = (typeof kinds)[number];

/** A store, a database, a node that does not scrub by itself, and the command line beside it. */
class Place {
  readonly kind: Kind;
  readonly root: string;
  readonly url: string;
  readonly store: BareStore;
  private readonly config: object;
  private node: RunningRegistry | undefined;
  private httpClient: HttpClient | undefined;

  private constructor(kind: Kind, root: string, url: string, store: BareStore, config: object) {
    this.kind = kind;
    this.root = root;
    this.url = url;
    this.store = store;
    this.config = config;
  }

  static async open(kind: Kind, more: object = {}, url?: string): Promise<Place> {
    const root = await quickDirectory('scrub-');
    const settings = kind === 's3' ? await s3Settings(server as S3Server) : undefined;
    const store = settings === undefined ? bareDirectory(path.join(root, 'store')) : bareBucket(server as S3Server, settings.bucket);
    const config = {
      workers: { threads: 1 },
      log: { level: 'info' },
      scrub: { enabled: false },
      ...(settings === undefined ? {} : { storage: { s3: settings } }),
      ...more,
    };
    return new Place(kind, root, url ?? (await freshDatabase()).url, store, config);
  }

  /** The same store beside an empty database. */
  async withoutDatabase(): Promise<Place> {
    return new Place(this.kind, this.root, (await freshDatabase()).url, this.store, this.config);
  }

  async start(): Promise<HttpClient> {
    this.node = await startRegistry({ root: this.root, config: { ...this.config, database: { url: this.url } } });
    this.httpClient = new HttpClient(this.node.port);
    return this.httpClient;
  }

  log(): string {
    return this.node?.log() ?? '';
  }

  async stop(): Promise<void> {
    this.httpClient?.close();
    await this.node?.stop();
    this.node = undefined;
  }

  async run(command: string, ...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
    const file = path.join(await temporaryDirectory('config-'), 'registry.yaml');
    await writeFile(file, JSON.stringify({ ...this.config, database: { url: this.url } }));
    return ha([command, '--root', this.root, '--config', file, ...args]);
  }

  async scrub(...args: string[]): Promise<Report> {
    const { code, stdout, stderr } = await this.run('scrub', '--json', ...args);
    if (!stdout.startsWith('{')) throw new Error(`scrub ended with ${code}: ${stderr}`);
    return { ...(JSON.parse(stdout) as Omit<Report, 'code'>), code };
  }

  async status(): Promise<Status> {
    const { code, stdout } = await this.run('status', '--json');
    return { ...(JSON.parse(stdout) as Omit<Status, 'code'>), code };
  }

  async dataOf(bytes: Uint8Array | string): Promise<string> {
    const [link = ''] = await this.store.list(new RegExp(`_blobs/sha256/${digestOf(bytes).slice(7)}/`));
    const uuid = link.split('.').at(-1) ?? '';
    return `data/${uuid.slice(-2)}/${uuid}`;
  }

  /** Everything that was superseded has gone. */
  settled(): Promise<unknown> {
    return until('the trash is empty', async () => {
      const due = await rowsOf(this.url, 'SELECT FROM object_trash WHERE not_before <= now()');
      return due.length === 0;
    });
  }
}

interface Report {
  readonly code: number;
  readonly blobs: number;
  readonly bytes: number;
  readonly manifests: number;
  readonly repositories?: number;
  readonly damaged: number;
  readonly repaired: number;
  readonly healed: number;
  readonly reported: number;
  readonly listed: readonly { readonly key: string; readonly reason: string; readonly outcome: string }[];
}

interface Status {
  readonly code: number;
  readonly concerns: readonly string[];
  readonly database: {
    readonly state: string;
    readonly nodes?: readonly { readonly leads: boolean; readonly alive: boolean }[];
    readonly damaged?: readonly { readonly digest: string; readonly key: string; readonly repositories: readonly string[] }[];
  };
  readonly store: { readonly state: string; readonly damageMarks?: number };
}

function outcomes({ code, damaged, repaired, healed, reported }: Report): number[] {
  return [code, damaged, repaired, healed, reported];
}

const layer = bytesOf(300_000, 'layer');
const clean = [0, 0, 0, 0, 0];

for (const kind of kinds) {
  const skip = kind === 's3' && missing;
  void t.test(`${kind}: a flipped bit`, { buffered: true, skip }, async (t) => {
    const place = await Place.open(kind);
    const client = await place.start();
    t.teardown(() => place.stop());
    const blob = (repository: string): string => `/v2/${repository}/blobs/${digestOf(layer)}`;
    const image = await imageWithBlobs(client, 'one', [layer]);
    await putManifest(client, 'one', 'v1', image);
    await client.send('POST', `/v2/two/blobs/uploads/?mount=${digestOf(layer)}&from=one`, { body: '' });
    await imageWithBlobs(client, 'two', [layer]);
    await putManifest(client, 'two', 'v1', image);
    const data = await place.dataOf(layer);
    await flipBit(place.store, data);

    const found = await place.scrub();
    t.strictSame(outcomes(found), [1, 1, 0, 0, 0], 'it is found');
    t.equal(found.listed[0]?.key, data, 'by its key');
    for (const repository of ['one', 'two']) {
      const pull = await client.send('GET', blob(repository));
      t.strictSame([pull.status, errorCode(pull)], [404, 'BLOB_UNKNOWN'], `${repository}: the pull is refused`);
      t.match(pull.body.toString(), /damaged/, 'and says why');
      t.equal((await client.send('HEAD', blob(repository))).status, 404, 'who pushes is told that it is not there');
    }
    const mount = await client.send('POST', `/v2/three/blobs/uploads/?mount=${digestOf(layer)}&from=one`, { body: '' });
    t.equal(mount.status, 202, 'nor is it mounted');
    const refused = await putManifest(client, 'one', 'v2', imageOf([layer], { annotations: { v: '2' } }));
    t.strictSame([refused.status, errorCode(refused)], [404, 'MANIFEST_BLOB_UNKNOWN'], 'a manifest cannot count on it');
    t.equal((await client.send('GET', '/v2/one/manifests/v1')).status, 200, 'manifests are served');
    t.strictSame(outcomes(await place.scrub()), [1, 1, 0, 0, 0], 'found before, and still so');
    t.equal((await place.store.list(/^cluster\/damaged\//)).length, 1, 'marked in the store');

    if (kind === 'filesystem') {
      const { code, database } = await place.status();
      t.strictSame(
        [code, database.state, database.nodes?.map(({ leads, alive }) => [leads, alive])],
        [1, 'here', [[true, true]]],
        'its status',
      );
      t.match(database.damaged, [{ digest: digestOf(layer), key: data, repositories: ['one', 'two'] }], 'says what is damaged, and where');
      const early = await place.withoutDatabase();
      t.equal((await early.run('rebuild')).code, 0);
      t.equal((await rowsOf(early.url, 'SELECT FROM blobs WHERE damaged')).length, 1, 'which a rebuild goes by without reading the data');
    }

    await pushBlob(client, 'one', layer);
    t.equal((await client.send('GET', blob('one'))).body.equals(layer), true, 'a push heals it');
    await until('healed in the other repository', async () => (await client.send('GET', blob('two'))).status === 200);
    t.equal((await client.send('GET', blob('two'))).body.equals(layer), true, 'with the same bytes');
    await until('the damaged row is gone', async () => (await rowsOf(place.url, 'SELECT FROM blobs WHERE damaged')).length === 0);
    await until('its mark, too', async () => (await place.store.list(/^cluster\/damaged\//)).length === 0);
    t.equal((await putManifest(client, 'one', 'v2', imageOf([layer], { annotations: { v: '2' } }))).status, 201, 'manifests count on it');
    await place.settled();
    await place.stop();
    const state = await databaseState(place.url);
    const rebuilt = await place.withoutDatabase();
    const again = await rebuilt.run('rebuild', '--verify', '--json');
    t.equal((JSON.parse(again.stdout) as { findings: number }).findings, 0, 'a rebuild finds nothing');
    t.strictSame(await stateDifferences(rebuilt.url, state), [], 'and the same');
  });

  void t.test(`${kind}: objects cut short and gone`, { buffered: true, skip }, async (t) => {
    const place = await Place.open(kind);
    let client = await place.start();
    t.teardown(() => place.stop());
    const cut = bytesOf(100_000, 'cut');
    const gone = bytesOf(1000, 'gone');
    const image = await imageWithBlobs(client, 'some/image', [cut, gone]);
    await putManifest(client, 'some/image', 'v1', image);
    const other = await imageWithBlobs(client, 'other/image', [layer]);
    await putManifest(client, 'other/image', 'v1', other);
    const referrer = imageOf([], { artifactType: 'application/x', subject: describe(types.manifest, image) });
    await putManifest(client, 'some/image', digestOf(referrer), referrer);
    await putManifest(client, 'some/image', 'past', other.replace('"schemaVersion":2', '"schemaVersion": 2'));
    const lonely = imageOf([], { annotations: { lonely: 'yes' } });
    await putManifest(client, 'some/image', 'lonely', lonely);
    await client.send('DELETE', `/v2/some/image/manifests/${digestOf(lonely)}`);
    await client.send('DELETE', '/v2/some/image/manifests/past');
    await pushBlob(client, 'some/image', 'unlinked');
    await client.send('DELETE', `/v2/some/image/blobs/${digestOf('unlinked')}`);
    await place.settled();
    await place.stop();
    const state = await databaseState(place.url);

    const { store } = place;
    const only = async (pattern: RegExp): Promise<string> => {
      const keys = await store.list(pattern);
      t.equal(keys.length, 1, String(pattern));
      return keys[0] ?? '';
    };
    const cutData = await place.dataOf(cut);
    await store.write(cutData, (await store.read(cutData)).subarray(0, 50_000));
    const goneData = await place.dataOf(gone);
    await store.remove(goneData);
    await flipBit(store, await only(manifestOf(image)));
    const lost = [
      await only(manifestOf(other)),
      await only(new RegExp(`other/image/_blobs/sha256/${digestOf(layer).slice(7)}/`)),
      await only(/other\/image\/_tags\/v1\//),
      await only(/some\/image\/_referrers\//),
      await only(manifestOf(lonely)),
      await only(new RegExp(`some/image/_blobs/sha256/${digestOf('unlinked').slice(7)}/.*deleted`)),
      await only(/some\/image\/_tags\/lonely\/.*deleted/),
    ];
    for (const key of lost) await store.remove(key);

    t.teardown(await writeElsewhere(place.url));
    const part = await place.scrub('--repository', 'other/*');
    t.strictSame([part.repositories, ...outcomes(part)], [1, 1, 0, 3, 0, 0], 'of one repository, without a node');
    const rest = await place.scrub();
    t.strictSame(outcomes(rest), [1, 2, 5, 0, 0], `the rest: ${JSON.stringify(rest.listed, undefined, 1)}`);
    t.strictSame(
      rest.listed
        .filter(({ outcome }) => outcome === 'damaged')
        .map(({ key }) => key)
        .sort(),
      [cutData, goneData].sort(),
      'blobs are not guessed',
    );
    client = await place.start();
    for (const bytes of [cut, gone]) {
      t.equal((await client.send('GET', `/v2/some/image/blobs/${digestOf(bytes)}`)).status, 404, 'is refused');
      await pushBlob(client, 'some/image', bytes);
      t.equal((await client.send('GET', `/v2/some/image/blobs/${digestOf(bytes)}`)).body.equals(bytes), true, 'and healed by a push');
    }
    await until('nothing is damaged', async () => (await rowsOf(place.url, 'SELECT FROM blobs WHERE damaged')).length === 0);
    await place.settled();
    await place.stop();
    t.strictSame(outcomes(await place.scrub()), clean, 'all is well');
    const rebuilt = await place.withoutDatabase();
    t.equal(
      (JSON.parse((await rebuilt.run('rebuild', '--verify', '--json')).stdout) as { findings: number }).findings,
      0,
      'a rebuild agrees',
    );
    t.strictSame(await stateDifferences(rebuilt.url, await databaseState(place.url)), [], 'with everything');
    t.strictSame(withoutSequences(await databaseState(place.url)), withoutSequences(state), 'which is what was there before');
  });
}

function manifestOf(text: string): RegExp {
  return new RegExp(`_manifests/sha256/${digestOf(text).slice(7)}/`);
}

/** Rows as they were, whatever entry and whatever data they have now. */
function withoutSequences(state: Record<string, string[]>): Record<string, string[]> {
  const uuid = /"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"/g;
  return Object.fromEntries(
    Object.entries(state).map(([table, rows]) => [table, rows.map((row) => row.replace(uuid, 'uuid').replace(/"\d+"/g, 'number')).sort()]),
  );
}

void t.test('an entry that the database does not know', { buffered: true }, async (t) => {
  const place = await Place.open('filesystem');
  const client = await place.start();
  t.teardown(() => place.stop());
  const image = await imageWithBlobs(client, 'some/image', [layer]);
  await putManifest(client, 'some/image', 'v1', image);
  const state = await databaseState(place.url);
  await rowsOf(place.url, 'DELETE FROM tags');
  await rowsOf(place.url, 'DELETE FROM tag_history');
  t.equal((await client.send('GET', '/v2/some/image/manifests/v1')).status, 404);
  t.strictSame(outcomes(await place.scrub()), [1, 0, 1, 0, 0], 'is given back to it');
  t.equal((await client.send('GET', '/v2/some/image/manifests/v1')).body.toString(), image);
  t.strictSame(await stateDifferences(place.url, state), [], 'as it was');

  // What would be the tag's newest entry could undo what somebody is about to be told succeeded.
  const [tag = ''] = await place.store.list(/_tags\/v1\//);
  await place.store.remove(tag);
  await rowsOf(
    place.url,
    `INSERT INTO pending_writes (node, generation, repository, templates)
     SELECT n.id, c.generation, 'some/image', ARRAY['repositories/some/image/_tags/v1/%.deleted'] FROM nodes n, cluster c`,
  );
  t.strictSame(outcomes(await place.scrub()), [1, 0, 0, 0, 1], 'nothing is written again where somebody writes');
  await rowsOf(place.url, 'DELETE FROM pending_writes');
  t.strictSame(outcomes(await place.scrub()), [1, 0, 1, 0, 0], 'but afterwards');
});

void t.test('a tag’s deletion that is written again', { buffered: true }, async (t) => {
  const place = await Place.open('filesystem');
  const client = await place.start();
  t.teardown(() => place.stop());
  const image = await imageWithBlobs(client, 'some/image', [layer]);
  for (const tag of ['a', 'b']) await putManifest(client, 'some/image', tag, image);
  await client.send('DELETE', `/v2/some/image/manifests/${digestOf(image)}`);
  const [deletion = ''] = await place.store.list(/_tags\/a\/.*deleted/);
  await place.store.remove(deletion);
  t.strictSame(outcomes(await place.scrub()), [1, 0, 1, 0, 0]);
  const { body } = await client.send('POST', `/api/v1/repositories/some/image/manifests/${digestOf(image)}/restore`);
  t.match(JSON.parse(body.toString()), { restored: true, tags: ['a', 'b'] }, 'is still the one that its manifest was deleted with');
});

void t.test('where a walk stands', async (t) => {
  const { url } = await freshDatabase();
  await migrate(url);
  const pool = new Pool({ connectionString: url });
  t.teardown(() => pool.end());
  const hour = 3_600_000;
  t.strictSame(await beginWalk(pool, 'tag', hour), [], 'at the beginning');
  await saveWalk(pool, 'tag', ['1', 'v1', '7']);
  t.strictSame(await beginWalk(pool, 'tag', hour), ['1', 'v1', '7'], 'whoever leads next goes on there');
  t.strictSame(await beginWalk(pool, 'link', hour), [], 'each for itself');
  await completeWalk(pool, 'tag');
  t.equal(await beginWalk(pool, 'tag', hour), undefined, 'nothing is due');
  t.strictSame(await beginWalk(pool, 'tag', 0), [], 'until a cycle has passed');
});

void t.test('the pace', async (t) => {
  const ending = new AbortController();
  const pace = new Pace(1024 * 1024, ending.signal);
  const since = performance.now();
  for (let taken = 0; taken < 4; taken++) await pace.take(128 * 1024);
  t.ok(performance.now() - since >= 370, 'never faster than allowed');
  await pace.take(1024 * 1024 * 1024);
  const waiting = pace.take(1);
  ending.abort();
  await t.rejects(waiting, { name: 'AbortError' }, 'and ends when it is told to');
});

void t.test('an object that somebody brings back', { buffered: true }, async (t) => {
  const place = await Place.open('filesystem');
  const client = await place.start();
  t.teardown(() => place.stop());
  const large = bytesOf(16 * 1024 * 1024);
  const blob = `/v2/some/image/blobs/${await pushBlob(client, 'some/image', large)}`;
  const data = await place.dataOf(large);
  // A client that has begun to pull, and does not read on.
  const pulling = httpRequest({ port: client.port, path: blob }).end();
  const [response] = (await once(pulling, 'response')) as [IncomingMessage];
  await flipBit(place.store, data);
  t.strictSame(outcomes(await place.scrub()), [1, 1, 0, 0, 0]);
  t.equal((await client.send('GET', blob)).status, 404, 'a pull that begins is refused');
  let bytes = 0;
  for await (const piece of response) bytes += (piece as Buffer).length;
  t.equal(bytes, large.length, 'one that was going on comes to its end, and the client compares');
  await flipBit(place.store, data);
  t.strictSame(outcomes(await place.scrub()), [0, 0, 0, 1, 0], 'is right again');
  t.equal((await client.send('GET', blob)).body.equals(large), true, 'and served');
  await place.stop();
  const { code, stdout } = await place.run('status');
  t.equal(code, 0, stdout);
  t.match(stdout, /none is running/, 'without a node');
});

void t.test('without Postgres', { buffered: true }, async (t) => {
  const postgres = await startStoppablePostgres();
  t.teardown(() => postgres.close());
  const place = await Place.open('filesystem', {}, postgres.url);
  const client = await place.start();
  t.teardown(() => place.stop());
  for (const [tag, bytes] of [
    ['good', 'a good layer'],
    ['bad', layer],
  ] as const)
    await putManifest(client, 'some/image', tag, await imageWithBlobs(client, 'some/image', [bytes], { annotations: { tag } }));
  await flipBit(place.store, await place.dataOf(layer));
  t.strictSame(outcomes(await place.scrub()), [1, 1, 0, 0, 0]);
  const bad = imageOf([layer], { annotations: { tag: 'bad' } });
  const [manifest = ''] = await place.store.list(manifestOf(bad));
  await flipBit(place.store, manifest);
  await postgres.stop();
  await until('degraded', async () => jsonOf<{ status: string }>(await client.send('GET', '/readyz')).status === 'degraded');
  const { code, database, store, concerns } = await place.status();
  t.strictSame([code, database.state, store.state, store.damageMarks], [1, 'away', 'here', 1], 'the status says so');
  t.match(concerns[0], /the database cannot be asked: the database cannot be reached /, 'and why');
  const pull = await client.send('GET', `/v2/some/image/blobs/${digestOf(layer)}`);
  t.strictSame([pull.status, errorCode(pull)], [404, 'BLOB_UNKNOWN'], 'damaged data are not served');
  t.match(pull.body.toString(), /damaged/);
  for (const reference of ['bad', digestOf(bad)]) {
    const answer = await client.send('GET', `/v2/some/image/manifests/${reference}`);
    t.strictSame([answer.status, errorCode(answer)], [503, 'UNAVAILABLE'], 'nor is a manifest that nobody has looked at');
  }
  t.equal((await client.send('GET', '/v2/some/image/manifests/good')).status, 200, 'all else is');
  t.equal((await client.send('GET', `/v2/some/image/blobs/${digestOf('a good layer')}`)).body.toString(), 'a good layer');
  await postgres.start();
  await until('ready', async () => jsonOf<{ status: string }>(await client.send('GET', '/readyz')).status === 'ready');
  t.equal((await client.send('GET', '/v2/some/image/manifests/bad')).body.toString(), bad, 'the database has the manifest');
});

void t.test('by itself', { buffered: true }, async (t) => {
  const place = await Place.open('filesystem', { scrub: { cycle: '1s', bandwidth: '1MiB' } });
  let client = await place.start();
  t.teardown(() => place.stop());
  const small = bytesOf(1000, 'small');
  const image = await imageWithBlobs(client, 'some/image', [small]);
  await putManifest(client, 'some/image', 'v1', image);
  await flipBit(place.store, await place.dataOf(small));
  const metric = async (name: string): Promise<number> => {
    const { body } = await client.send('GET', '/metrics');
    return Number(new RegExp(`^${name.replace(/[{}]/g, '\\$&')} (\\S+)`, 'm').exec(body.toString())?.[1] ?? Number.NaN);
  };
  await until('found', async () => (await client.send('HEAD', `/v2/some/image/blobs/${digestOf(small)}`)).status === 404, 60_000);
  await until('told', async () => (await metric('registry_damaged_blobs')) === 1);
  t.equal(await metric('registry_scrub_findings_total{outcome="damaged"}'), 1, 'counted once');
  t.ok((await metric('registry_scrub_checked_bytes_total')) > 0, 'bytes are counted');
  t.match(place.log(), /scrub: the bytes are not those of sha256:/, 'in the log');
  await pushBlob(client, 'some/image', small);
  await until('healed', async () => (await metric('registry_scrub_findings_total{outcome="healed"}')) === 1);
  t.match(place.log(), /scrub: sha256:\w+ was pushed again/, 'in the log');

  // A walk that was begun goes on where it stands, whoever leads.
  await until(
    'walks are complete',
    async () => (await rowsOf(place.url, 'SELECT FROM scrub_walks WHERE completed_at IS NULL')).length === 0,
  );
  await place.stop();
  await rowsOf(place.url, `UPDATE scrub_walks SET completed_at = NULL, position = ARRAY['repositories/z'] WHERE walk = 'entries'`);
  await rowsOf(place.url, 'DELETE FROM tags');
  await rowsOf(place.url, 'DELETE FROM tag_history');
  const begun = await rowsOf<{ begun_at: Date }>(place.url, `SELECT begun_at FROM scrub_walks WHERE walk = 'entries'`);
  client = await place.start();
  await until('the walk is complete', async () => {
    const rows = await rowsOf<{ done: boolean }>(
      place.url,
      `SELECT begun_at = $1 AND completed_at IS NOT NULL OR begun_at > $1 AS done FROM scrub_walks WHERE walk = 'entries'`,
      [begun[0]?.begun_at],
    );
    return rows[0]?.done;
  });
  await until('the next cycle finds it', async () => (await client.send('GET', '/v2/some/image/manifests/v1')).status === 200);
});
