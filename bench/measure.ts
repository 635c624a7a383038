// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { cpuSeconds, peakRssMiB, resetPeakRss } from './process-usage.js';
import type { Server } from './servers.js';
import { median } from './statistics.js';
import type { Address } from './wire.js';

/** A registry to measure: one that was started here, or a peer by its address and perhaps its pid. */
export interface Target {
  readonly name: string;
  readonly address: Address;
  readonly pid?: number | undefined;
  readonly directory?: string | undefined;
  /** Present when the target may be started anew without data, for work that writes much. */
  readonly renew?: () => Promise<void>;
  /** The end of its log, to be shown when it answered with errors. */
  readonly lastWords?: () => string;
}

export interface Outcome {
  readonly client: string;
  /** Requests, operations or bytes. */
  readonly amount: number;
  readonly seconds: number;
  readonly p50: number;
  readonly p99: number;
  readonly errors: number;
}

export interface Sample extends Outcome {
  /** NaN where the target's process is not known. */
  readonly serverCpu: number;
  readonly postgresCpu: number;
  readonly peakRss: number;
}

export function targetOf(server: Server): Target {
  return {
    name: server.name,
    get address() {
      return server.address;
    },
    get pid() {
      return server.pid;
    },
    directory: server.directory,
    renew: () => server.renew(),
    lastWords: () => server.lastWords(),
  };
}

export async function measure({ pid, directory }: Target, work: () => Promise<Outcome>): Promise<Sample> {
  if (pid === undefined) return { ...(await work()), serverCpu: Number.NaN, postgresCpu: Number.NaN, peakRss: Number.NaN };
  resetPeakRss(pid);
  const before = cpuSeconds(pid, directory);
  const outcome = await work();
  const after = cpuSeconds(pid, directory);
  return { ...outcome, serverCpu: after.server - before.server, postgresCpu: after.postgres - before.postgres, peakRss: peakRssMiB(pid) };
}

/** The median of each figure; errors are added up. */
export function medianSample(samples: readonly Sample[]): Sample {
  const middle = (pick: (sample: Sample) => number) => median(samples.map(pick));
  return {
    client: samples[0]?.client ?? '',
    amount: middle(({ amount }) => amount),
    seconds: middle(({ seconds }) => seconds),
    p50: middle(({ p50 }) => p50),
    p99: middle(({ p99 }) => p99),
    errors: samples.reduce((sum, { errors }) => sum + errors, 0),
    serverCpu: middle(({ serverCpu }) => serverCpu),
    postgresCpu: middle(({ postgresCpu }) => postgresCpu),
    peakRss: middle(({ peakRss }) => peakRss),
  };
}
