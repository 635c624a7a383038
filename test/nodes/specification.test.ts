// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The distribution specification again, through two nodes of which each is given every second request. */
import t from 'tap';
import { checkEverything } from '../specification/everything.js';
import { HttpClient } from '../support/http-client.js';
import { freshDatabase } from '../support/postgres.js';
import { startRegistry, temporaryDirectory } from '../support/registry.js';
import { startRoundRobin } from '../support/round-robin.js';

const settings = [
  { title: 'default settings', sparse: false, registry: {} },
  { title: 'sparse manifests', sparse: true, registry: { manifests: { sparse: 'accept' } } },
];

t.jobs = 2;
for (const { title, sparse, registry } of settings) {
  void t.test(`two nodes, ${title}`, { buffered: true }, async (t) => {
    const { url } = await freshDatabase();
    const root = await temporaryDirectory('two-nodes-');
    // One of each engine: what one begins the other must be able to go on with.
    const start = (engine: string) =>
      startRegistry({
        root,
        config: { workers: { threads: 1 }, log: { level: 'warn' }, database: { url }, ...registry, server: { engine } },
      });
    const nodes = [await start('uws'), await start('node')];
    const proxy = await startRoundRobin(nodes.map(({ port }) => port));
    const client = new HttpClient(proxy.port);
    t.teardown(async () => {
      client.close();
      await proxy.stop();
      const codes = await Promise.all(nodes.map((node) => node.stop()));
      if (codes.some((code) => code !== 0)) throw new Error(`the nodes ended with ${codes.join(', ')}`);
    });
    await checkEverything(t, client, sparse);
    t.ok(
      proxy.counts.every((count) => count > 300),
      `requests to each node: ${proxy.counts.join(', ')}`,
    );
  });
}
