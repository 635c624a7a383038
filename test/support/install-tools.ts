// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Installs the programs that tests need, before the tests' own time begins: `npx tsx test/support/install-tools.ts NAME…` (all, without a name). */
import { findTool, tools, type Tool } from './tools.js';

const names = process.argv.slice(2);
for (const name of names.length === 0 ? tools : tools.filter((tool) => names.includes(tool))) {
  const since = performance.now();
  const found = await findTool(name satisfies Tool);
  const seconds = ((performance.now() - since) / 1000).toFixed(0);
  console.log(`${name}: ${'path' in found ? `there, after ${seconds} s` : `MISSING: ${found.missing}`}`);
}
