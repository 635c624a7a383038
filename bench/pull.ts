// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** A 1 GiB pull by curl against nginx with sendfile, both from the page cache. Says how busy curl was: near 100 %, curl was measured. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { contentsOf } from './content.js';
import { installed, nginx } from './launches.js';
import { readOptions } from './options.js';
import { cpuSeconds } from './process-usage.js';
import { pushBlob } from './push.js';
import { Server } from './servers.js';
import { median } from './statistics.js';
import { figure, renderTable, verdict } from './table.js';
import { Connection } from './wire.js';
import { fetchWithCurl } from './yardsticks.js';

if (!installed('nginx') || !installed('curl')) throw new Error('this bench needs nginx and curl');
const options = readOptions(5);
const content = contentsOf(options.bigBytes)();
const servers = [await Server.start('ours', options.disk, options.registry), await Server.start('nginx', options.disk, nginx)] as const;
try {
  const [ours, theirs] = servers;
  const connection = new Connection(ours.address);
  await pushBlob(connection, 'bench/pull', content);
  connection.close();
  await writeFile(join(theirs.directory, 'files', 'blob'), content.parts());
  const paths = new Map([
    [ours, `/v2/bench/pull/blobs/${content.digest}`],
    [theirs, '/blob'],
  ]);
  const taken = new Map(servers.map((server) => [server, { seconds: [] as number[], busy: [] as number[], cpu: [] as number[] }]));
  for (let round = 0; round <= options.rounds; round++) {
    for (const server of servers) {
      const before = cpuSeconds(server.pid, server.directory);
      const { seconds, cpu } = await fetchWithCurl(`http://127.0.0.1:${server.address.port}${paths.get(server)}`, content.bytes);
      const after = cpuSeconds(server.pid, server.directory);
      if (round === 0) continue; // The warm-up.
      taken.get(server)?.seconds.push(seconds);
      taken.get(server)?.busy.push((cpu / seconds) * 100);
      taken.get(server)?.cpu.push(after.server - before.server);
    }
  }
  const rows = [...taken].map(([{ name }, { seconds, busy, cpu }]) => {
    const rates = seconds.map((each) => content.bytes / each / 1e6);
    return [name, figure(median(rates)), rates.map(figure).join(' '), figure(median(cpu)), `${figure(median(busy))} %`];
  });
  console.log(renderTable(['server', 'MB/s, median', 'each round', 'server CPU s', 'curl busy'], rows));
  const rate = (server: Server) => content.bytes / median(taken.get(server)?.seconds ?? []);
  console.log(verdict('pull / nginx', rate(ours) / rate(theirs), { atLeast: 1 }));
} finally {
  for (const server of servers) await server.stop();
}
