// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * The distribution specification, data set by data set, on both engines and stores, with default settings, and with manifests that may be incomplete; open to all, and
 * for whoever logs in. It asks for what the official suite asks for (`npm run conformance`), and needs no network.
 */
import t from 'tap';
import { basic, settings as accessSettings } from './access/people.js';
import { checkEverything } from './specification/everything.js';
import { FollowingClient, type HttpClient } from './support/http-client.js';
import { stopS3Servers } from './support/s3-server.js';
import { missingStore } from './support/stores.js';
import { TokenClient } from './support/token-client.js';
import { startWireNode, stopWireNode, type WireNode } from './support/wire-suite.js';

const settings = { default: {}, sparse: { manifests: { sparse: 'accept' } } };
const access = { open: {}, 'logged in': await accessSettings() };

/**
 * Each engine with each setting, once open and once not; on S3 each engine with and without redirects: it is the official suite that takes the time for all of it. On a
 * filesystem and open to all are the two nodes of nodes/specification.test.ts.
 */
const matrix = [
  ['uws', 'filesystem', 'default', 'logged in'],
  ['uws', 'filesystem', 'sparse', 'logged in'],
  ['node', 'filesystem', 'default', 'logged in'],
  ['node', 'filesystem', 'sparse', 'open'],
  ['uws', 's3', 'default', 'open'],
  ['node', 's3', 'sparse', 'logged in'],
  ['node', 's3 with redirects', 'default', 'open'],
  ['uws', 's3 with redirects', 'sparse', 'open'],
] as const;

t.jobs = 2;
t.teardown(stopS3Servers);
for (const [engine, store, title, who] of matrix) {
  void t.test(`${engine}, ${store}, ${title}, ${who}`, { buffered: true, skip: await missingStore(store) }, async (t) => {
    const node = await startWireNode(engine, { ...settings[title], ...access[who] }, { store });
    t.teardown(() => stopWireNode(node));
    const client = clientOf(node, store, who);
    t.teardown(() => client.close());
    await checkEverything(t, client, title === 'sparse');
    if (client instanceof TokenClient) {
      t.ok(client.scopes.length * 20 < client.requests, `a token is used for much: ${client.requests} requests by ${client.scopes.length}`);
    }
  });
}

function clientOf({ port, client }: WireNode, store: string, who: keyof typeof access): HttpClient {
  if (who === 'logged in') return new TokenClient(port, basic('admin'));
  return store === 's3 with redirects' ? new FollowingClient(port) : client;
}
