// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Two nodes over one Postgres and one store, of which each is given every second request. */
import { freshDatabase } from './postgres.js';
import { startRegistry } from './registry.js';
import { startRoundRobin } from './round-robin.js';
import type { TestStore } from './stores.js';

export interface TwoNodes {
  readonly port: number;
  /** Requests that each node was given. */
  readonly counts: readonly number[];
  /** Rejects when a node does not end well. */
  stop(): Promise<void>;
}

/** One of each engine: what one begins the other must be able to go on with. */
export async function startTwoNodes({ root, storage }: TestStore, settings: object = {}): Promise<TwoNodes> {
  const { url } = await freshDatabase();
  const start = (engine: string) =>
    startRegistry({
      root,
      config: { workers: { threads: 1 }, log: { level: 'warn' }, database: { url }, storage, ...settings, server: { engine } },
    });
  const nodes = [await start('uws'), await start('node')];
  const proxy = await startRoundRobin(nodes.map(({ port }) => port));
  return {
    port: proxy.port,
    counts: proxy.counts,
    async stop() {
      await proxy.stop();
      const codes = await Promise.all(nodes.map((node) => node.stop()));
      if (codes.some((code) => code !== 0))
        throw new Error(`the nodes ended with ${codes.join(', ')}\n${nodes.map((node) => node.log()).join('')}`);
    },
  };
}
