// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The distribution specification again, through two nodes of which each is given every second request. */
import t from 'tap';
import { checkEverything } from '../specification/everything.js';
import { FollowingClient, HttpClient } from '../support/http-client.js';
import { stopS3Servers } from '../support/s3-server.js';
import { missingStore, newStore } from '../support/stores.js';
import { startTwoNodes } from '../support/two-nodes.js';

const settings = { default: {}, sparse: { manifests: { sparse: 'accept' } } };

t.jobs = 2;
t.teardown(stopS3Servers);
for (const [store, title] of [
  ['filesystem', 'default'],
  ['filesystem', 'sparse'],
  ['s3', 'default'],
  ['s3 with redirects', 'sparse'],
] as const) {
  void t.test(`two nodes, ${store}, ${title}`, { buffered: true, skip: await missingStore(store) }, async (t) => {
    const nodes = await startTwoNodes(await newStore(store), settings[title]);
    const client = store === 's3 with redirects' ? new FollowingClient(nodes.port) : new HttpClient(nodes.port);
    t.teardown(async () => {
      client.close();
      await nodes.stop();
    });
    await checkEverything(t, client, title === 'sparse');
    t.ok(
      nodes.counts.every((count) => count > 300),
      `requests to each node: ${nodes.counts.join(', ')}`,
    );
  });
}
