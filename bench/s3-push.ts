// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** A push of 1 GiB to a node on MinIO against the SDK that uploads as much by itself; then 32 pushes of 100 MiB at once, and what memory they take. */
import { DeleteObjectsCommand, paginateListObjectsV2 } from '@aws-sdk/client-s3';
import { startRegistry, temporaryDirectory } from '../test/support/registry.js';
import { s3Server, s3Settings, stopS3Servers, type S3Server } from '../test/support/s3-server.js';
import { type Content, contentsOf, mebibyte } from './content.js';
import { readOptions } from './options.js';
import { cpuSeconds, peakRssMiB, resetPeakRss } from './process-usage.js';
import { pushBlob } from './push.js';
import { median } from './statistics.js';
import { figure, renderTable, verdict } from './table.js';
import { timeOperations } from './timing.js';
import { pushDirectly, type Effort } from './yardsticks.js';
import { Connection } from './wire.js';

const options = readOptions(3);
const parallel = options.quick ? 8 : 32;
const parallelBytes = (options.quick ? 16 : 100) * mebibyte;
const partSizeBytes = 8 * mebibyte;

const found = await s3Server();
if ('missing' in found) throw new Error(found.missing);
const server: S3Server = found;
const s3 = await s3Settings(server, { part_size: partSizeBytes });
const root = await temporaryDirectory('bench-s3-');
const { nodeArguments } = options;
const node = await startRegistry({ root, nodeArguments, config: { storage: { s3 }, log: { level: 'warn' } } });
const address = { host: '127.0.0.1', port: node.port };
try {
  await compare();
  await measureMemory();
} finally {
  await node.stop();
  await stopS3Servers();
}
process.exit();

async function compare(): Promise<void> {
  const next = contentsOf(options.bigBytes);
  const warmUp = contentsOf(32 * mebibyte);
  for (let count = 0; count < 3; count++) await push(warmUp());
  const taken: { ours: Effort[]; sdk: Effort[] } = { ours: [], sdk: [] };
  for (let round = 0; round < options.rounds; round++) {
    taken.ours.push(await push(next()));
    await emptyBucket();
    taken.sdk.push(await directPush());
    await emptyBucket();
  }
  const rows = Object.entries(taken).map(([name, efforts]) => [
    name === 'ours' ? 'push to a node' : 'the SDK alone',
    figure(seconds(efforts)),
    figure(options.bigBytes / 1e6 / seconds(efforts)),
    figure(cpu(efforts)),
    efforts.map((effort) => figure(effort.seconds)).join(' '),
  ]);
  console.log(renderTable([`${options.bigBytes / mebibyte} MiB`, 'seconds', 'MB/s', 'CPU s', 'each round'], rows));
  console.log(verdict('throughput of a push / of the SDK alone', seconds(taken.sdk) / seconds(taken.ours), { atLeast: 0.8 }));
  console.log(`CPU of a push, Postgres with it / of the SDK alone: ${figure(cpu(taken.ours) / cpu(taken.sdk))}`);
}

function seconds(efforts: readonly Effort[]): number {
  return median(efforts.map((effort) => effort.seconds));
}

function cpu(efforts: readonly Effort[]): number {
  return median(efforts.map((effort) => effort.cpu));
}

async function measureMemory(): Promise<void> {
  const next = contentsOf(parallelBytes);
  const contents = Array.from({ length: parallel }, next);
  if (!resetPeakRss(node.pid)) throw new Error('this kernel does not let the peak of resident memory be reset');
  const { seconds: taken, errors } = await timeOperations(address, { count: parallel, width: parallel }, (connection, index) =>
    pushBlob(connection, 'bench/memory', contents[index] ?? next()),
  );
  const peak = peakRssMiB(node.pid);
  const rate = figure((parallel * parallelBytes) / 1e6 / taken);
  console.log(`${parallel} pushes of ${parallelBytes / mebibyte} MiB at once: ${figure(taken)} s, ${rate} MB/s, ${errors} errors`);
  console.log(verdict('peak of resident memory', peak, { atMost: 500 }, ' MiB'));
  if (errors > 0) process.exitCode = 1;
}

async function push(content: Content): Promise<Effort> {
  const connection = new Connection(address);
  const before = cpuSeconds(node.pid, root);
  const start = performance.now();
  await pushBlob(connection, 'bench/push', content);
  const wall = (performance.now() - start) / 1000;
  const after = cpuSeconds(node.pid, root);
  connection.close();
  return { seconds: wall, cpu: after.server + after.postgres - before.server - before.postgres };
}

function directPush(): Promise<Effort> {
  const { endpoint, accessKeyId, secretAccessKey } = server;
  return pushDirectly({
    key: 'data/direct',
    bytes: options.bigBytes,
    settings: {
      bucket: s3.bucket,
      region: undefined,
      endpoint,
      publicEndpoint: undefined,
      prefix: '',
      forcePathStyle: true,
      credentials: { accessKeyId, secretAccessKey, sessionToken: undefined },
      ca: undefined,
      sse: undefined,
      redirect: false,
      partSizeBytes,
      equalParts: false,
      deleteObjectsChecksum: 'crc32',
    },
  });
}

/** The memory that the data lie in is for the next round. */
async function emptyBucket(): Promise<void> {
  const { client } = server;
  for await (const { Contents = [] } of paginateListObjectsV2({ client }, { Bucket: s3.bucket, Prefix: 'data/' })) {
    const Objects = Contents.map(({ Key }) => ({ Key }));
    if (Objects.length > 0) await client.send(new DeleteObjectsCommand({ Bucket: s3.bucket, Delete: { Objects } }));
  }
}
