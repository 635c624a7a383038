// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Resident memory of the Node process: ten rounds of 32 parallel 100 MiB pushes, and 200 pushes of 2 KB that stand open at once. */
import { randomBytes } from 'node:crypto';
import { EventEmitter, once } from 'node:events';
import { statfsSync } from 'node:fs';
import { type Content, contentFrom, contentsOf, mebibyte } from './content.js';
import { readOptions } from './options.js';
import { peakRssMiB, resetPeakRss, rssMiB } from './process-usage.js';
import { pushBlob } from './push.js';
import { Server } from './servers.js';
import { figure, renderTable, verdict } from './table.js';
import { fill } from './timing.js';

const options = readOptions(10, 4);
const parallel = 32;
const next = contentsOf((options.quick ? 10 : 100) * mebibyte);
const openPushCount = 200;

const needed = options.rounds * parallel * next().bytes;
const { bavail, bsize } = statfsSync(options.disk);
if (bavail * bsize < needed * 1.2)
  throw new Error(`${options.disk} has less room than the ${figure(needed / 1e9)} GB that this bench writes`);
const server = await Server.start('ours', options.disk, options.registry);
try {
  await measureOpenPushes();
  await measureRounds();
} finally {
  await server.stop();
}

async function measureRounds(): Promise<void> {
  const peaks: number[] = [];
  const rows: string[][] = [];
  for (let round = 1; round <= options.rounds; round++) {
    if (!resetPeakRss(server.pid)) throw new Error('this kernel does not let the peak of resident memory be reset');
    const contents = Array.from({ length: parallel }, next);
    const start = performance.now();
    await fill(server, { count: parallel, width: parallel }, (connection, index) =>
      pushBlob(connection, 'bench/memory', contents[index] ?? next()),
    );
    const seconds = (performance.now() - start) / 1000;
    peaks.push(peakRssMiB(server.pid));
    rows.push([String(round), figure(seconds), figure(peaks.at(-1)), figure(rssMiB(server.pid))]);
  }
  console.log(renderTable(['round', 'seconds', 'peak MiB', 'MiB at the end'], rows));
  console.log(verdict('peak of all rounds', Math.max(...peaks), { atMost: 400 }, ' MiB'));
  const growth = ((peaks.at(-1) ?? Number.NaN) / (peaks[2] ?? Number.NaN) - 1) * 100;
  console.log(verdict('growth of the peak from the third round to the last', growth, { atMost: 5 }, ' %'));
}

/** Were a push of 2 KB to take a 4 MiB buffer, 200 of them would take 800 MiB, or wait for each other. */
async function measureOpenPushes(): Promise<void> {
  await fill(server, { count: 50, width: 10 }, (connection) => pushBlob(connection, 'bench/small', contentFrom(randomBytes(2048))));
  const before = rssMiB(server.pid);
  let grown = Number.NaN;
  let open = 0;
  const gate = new EventEmitter();
  const released = once(gate, 'release');
  const halfSent = (data: Buffer): Content => ({
    ...contentFrom(data),
    async *parts() {
      yield data.subarray(0, 1000);
      if (++open === openPushCount) setTimeout(() => gate.emit('release', (grown = rssMiB(server.pid) - before)), 1000);
      await released;
      yield data.subarray(1000);
    },
  });
  const size = { count: openPushCount, width: openPushCount };
  await fill(server, size, (connection) => pushBlob(connection, 'bench/small', halfSent(randomBytes(2048))));
  console.log(
    `${openPushCount} pushes of 2 KB: ${figure(before)} MiB before, ${figure(grown)} MiB more while all stood open half sent; all succeeded`,
  );
  console.log(verdict('memory of one open push of 2 KB', (grown * 1024) / openPushCount, { atMost: 256 }, ' KiB'));
}
