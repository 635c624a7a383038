// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { findCatchUp, setCaughtUp } from '../cluster/cluster-queries.js';
import type { ServerPool } from '../database/pool.js';
import type { Journal } from '../journal/write-entries.js';
import { catchUp } from '../rebuild/catch-up.js';
import { holdWalk } from '../rebuild/catch-up-queries.js';
import { importDistribution } from '../rebuild/import-distribution.js';
import type { Counts } from '../rebuild/rebuild-queries.js';
import { rebuild, type RebuildProgress } from '../rebuild/rebuild.js';
import type { Finding } from '../rebuild/read-group.js';
import { verifyData } from '../rebuild/verify-data.js';
import { loadHasher } from '../worker/hash.js';
import { print, showProgress, UsageError, type Command, type CommandInput } from './command.js';
import { withJournal } from './with-journal.js';
import { openParts, type Parts } from './open-parts.js';

/** `ha-registry rebuild`: the database from the store. */
export const rebuildCommand: Command = {
  usage: `ha-registry rebuild [--replace | --catch-up | --from distribution] [--verify] [--json] [options]

  Restores an empty database from the store: repositories, manifests, blobs, tags with their history. No node may run. Goes on where it was interrupted.

  --replace            throw away what the database holds first
  --catch-up           adopt what a database that went back in time lacks, and drop what the store does not hold; beside running nodes
  --from distribution  take over, in place, what CNCF distribution (docker-registry) wrote into this store; beside running nodes, and again to catch up
  --verify             read all blobs and compare them with their digests
  --json               the result as JSON
`,
  options: {
    replace: { type: 'boolean' },
    'catch-up': { type: 'boolean' },
    from: { type: 'string' },
    verify: { type: 'boolean' },
    json: { type: 'boolean' },
  },
  async run({ config, version, values }: CommandInput) {
    const from = values['from'];
    if (from !== undefined && from !== 'distribution') throw new UsageError(`--from ${String(from)}: distribution is the one there is`);
    if (from !== undefined && values['replace'] === true)
      throw new UsageError('--from adds to what the database holds: it goes without --replace');
    const catchesUp = values['catch-up'] === true;
    if (catchesUp && (from !== undefined || values['replace'] === true || values['verify'] === true))
      throw new UsageError('--catch-up goes without --replace, --from and --verify');
    const parts = await openParts(config, { begins: !catchesUp, matches: catchesUp || from !== undefined });
    try {
      if (catchesUp) return await withJournal(parts, version, (journal) => catchUpWith(journal, parts.database.writes, values));
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
  report.end(`restored ${sumOf(counts)}`, only(counts), collectionNote);
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
  report.end(`took over ${sumOf(counts)}`, only(counts), 'nothing of the original was changed: it can still be read by what wrote it');
  return 0;
}

async function catchUpWith(journal: Journal, pool: ServerPool, values: CommandInput['values']): Promise<number> {
  const held = await holdWalk(pool);
  if (held === undefined) throw new Error('the store is being walked already, by a node or by another --catch-up: wait for its end');
  try {
    await walkAndReport(journal, pool, held.lost, new Report(values['json'] === true));
  } finally {
    held.letGo();
  }
  return 0;
}

async function walkAndReport(journal: Journal, pool: ServerPool, signal: AbortSignal, report: Report): Promise<void> {
  const due = await findCatchUp(pool);
  const { entries, adopted, dropped } = await catchUp(journal, pool, {
    onProgress: (counts) => report.line(`${counts.entries} entries, ${counts.adopted} adopted, ${counts.dropped} rows dropped`),
    onFinding: (finding) => report.finding(finding),
    signal,
  });
  if (due !== undefined) await setCaughtUp(pool, due);
  report.end(`looked at ${entries} entries, adopted ${adopted}, dropped ${dropped} rows`, { entries, adopted, dropped }, collectionNote);
}

const collectionNote = 'garbage collection begins in a day at the earliest';

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
    this.line(progressLine(progress, this.findings, performance.now() - this.since));
  }

  line(text: string): void {
    if (performance.now() - this.last < progressEveryMs) return;
    this.last = performance.now();
    showProgress(text);
  }

  finding(finding: Finding): void {
    this.findings++;
    if (this.listed.length < mostFindings) this.listed.push(finding);
  }

  end(done: string, counts: object, note: string): void {
    showProgress('');
    const seconds = Math.round(performance.now() - this.since) / 1000;
    if (this.json) {
      print(JSON.stringify({ ...counts, seconds, findings: this.findings, listed: this.listed }));
      return;
    }
    for (const { key, reason, kept } of this.listed) print(`${kept === undefined ? 'not served' : 'found'}: ${key}: ${reason}`);
    if (this.findings > this.listed.length) print(`and ${this.findings - this.listed.length} more`);
    print(`${done} in ${seconds} s; ${this.findings} findings`);
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

function sumOf({ repositories, manifests, links, tags }: Counts): string {
  return `${repositories} repositories, ${manifests} manifests, ${links} links, ${tags} tags`;
}

function only({ repositories, manifests, links, tags }: Counts): Counts {
  return { repositories, manifests, links, tags };
}
