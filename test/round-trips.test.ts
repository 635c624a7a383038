// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What requests cost: round trips to Postgres and to S3, counted on the wire. */
import t from 'tap';
import { HttpClient } from './support/http-client.js';
import { freshDatabase } from './support/postgres.js';
import { startPostgresProxy } from './support/postgres-proxy.js';
import { startRegistry } from './support/registry.js';
import { startS3Proxy } from './support/s3-proxy.js';
import { s3Server, s3Settings, stopS3Servers } from './support/s3-server.js';
import {
  bytesOf,
  describe,
  digestOf,
  imageOf,
  imageWithBlobs,
  openSession,
  pushBlob,
  putManifest,
  types,
  withDigest,
} from './support/wire-suite.js';

const server = await s3Server();
t.teardown(stopS3Servers);
const missing = 'missing' in server && `THE COST OF REQUESTS IS NOT COUNTED: ${server.missing}`;
if (missing) console.error(missing);

/** What a node that does not lead does by itself meanwhile: its sign of life, a look at the database, and what each does for its own writes and pulls. */
const ofJobs = /^(beat|find-facts|SELECT 1|set-outcome-unknown|record-pulls)/;
/** And a look at the marks in the store. */
const ofMarks = /cluster(\/|%2F)/;

void t.test('the cost of requests', { skip: missing }, async (t) => {
  if ('missing' in server) return;
  const { url } = await freshDatabase();
  const postgres = await startPostgresProxy(url);
  const s3 = await startS3Proxy(server.endpoint);
  const place = await s3Settings(server);
  const settings = { workers: { threads: 1 }, log: { level: 'warn' } };
  const leader = await startRegistry({ config: { ...settings, database: { url }, storage: { s3: place } } });
  const storage = { s3: { ...place, endpoint: s3.endpoint } };
  const registry = await startRegistry({ config: { ...settings, database: { url: postgres.url }, storage } });
  const client = new HttpClient(registry.port);
  t.teardown(async () => {
    client.close();
    await registry.stop();
    await leader.stop();
    postgres.close();
    s3.close();
  });
  /** The statements and the store's requests of some work. */
  const costOf = async (work: () => Promise<unknown>): Promise<{ statements: string[]; requests: string[] }> => {
    const [statements, requests] = [postgres.roundTrips.length, s3.seen.length];
    await work();
    return {
      statements: postgres.roundTrips.slice(statements).filter((names) => !ofJobs.test(names)),
      requests: s3.seen.slice(requests).flatMap(({ method, url: asked }) => (ofMarks.test(asked) ? [] : [`${method} ${kindOf(asked)}`])),
    };
  };
  const pushInTwo = async (repository: string, bytes: Buffer): Promise<void> => {
    const session = await openSession(client, repository);
    await expectStatus(201, client.send('PUT', withDigest(session, digestOf(bytes)), { body: bytes }));
  };
  const mount = (): Promise<unknown> =>
    expectStatus(201, client.send('POST', `/v2/mounted/blobs/uploads/?mount=${digestOf('mounted')}&from=cost`, { body: '' }));
  // Connections, and what is looked up once.
  await pushInTwo('cost', bytesOf(2_000, 'before'));
  await pushBlob(client, 'cost', 'mounted');

  t.strictSame(
    await costOf(() => pushInTwo('cost', bytesOf(2_000, 'blob'))),
    { statements: ['insert-session', 'acquire-upload', 'prepare-link', 'commit-link'], requests: ['PUT data', 'PUT _blobs'] },
    'a blob of 2 KB by POST and PUT: at most 5 and 2',
  );
  t.strictSame(await costOf(mount), { statements: ['prepare-link', 'commit-link'], requests: ['PUT _blobs'] }, 'a mount: 2 and 1');
  t.strictSame(await costOf(mount), { statements: ['prepare-link'], requests: [] }, 'one that changes nothing: 1 and 0');

  const image = await imageWithBlobs(client, 'cost', ['layer']);
  t.strictSame(
    await costOf(() => expectStatus(201, putManifest(client, 'cost', 'tag', image))),
    { statements: ['prepare-manifest', 'commit-manifest'], requests: ['PUT _manifests', 'PUT _tags'] },
    'a manifest with a tag: at most 3 and 2',
  );
  t.strictSame(
    await costOf(() => expectStatus(201, putManifest(client, 'cost', 'tag', image))),
    { statements: ['prepare-manifest'], requests: [] },
    'one that changes nothing: 1 and 0',
  );
  const pull = (): Promise<void> => expectStatus(200, client.send('GET', '/v2/cost/manifests/tag'));
  t.strictSame(await costOf(pull), { statements: ['find-manifests-by-tag'], requests: [] }, 'a manifest by its tag: 1 and 0');
  const many = await costOf(() => Promise.all(Array.from({ length: 64 }, pull)));
  t.ok(many.statements.length < 32, `64 of them at once share their round trips: ${many.statements.length}`);
  t.strictSame(many.requests, []);

  const subject = describe(types.manifest, image);
  const referrers = (): Promise<void> => expectStatus(200, client.send('GET', `/v2/cost/referrers/${subject.digest}`));
  t.strictSame(await costOf(referrers), { statements: ['find-referrers'], requests: [] }, 'no referrers: 1 and 0');
  await expectStatus(201, putManifest(client, 'cost', 'referrer', imageOf(['layer'], { subject })));
  t.strictSame(await costOf(referrers), { statements: ['find-referrers', 'describe-referrers'], requests: [] }, 'referrers: 2 and 0');

  const large = await costOf(() => pushInTwo('cost', bytesOf(100 * 1024 * 1024, 'large')));
  const lastPart = large.requests.lastIndexOf('PUT part');
  t.strictSame(
    large.requests.slice(lastPart + 1),
    ['POST complete', 'HEAD data', 'PUT _blobs'],
    '100 MB, after the last part: complete, HEAD and the link',
  );
  t.equal(large.requests.filter((request) => request === 'PUT part').length, 13, 'of parts of 8 MiB');
});

async function expectStatus(status: number, answer: Promise<{ readonly status: number; readonly body: Buffer }>): Promise<void> {
  const { status: actual, body } = await answer;
  if (actual !== status) throw new Error(`${actual} instead of ${status}: ${body.toString()}`);
}

function kindOf(url: string): string {
  const { pathname, searchParams } = new URL(url, 'http://store');
  if (searchParams.has('partNumber')) return 'part';
  if (searchParams.has('uploadId')) return 'complete';
  if (searchParams.has('uploads')) return 'begin';
  return /\/(data|_blobs|_manifests|_tags|_referrers|uploads)\//.exec(decodeURIComponent(pathname))?.[1] ?? pathname;
}
