// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * The distribution specification, data set by data set, on both engines: with default settings, and with manifests that may be incomplete.
 * It asks for what the official suite asks for (`npm run conformance`), and needs no network.
 */
import t from 'tap';
import { checkBlobs } from './specification/blob-checks.js';
import { dataSets } from './specification/data-sets.js';
import { checkEmpty, checkManifestErrors, checkRefusedSparse, checkTags } from './specification/general-checks.js';
import { Place } from './specification/place.js';
import { checkDataSet, FormCycle } from './specification/set-checks.js';
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
      const [first, second] = ['repo1', 'repo2'].map((name) => new Place(node.client, `specification/${name}`));
      if (first === undefined || second === undefined) throw new Error('two repositories');
      await checkEmpty(t, first);
      // What an upload does cannot depend on what a manifest may lack.
      if (!sparse) for (const algorithm of ['sha256', 'sha512'] as const) await checkBlobs(t, algorithm, first, second);
      const forms = new FormCycle();
      for (const set of dataSets({ sparse })) await checkDataSet(t, set, first, forms);
      await checkManifestErrors(t, first);
      if (!sparse) await checkRefusedSparse(t, first);
      await checkTags(t, second);
    });
  }
}
