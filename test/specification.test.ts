// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * The distribution specification, data set by data set, on both engines and stores, with default settings, and with manifests that may be incomplete.
 * It asks for what the official suite asks for (`npm run conformance`), and needs no network.
 */
import t from 'tap';
import { checkEverything } from './specification/everything.js';
import { FollowingClient } from './support/http-client.js';
import { stopS3Servers } from './support/s3-server.js';
import { missingStore } from './support/stores.js';
import { startWireNode, stopWireNode } from './support/wire-suite.js';

const settings = { default: {}, sparse: { manifests: { sparse: 'accept' } } };

/** On S3 every setting once, and each engine with and without redirects: it is the official suite that takes the time for all of it. */
const matrix = [
  ['uws', 'filesystem', 'default'],
  ['uws', 'filesystem', 'sparse'],
  ['node', 'filesystem', 'default'],
  ['node', 'filesystem', 'sparse'],
  ['uws', 's3', 'default'],
  ['node', 's3', 'sparse'],
  ['node', 's3 with redirects', 'default'],
  ['uws', 's3 with redirects', 'sparse'],
] as const;

t.jobs = 2;
t.teardown(stopS3Servers);
for (const [engine, store, title] of matrix) {
  void t.test(`${engine}, ${store}, ${title}`, { buffered: true, skip: await missingStore(store) }, async (t) => {
    const node = await startWireNode(engine, settings[title], { store });
    t.teardown(() => stopWireNode(node));
    const client = store === 's3 with redirects' ? new FollowingClient(node.port) : node.client;
    t.teardown(() => client.close());
    await checkEverything(t, client, title === 'sparse');
  });
}
