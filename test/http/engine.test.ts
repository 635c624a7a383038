// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The contract of `src/http/contract.ts`, on both engines. */
import t from 'tap';
import { chooseEngine } from '../../src/http/engine/choose-engine.js';
import { nodeServe } from '../../src/http/engine/node-server.js';
import { loadUws } from '../../src/http/engine/uws-server.js';
import { loadAddon } from '../../src/worker/addon.js';
import { bodiesSuite } from './engine-bodies.js';
import { lifetimeSuite } from './engine-lifetime.js';
import { repliesSuite } from './engine-replies.js';
import { startSlowCases } from './engine-slow.js';
import type { Stage } from './engine-stage.js';
import { tlsSuite } from './engine-tls.js';

const setReceiveBuffer = loadAddon()?.setReceiveBuffer;
const uws = await loadUws(setReceiveBuffer);
const stages: Stage[] = [{ engine: 'node', serve: nodeServe(setReceiveBuffer) }];
if (typeof uws === 'function') stages.unshift({ engine: 'uws', serve: uws });
else t.comment(`NOT TESTED: uWebSockets.js does not load: ${uws.reason}`);

await t.test('the choice of an engine', async (t) => {
  t.match(await chooseEngine('auto'), { engine: 'node', reason: /addon/ });
  t.match(await chooseEngine('node', () => 1), { engine: 'node' });
  if (typeof uws === 'function') {
    t.match(await chooseEngine('auto', () => 1), { engine: 'uws' });
    t.match(await chooseEngine('uws'), { engine: 'uws' });
  } else await t.rejects(chooseEngine('uws'), /does not load/);
});

t.jobs = stages.length;
const slowCases = stages.flatMap((stage) => startSlowCases(t, stage));

const suites = stages.map((stage) =>
  t.test(stage.engine, { buffered: true }, async (t) => {
    await t.test('replies', (t) => repliesSuite(t, stage));
    await t.test('bodies', (t) => bodiesSuite(t, stage));
    await t.test('lifetime', (t) => lifetimeSuite(t, stage));
    await t.test('TLS', (t) => tlsSuite(t, stage));
  }),
);
await Promise.all(suites);

await t.test('what takes its time', async (t) => {
  for (const { name, outcome } of slowCases) {
    const { found, wanted } = await outcome;
    t.same(found, wanted, name);
  }
});
