// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * Latency of manifest GETs by tag and by digest and of small pushes among 1,000 manifests and among 1,000,000, alternated between two registries. The manifests are rows
 * seeded by SQL, 100 to a repository, each with a tag and its history, over one blob that all share.
 *
 *     npx tsx bench/depth.ts [--manifests N] [--rounds N] [--quick]
 */
import { connectEmbedded } from '../test/support/embedded-connection.js';
import { haRegistry } from './launches.js';
import { measure, medianSample, type Outcome, type Sample, targetOf } from './measure.js';
import { readOptions } from './options.js';
import { settle } from './process-usage.js';
import { makeImage, manifestType, pushBlob, pushImage } from './push.js';
import { sharedBlob } from './seed.js';
import { Server } from './servers.js';
import { percentile } from './statistics.js';
import { figure, renderTable, verdict } from './table.js';
import { fill, timeOperations } from './timing.js';
import type { Connection } from './wire.js';

interface Manifest {
  readonly repository: string;
  readonly tag: string;
  readonly digest: string;
}

const operations = ['by tag', 'by digest', 'push'] as const;
type Operation = (typeof operations)[number];

interface Filled {
  readonly server: Server;
  readonly manifests: number;
  readonly some: readonly Manifest[];
  readonly samples: Record<Operation, Sample[]>;
}

const options = readOptions(5);
/** Without a scrub, which would miss what the rows say is in the store. */
const registry = haRegistry({ engine: options.engine, nodeArguments: options.nodeArguments, scrub: false });
const few = 1_000;
const many = options.count('manifests', 1_000_000, 20_000);
const perRepository = 100;
const perStatement = 100_000;
const counts = options.quick ? { 'by tag': 2_000, 'by digest': 2_000, push: 50 } : { 'by tag': 20_000, 'by digest': 20_000, push: 500 };
/** Less than what the machine can do: who measures a queue measures the queue. */
const width = 2;

const servers: Server[] = [];
const registries: Filled[] = [];
try {
  for (const manifests of [few, many]) {
    const server = await Server.start(`${manifests} manifests`, options.memory, registry);
    servers.push(server);
    registries.push({ server, manifests, some: await seedRows(server, manifests), samples: { 'by tag': [], 'by digest': [], push: [] } });
  }
  for (const server of servers) await settle(server.pid, server.directory);
  for (let round = 0; round <= options.rounds; round++) {
    for (const operation of operations) {
      for (const filled of registries) {
        const sample = await measureOnce(filled, operation, round);
        if (round > 0) filled.samples[operation].push(sample); // The first round warms up.
      }
    }
  }
  report();
} finally {
  for (const server of servers) await server.stop();
}

