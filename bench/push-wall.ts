// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Wall clock of a 1 GiB push: in memory against docker-registry 2.8, on disk against `dd conv=fsync` and the time to hash as much. */
import { mkdtempSync, rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Content, contentsOf, mebibyte } from './content.js';
import { dockerRegistry, type ServerKind } from './launches.js';
import { readOptions } from './options.js';
import { pushBlob } from './push.js';
import { Server } from './servers.js';
import { median } from './statistics.js';
import { figure, renderTable, verdict } from './table.js';
import { Connection } from './wire.js';
import { copyWithDd, hashAndWrite } from './yardsticks.js';

const options = readOptions(3);
const next = contentsOf(options.bigBytes);
const warmUp = contentsOf(16 * mebibyte);

const inMemory = await alternate({
  ours: () => pushAfresh(options.registry, options.memory),
  'docker-registry': () => pushAfresh(dockerRegistry, options.memory),
});
const scratch = mkdtempSync(join(options.memory, 'ha-registry-bench-'));
try {
  const source = join(scratch, 'source');
  await writeFile(source, next().parts());
  const onDisk = await alternate({
    ours: () => pushAfresh(options.registry, options.disk),
    dd: async () => (await copyWithDd(source, options.disk)).seconds,
    hash: async () => (await hashAndWrite(options.bigBytes)).seconds,
  });
  const rows = [...rowsOf('tmpfs', inMemory), ...rowsOf('disk', onDisk)];
  console.log(renderTable(['place', 'what', 'seconds, median', 'each round'], rows));
  const [ours, theirs] = [median(inMemory.ours), median(inMemory['docker-registry'])];
  console.log(verdict('push in memory / docker-registry', ours / theirs, { atMost: 0.25 }));
  console.log(verdict('push on disk / (dd + hash)', median(onDisk.ours) / (median(onDisk.dd) + median(onDisk.hash)), { atMost: 1.3 }));
} finally {
  rmSync(scratch, { recursive: true });
}

/** A B C A B C: each works once a round; gives seconds. */
async function alternate<Name extends string>(works: Record<Name, () => Promise<number>>): Promise<Record<Name, number[]>> {
  const taken = Object.fromEntries(Object.keys(works).map((name) => [name, []])) as unknown as Record<Name, number[]>;
  for (let round = 0; round < options.rounds; round++) {
    for (const name of Object.keys(works) as Name[]) taken[name].push(await works[name]());
  }
  return taken;
}

async function pushAfresh(kind: ServerKind, directory: string): Promise<number> {
  const server = await Server.start('registry', directory, kind);
  try {
    for (let count = 0; count < 3; count++) await push(server, warmUp());
    return await push(server, next());
  } finally {
    await server.stop();
  }
}

async function push({ address }: Server, content: Content): Promise<number> {
  const connection = new Connection(address);
  const start = performance.now();
  await pushBlob(connection, 'bench/push', content);
  connection.close();
  return (performance.now() - start) / 1000;
}

function rowsOf(place: string, taken: Record<string, number[]>): string[][] {
  return Object.entries(taken).map(([name, seconds]) => [place, name, figure(median(seconds)), seconds.map(figure).join(' ')]);
}
