// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { rebuild, type RebuildProgress } from '../rebuild/rebuild.js';
import type { Finding } from '../rebuild/read-group.js';
import { verifyData } from '../rebuild/verify-data.js';
import { loadHasher } from '../worker/hash.js';
import { showProgress, type Command, type CommandInput } from './command.js';
import { openParts, type Parts } from './open-parts.js';

/** `ha-registry rebuild`: the database from the store. */
export const rebuildCommand: Command = {
  usage: `ha-registry rebuild [--replace] [--verify] [--json] [options]

  Restores an empty database from the store: repositories, manifests, blobs, tags with their history. No node may run. Goes on where it was interrupted.

  --replace            throw away what the database holds first
  --verify             read all blobs and compare them with their digests
  --json               the result as JSON
`,
  options: {
    replace: { type: 'boolean' },
    verify: { type: 'boolean' },
    json: { type: 'boolean' },
  },
  async run({ config, values }: CommandInput) {
    const parts = await openParts(config);
    try {
      return await rebuildFromStore(parts, config.workers.hash, values);
    } finally {
      await parts.close();
    }
  },
};

/** Exit code 0 also where something was quarantined: the rest is served, and the report says what is not. */
async function rebuildFromStore(parts: Parts, hash: Parameters<typeof loadHasher>[0], values: CommandInput['values']): Promise<number> {
  const since = performance.now();
  const json = values['json'] === true;
  const findings: Finding[] = [];
  let last = 0;
  const result = await rebuild(parts, {
    replace: values['replace'] === true,
    verify: values['verify'] === true ? verifyData(parts.store, await loadHasher(hash)) : undefined,
    onProgress(progress) {
      if (performance.now() - last < progressEveryMs) return;
      last = performance.now();
      showProgress(progressLine(progress, performance.now() - since));
    },
    onFinding(finding) {
      if (findings.length < mostFindings) findings.push(finding);
    },
  });
  showProgress('');
  const seconds = Math.round(performance.now() - since) / 1000;
  const { repositories, links, manifests, tags } = result;
  if (json) {
    print(JSON.stringify({ repositories, links, manifests, tags, seconds, findings: result.findings, listed: findings }));
    return 0;
  }
  for (const { key, reason, kept } of findings) print(`${kept === undefined ? 'quarantined' : 'found'} ${key}: ${reason}`);
  if (result.findings > findings.length)
    print(`and ${result.findings - findings.length} more; what is not served stands in the table "quarantine"`);
  print(
    `restored ${repositories} repositories, ${manifests} manifests, ${links} links, ${tags} tags in ${seconds} s; ${result.findings} findings`,
  );
  print('garbage collection begins in a day at the earliest');
  return 0;
}

const progressEveryMs = 200;
/** In the report; more than an operator reads. All of them are in the table. */
const mostFindings = 10_000;
const barWidth = 24;

function progressLine({ parts, repositories, manifests, tags, findings }: RebuildProgress, elapsedMs: number): string {
  const filled = Math.floor((parts.done / parts.all) * barWidth);
  const rate = Math.round(manifests / (elapsedMs / 1000));
  return `[${'#'.repeat(filled)}${' '.repeat(barWidth - filled)}] ${repositories} repositories, ${manifests} manifests (${rate}/s), ${tags} tags, ${findings} findings`;
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