/** Gives 20,000 of them at random, or all. */
async function seedRows(server: Server, manifests: number): Promise<Manifest[]> {
  const start = performance.now();
  await fill(targetOf(server), { count: 1, width: 1 }, (connection) => pushBlob(connection, 'bench/base', sharedBlob));
  const client = await connectEmbedded(`${server.directory}/data`);
  await client.query(
    `INSERT INTO repositories (name) SELECT 'bench/r' || lpad(i::text, 5, '0') FROM generate_series(0, $1::integer - 1) i`,
    [Math.ceil(manifests / perRepository)],
  );
  await client.query(
    `INSERT INTO repository_blobs (repository_id, digest, uuid, sequence, due_at)
     SELECT r.id, b.digest, b.uuid, nextval('entry_sequence'), next_due() FROM repositories r, blobs b WHERE r.name LIKE 'bench/r%'`,
  );
  for (let from = 0; from < manifests; from += perStatement) {
    await client.query(
      `WITH made AS (
         SELECT r.id AS repository_id, 't' || i % $3 AS tag, nextval('entry_sequence') AS sequence,
           convert_to(format('{"schemaVersion":2,"mediaType":"%1$s","config":%2$s,"layers":[%2$s],"annotations":{"bench.name":"%3$s","bench.padding":"%4$s"}}',
             $4::text, $5::text, i, repeat('.', 500)), 'UTF8') AS bytes
         FROM generate_series($1::integer, $2::integer - 1) i JOIN repositories r ON r.name = 'bench/r' || lpad((i / $3)::text, 5, '0')
       ), added AS (
         INSERT INTO manifests (repository_id, digest, sequence, media_type, bytes, due_at)
         SELECT repository_id, '\\x01' || sha256(bytes), sequence, $4, bytes, next_due() FROM made
       ), linked AS (
         INSERT INTO manifest_blobs (repository_id, manifest, digest)
         SELECT made.repository_id, '\\x01' || sha256(made.bytes), b.digest FROM made JOIN repository_blobs b USING (repository_id)
       ), told AS (
         INSERT INTO tag_history (repository_id, name, sequence, digest) SELECT repository_id, tag, sequence, '\\x01' || sha256(bytes) FROM made
       )
       INSERT INTO tags (repository_id, name, digest, sequence) SELECT repository_id, tag, '\\x01' || sha256(bytes), sequence FROM made`,
      [from, Math.min(from + perStatement, manifests), perRepository, manifestType, descriptorOfShared()],
    );
  }
  await client.query('VACUUM ANALYZE'); // Else Postgres plans by guesses until autovacuum comes.
  const { rows } = await client.query<Manifest>(
    `SELECT r.name AS repository, t.name AS tag, 'sha256:' || encode(substr(t.digest, 2), 'hex') AS digest
     FROM tags t JOIN repositories r ON r.id = t.repository_id ORDER BY random() LIMIT 20000`,
  );
  await client.end();
  console.error(`${server.name}: rows made in ${Math.round((performance.now() - start) / 1000)} s`);
  return rows;
}

function descriptorOfShared(): string {
  return JSON.stringify({ mediaType: 'application/vnd.oci.image.config.v1+json', digest: sharedBlob.digest, size: sharedBlob.bytes });
}

async function measureOnce({ server, some }: Filled, operation: Operation, round: number): Promise<Sample> {
  const count = counts[operation];
  const images = Array.from({ length: operation === 'push' ? count : 0 }, () => makeImage([4096, 32768]));
  const chosen = Array.from({ length: count }, () => some[Math.floor(Math.random() * some.length)]);
  const work = async (connection: Connection, index: number): Promise<void> => {
    const { repository = '', tag = '', digest = '' } = chosen[index] ?? {};
    const image = images[index];
    if (image !== undefined) return await pushImage(connection, repository, `pushed-${round}-${index}`, image);
    const path = `/v2/${repository}/manifests/${operation === 'by tag' ? tag : digest}`;
    const { status } = await connection.request({ method: 'GET', path, headers: { Accept: manifestType } });
    if (status !== 200) throw new Error(`GET ${path} answered ${status}`);
  };
  return await measure(targetOf(server), async (): Promise<Outcome> => {
    const { seconds, latenciesMs, errors } = await timeOperations(server.address, { count, width }, work);
    if (errors > 0) throw new Error(`${errors} of ${count} failed`);
    return { client: 'net', amount: count, seconds, p50: percentile(latenciesMs, 0.5), p99: percentile(latenciesMs, 0.99), errors };
  });
}

function report(): void {
  const rows: string[][] = [];
  const verdicts: string[] = [];
  for (const operation of operations) {
    const taken = registries.map(({ manifests, samples }) => {
      const sample = medianSample(samples[operation]);
      const { amount, serverCpu, postgresCpu, p50, p99, seconds } = sample;
      rows.push([
        operation,
        ...[manifests, p50, p99, (serverCpu / amount) * 1000, (postgresCpu / amount) * 1000, amount / seconds].map(figure),
      ]);
      return sample;
    });
    for (const share of ['p50', 'p99'] as const) {
      const ratio = (taken[1]?.[share] ?? Number.NaN) / (taken[0]?.[share] ?? Number.NaN);
      verdicts.push(verdict(`${share} ${operation}, ${figure(many)} manifests / ${figure(few)}`, ratio, { atMost: 1.25 }));
    }
  }
  console.log(renderTable(['operation', 'manifests', 'p50 ms', 'p99 ms', 'Node CPU ms', 'Postgres CPU ms', '/s'], rows));
  console.log(verdicts.join('\n'));
}
