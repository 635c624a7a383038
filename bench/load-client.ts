// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Many small requests as fast as the server answers them, over keep-alive connections. */
import { execFile, spawnSync } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import autocannon from 'autocannon';
import { manifestType } from './push.js';
import { percentile } from './statistics.js';
import { timeOperations } from './timing.js';
import type { Address } from './wire.js';

export interface Load {
  readonly address: Address;
  readonly path: string;
  readonly seconds: number;
  readonly connections: number;
  /** A file of paths, one a line, to choose from at random in place of `path`; wrk only. */
  readonly pathsFile?: string;
  /** wrk only. */
  readonly token?: string | undefined;
}

export interface LoadResult {
  readonly client: string;
  readonly requests: number;
  readonly seconds: number;
  /** Milliseconds; autocannon gives whole ones. */
  readonly p50: number;
  readonly p99: number;
  /** Connections that broke, timeouts, and answers other than 2xx. */
  readonly errors: number;
}

export type LoadClient = (load: Load) => Promise<LoadResult>;

export function wrkInstalled(): boolean {
  return spawnSync('wrk', ['-v']).error === undefined;
}

export async function loadWithWrk({ address, path, seconds, connections, pathsFile, token }: Load): Promise<LoadResult> {
  const threads = String(Math.max(1, Math.min(connections, availableParallelism() >> 1)));
  const script = fileURLToPath(new URL('wrk.lua', import.meta.url));
  const url = `http://${address.host}:${address.port}${path}`;
  const flags = ['-t', threads, '-c', String(connections), '-d', `${seconds}s`, '--timeout', '10s', '-s', script];
  if (token !== undefined) flags.push('-H', `Authorization: Bearer ${token}`);
  const { stdout } = await promisify(execFile)('wrk', [...flags, url, '--', manifestType, ...(pathsFile === undefined ? [] : [pathsFile])]);
  const printed = JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as Omit<LoadResult, 'client'>;
  return { client: 'wrk', ...printed };
}

export async function loadWithAutocannon({ address, path, seconds, connections }: Load): Promise<LoadResult> {
  const url = `http://${address.host}:${address.port}${path}`;
  const result = await autocannon({ url, connections, duration: seconds, headers: { Accept: manifestType }, timeout: 10 });
  const { p50, p99 } = result.latency;
  return {
    client: 'autocannon',
    requests: result.requests.total,
    seconds: result.duration,
    p50,
    p99,
    errors: result.errors + result.non2xx,
  };
}

/**
 * Over raw sockets, for what the others cannot do: wrk and autocannon wait for the body that an answer to HEAD announces and does not
 * have, and autocannon makes a string of each body, so that 1 MB bodies measure autocannon.
 */
export function loadWithSockets(method: 'GET' | 'HEAD'): LoadClient {
  return async ({ address, path, seconds, connections }) => {
    const end = performance.now() + seconds * 1000;
    const latencies: number[] = [];
    const options = { count: connections, width: connections, readBufferBytes: 256 * 1024 };
    const { seconds: taken, errors } = await timeOperations(address, options, async (connection) => {
      while (performance.now() < end) {
        const start = performance.now();
        const { status } = await connection.request({ method, path, headers: { Accept: manifestType } });
        if (status !== 200) throw new Error(`${method} answered ${status}`);
        latencies.push(performance.now() - start);
      }
    });
    const [p50, p99] = [percentile(latencies, 0.5), percentile(latencies, 0.99)];
    return { client: 'net', requests: latencies.length, seconds: taken, p50, p99, errors };
  };
}
