// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * The distribution specification, data set by data set, on both engines: with default settings, and with manifests that may be incomplete.
 * It asks for what the official suite asks for (`npm run conformance`), and needs no network.
 */
import t from 'tap';
import { checkEverything } from './specification/everything.js';
import { engines, startWireNode, stopWireNode } from './support/wire-suite.js';

const settings = [
  { title: 'default settings', sparse: false, registry: {} },
  { title: 'sparse manifests', sparse: true, registry: { manifests: { sparse: 'accept' } } },
];

t.jobs = 2;
for (const engine of engines) {
  for (const { title, sparse, registry } of settings) {
    void t.test(`${engine}, ${title}`, { buffered: true }, async (t) => {
      const node = await startWireNode(engine, registry);
      t.teardown(() => stopWireNode(node));
      await checkEverything(t, node.client, sparse);
    });
  }
}
