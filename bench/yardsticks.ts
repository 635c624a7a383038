// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Programs that do a part of a registry's work with nothing around it, and clients that are programs of their own. */
import { execFile } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { DirectPush } from './direct-s3-push.js';
import { endedChildrenCpuSeconds } from './process-usage.js';

const run = promisify(execFile);

export interface Effort {
  readonly seconds: number;
  readonly cpu: number;
}

/** hash-and-write.ts in a process of its own; without a directory it only hashes. */
export async function hashAndWrite(bytes: number, directory?: string): Promise<Effort> {
  const script = fileURLToPath(new URL('hash-and-write.ts', import.meta.url));
  const file = directory === undefined ? [] : [join(directory, `hash-and-write-${process.pid}`)];
  const { stdout } = await run(process.execPath, ['--import', 'tsx', script, String(bytes), ...file]);
  return JSON.parse(stdout) as Effort;
}

/** direct-s3-push.ts in a process of its own. */
export async function pushDirectly(push: DirectPush): Promise<Effort> {
  const script = fileURLToPath(new URL('direct-s3-push.ts', import.meta.url));
  const { stdout } = await run(process.execPath, ['--import', 'tsx', script, JSON.stringify(push)]);
  return JSON.parse(stdout) as Effort;
}

/** `dd conv=fsync` of a file into a directory; the copy is removed. */
export async function copyWithDd(from: string, directory: string): Promise<Effort> {
  const to = join(directory, `dd-${process.pid}`);
  const start = performance.now();
  const startCpu = endedChildrenCpuSeconds();
  await run('dd', [`if=${from}`, `of=${to}`, 'bs=4M', 'conv=fsync']);
  const effort = { seconds: (performance.now() - start) / 1000, cpu: endedChildrenCpuSeconds() - startCpu };
  rmSync(to);
  return effort;
}

/** curl to /dev/null; throws unless it got 200 and `bytes` bytes. Seconds are the transfer's own. */
export async function fetchWithCurl(url: string, bytes: number): Promise<Effort> {
  const startCpu = endedChildrenCpuSeconds();
  const { stdout } = await run('curl', ['-s', '-o', '/dev/null', '-w', '%{http_code} %{size_download} %{time_total}', url]);
  const [status, size, seconds] = stdout.split(' ').map(Number);
  if (status !== 200 || size !== bytes) throw new Error(`${url} answered ${stdout}`);
  return { seconds: seconds ?? 0, cpu: endedChildrenCpuSeconds() - startCpu };
}
