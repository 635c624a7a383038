// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Journal } from '../journal/write-entries.js';
import { importDistribution } from '../rebuild/import-distribution.js';
import type { Counts } from '../rebuild/rebuild-queries.js';
import { rebuild, type RebuildProgress } from '../rebuild/rebuild.js';
import type { Finding } from '../rebuild/read-group.js';
import { verifyData } from '../rebuild/verify-data.js';
import { loadHasher } from '../worker/hash.js';
import { showProgress, UsageError, type Command, type CommandInput } from './command.js';
import { withJournal } from './with-journal.js';
import { openParts, type Parts } from './open-parts.js';

/** `ha-registry rebuild`: the database from the store. */
export const rebuildCommand: Command = {
  usage: `ha-registry rebuild [--replace | --from distribution] [--verify] [--json] [options]

  Restores an empty database from the store: repositories, manifests, blobs, tags with their history. No node may run. Goes on where it was interrupted.

  --replace            throw away what the database holds first
  --from distribution  take over, in place, what CNCF distribution (docker-registry) wrote into this store; beside running nodes, and again to catch up
  --verify             read all blobs and compare them with their digests
  --json               the result as JSON
`,
  options: {
    replace: { type: 'boolean' },
    from: { type: 'string' },
    verify: { type: 'boolean' },
    json: { type: 'boolean' },
  },
  async run({ config, version, values }: CommandInput) {
    const from = values['from'];
    if (from !== undefined && from !== 'distribution') throw new UsageError(`--from ${String(from)}: distribution is the one there is`);
    if (from !== undefined && values['replace'] === true)
      throw new UsageError('--from adds to what the database holds: it goes without --replace');
    const parts = await openParts(config);
    try {
      if (from === undefined) return await rebuildFromStore(parts, config.workers.hash, values);
      return await withJournal(parts, version, (journal) => takeOver(journal, config.workers.hash, values));
    } finally {
      await parts.close();
    }
  },
};

type Hash = Parameters<typeof loadHasher>[0];

/** Exit code 0 also where something was quarantined: the rest is served, and the report says what is not. */
async function rebuildFromStore({ database, store }: Parts, hash: Hash, values: CommandInput['values']): Promise<number> {
  const report = new Report(values['json'] === true);
  const counts = await rebuild(
    { database, store },
    {
      replace: values['replace'] === true,
      verify: values['verify'] === true ? verifyData(store, await loadHasher(hash)) : undefined,
      onProgress: (progress) => report.progress(progress),
      onFinding: (finding) => report.finding(finding),
    },
  );
  report.end('restored', counts, 'garbage collection begins in a day at the earliest');
  return 0;
}

async function takeOver(journal: Journal, hash: Hash, values: CommandInput['values']): Promise<number> {
  const report = new Report(values['json'] === true);
  const counts = await importDistribution(journal, {
    verify: values['verify'] === true ? verifyData(journal.store, await loadHasher(hash)) : undefined,
    onProgress: (progress) => report.progress(progress),
    onFinding: (finding) => report.finding(finding),
  });
  if (counts === undefined)
    throw new Error(`${journal.store.location} holds nothing of distribution's (docker/registry/v2/repositories/…)`);
  report.end('took over', counts, 'nothing of the original was changed: it can still be read by what wrote it');
  return 0;
}

/** What the operator is told, on the way and at the end. */
class Report {
  private readonly since = performance.now();
  private readonly json: boolean;
  private readonly listed: Finding[] = [];
  private findings = 0;
  private last = 0;

  constructor(json: boolean) {
    this.json = json;
  }

  progress(progress: Counts & { readonly parts?: RebuildProgress['parts'] }): void {
    if (performance.now() - this.last < progressEveryMs) return;
    this.last = performance.now();
    showProgress(progressLine(progress, this.findings, performance.now() - this.since));
  }

  finding(finding: Finding): void {
    this.findings++;
    if (this.listed.length < mostFindings) this.listed.push(finding);
  }

  end(done: string, counts: Counts, note: string): void {
    showProgress('');
    const seconds = Math.round(performance.now() - this.since) / 1000;
    const { repositories, manifests, links, tags } = counts;
    if (this.json) {
      print(JSON.stringify({ repositories, manifests, links, tags, seconds, findings: this.findings, listed: this.listed }));
      return;
    }
    for (const { key, reason, kept } of this.listed) print(`${kept === undefined ? 'not served' : 'found'}: ${key}: ${reason}`);
    if (this.findings > this.listed.length) print(`and ${this.findings - this.listed.length} more`);
    print(
      `${done} ${repositories} repositories, ${manifests} manifests, ${links} links, ${tags} tags in ${seconds} s; ${this.findings} findings`,
    );
    print(note);
  }
}

const progressEveryMs = 200;
/** In the report; more than an operator reads. All of them are in the table. */
const mostFindings = 10_000;
const barWidth = 24;

function progressLine(
  { parts, repositories, manifests, tags }: Counts & { readonly parts?: RebuildProgress['parts'] },
  findings: number,
  elapsedMs: number,
): string {
  const filled = parts === undefined ? 0 : Math.floor((parts.done / parts.all) * barWidth);
  const bar = parts === undefined ? '' : `[${'#'.repeat(filled)}${' '.repeat(barWidth - filled)}] `;
  const rate = Math.round(manifests / (elapsedMs / 1000));
  return `${bar}${repositories} repositories, ${manifests} manifests (${rate}/s), ${tags} tags, ${findings} findings`;
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
