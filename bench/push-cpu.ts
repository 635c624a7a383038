// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Server CPU of a 1 GiB push against a plain script that hashes, writes and fsyncs as much; on disk and in memory. */
import { type Content, contentsOf, mebibyte } from './content.js';
import { measure, medianSample, targetOf } from './measure.js';
import { readOptions } from './options.js';
import { type BlobWay, pushBlob } from './push.js';
import { Server } from './servers.js';
import { median } from './statistics.js';
import { figure, renderTable, verdict } from './table.js';
import { Connection } from './wire.js';
import { type Effort, hashAndWrite } from './yardsticks.js';

const options = readOptions(3);
const next = contentsOf(options.bigBytes);
const warmUp = contentsOf(16 * mebibyte);
const rows: string[][] = [];
const verdicts: string[] = [];
for (const [place, directory] of Object.entries({ disk: options.disk, tmpfs: options.memory })) await compare(place, directory);
console.log(renderTable(['place', 'what', 'CPU s', 'of it Postgres', 'wall s', 'peak MiB', 'ratio'], rows));
console.log(verdicts.join('\n'));

async function compare(place: string, directory: string): Promise<void> {
  const server = await Server.start('registry', directory, options.registry);
  const target = targetOf(server);
  try {
    const samples = { put: [] as Awaited<ReturnType<typeof measure>>[], patch: [] as Awaited<ReturnType<typeof measure>>[] };
    const plain: Effort[] = [];
    for (let round = 0; round < options.rounds; round++) {
      await server.renew();
      await push(server, 'put', warmUp());
      for (const way of ['put', 'patch'] as const) {
        const content = next();
        samples[way].push(await measure(target, () => push(server, way, content)));
      }
      plain.push(await hashAndWrite(options.bigBytes, directory));
    }
    const yardstick = median(plain.map(({ cpu }) => cpu));
    rows.push([place, 'hash, write, fsync', figure(yardstick), '', figure(median(plain.map(({ seconds }) => seconds))), '', '']);
    for (const way of ['put', 'patch'] as const) {
      const { serverCpu, postgresCpu, seconds, peakRss } = medianSample(samples[way]);
      const ratio = (serverCpu + postgresCpu) / yardstick;
      rows.push([place, `push by ${way}`, ...[serverCpu + postgresCpu, postgresCpu, seconds, peakRss, ratio].map(figure)]);
      verdicts.push(verdict(`CPU of a push by ${way} on ${place} / hash, write and fsync`, ratio, { atMost: 1.5 }));
    }
  } finally {
    await server.stop();
  }
}

async function push({ address }: Server, way: BlobWay, content: Content) {
  const connection = new Connection(address);
  const start = performance.now();
  await pushBlob(connection, 'bench/push', content, way);
  const seconds = (performance.now() - start) / 1000;
  connection.close();
  return { client: 'net', amount: content.bytes, seconds, p50: seconds, p99: seconds, errors: 0 };
}
