// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { findCatchUp } from '../cluster/cluster-queries.js';
import type { Config } from '../config/config.js';
import type { Journal } from '../journal/write-entries.js';
import { repositoryPattern } from '../oci/repository-pattern.js';
import { healBlobs } from '../scrub/heal-blobs.js';
import { Pace } from '../scrub/pace.js';
import { scrubAll, scrubRepositories } from '../scrub/scrub.js';
import { found, newScrubCounters, type ScrubCounters, type ScrubFinding, type Scrubbing } from '../scrub/scrubbing.js';
import { findSize } from '../scrub/state-queries.js';
import { loadHasher } from '../worker/hash.js';
import { showProgress, UsageError, type Command } from './command.js';
import { openRegistry, type Parts } from './open-parts.js';
import { withJournal } from './with-journal.js';

/** `ha-registry scrub`: what the leader does over weeks, now. */
export const scrubCommand: Command = {
  usage: `ha-registry scrub [--repository GLOB] [--json] [options]

  Reads all blobs and manifests and compares them with their digests, and the store's entries with the database, now and at full speed. A damaged blob is not served any
  more until it is pushed again; what the store or the database has lost is given back from the other. Nodes do the same by themselves, and may run or not. Exit code 1
  when something was found.

  --repository GLOB    only repositories whose names fit: * is anything but a slash, ** anything
  --json               the result as JSON
`,
  options: { repository: { type: 'string' }, json: { type: 'boolean' } },
  async run({ config, version, values }) {
    const glob = values['repository'];
    if (glob === '') throw new UsageError('--repository: expected a pattern such as team/**');
    const parts = await openRegistry(config);
    try {
      const only = typeof glob === 'string' ? glob : undefined;
      return await withJournal(parts, version, (journal) => scrubNow(journal, parts, config, only, values['json'] === true));
    } finally {
      await parts.close();
    }
  },
};

/** Data objects that are read side by side: as fast as it goes, without taking a machine for itself. */
const atOnce = 4;
const progressEveryMs = 200;
/** In the report; more than an operator reads. */
const mostFindings = 10_000;

async function scrubNow(journal: Journal, { database }: Parts, config: Config, glob: string | undefined, json: boolean): Promise<number> {
  const pattern = glob === undefined ? undefined : repositoryPattern(glob);
  const due = await findCatchUp(database.writes);
  if (due !== undefined) throw new Error('the database is behind its store: `ha-registry rebuild --catch-up` comes first');
  const since = performance.now();
  const counters = newScrubCounters();
  const findings: ScrubFinding[] = [];
  const all = pattern === undefined ? await findSize(database.writes) : undefined;
  const scrubbing: Scrubbing = {
    journal,
    pool: database.writes,
    hasher: await loadHasher(config.workers.hash),
    pace: new Pace(undefined, new AbortController().signal),
    counters,
    atOnce,
    onFinding: (finding) => void findings.push(finding),
  };
  const showing = setInterval(() => showProgress(progressLine(counters, all, findings.length)), progressEveryMs);
  let repositories: number | undefined;
  try {
    if (pattern === undefined) await scrubAll(scrubbing);
    else repositories = await scrubRepositories(scrubbing, pattern);
    if (repositories === 0) throw new Error(`no repository fits ${glob}: * is anything but a slash, ** anything`);
    await healBlobs(journal, (finding) => found(scrubbing, finding));
  } finally {
    clearInterval(showing);
    showProgress('');
  }
  report(counters, findings, repositories, Math.round(performance.now() - since) / 1000, json);
  return findings.some(({ outcome }) => outcome !== 'healed') ? 1 : 0;
}

function report(
  { blobs, bytes, manifests, entries }: ScrubCounters,
  findings: readonly ScrubFinding[],
  repositories: number | undefined,
  seconds: number,
  json: boolean,
): void {
  const count = (outcome: ScrubFinding['outcome']): number => findings.filter((finding) => finding.outcome === outcome).length;
  const outcomes = { damaged: count('damaged'), repaired: count('repaired'), healed: count('healed'), reported: count('reported') };
  const listed = findings.slice(0, mostFindings);
  if (json) {
    print(JSON.stringify({ blobs, bytes, manifests, entries, repositories, seconds, ...outcomes, listed }));
    return;
  }
  for (const { key, reason, outcome } of listed) print(`${outcome}: ${key}: ${reason}`);
  if (findings.length > listed.length) print(`and ${findings.length - listed.length} more`);
  const where = repositories === undefined ? '' : ` of ${repositories} repositories`;
  print(`checked ${blobs} blobs, ${manifests} manifests and ${entries} entries${where}, ${bytes} bytes, in ${seconds} s`);
  print(`${outcomes.damaged} damaged, ${outcomes.repaired} repaired, ${outcomes.healed} healed, ${outcomes.reported} to be looked at`);
  if (outcomes.damaged > 0) print('damaged blobs are not served; pushing them again, to any repository, heals them in all');
}

const barWidth = 24;

function progressLine({ blobs, bytes, entries }: ScrubCounters, all: number | undefined, findings: number): string {
  const filled = all === undefined || all === 0 ? 0 : Math.floor(Math.min(1, bytes / all) * barWidth);
  const bar = all === undefined ? '' : `[${'#'.repeat(filled)}${' '.repeat(barWidth - filled)}] `;
  return `${bar}${entries} entries, ${blobs} blobs, ${Math.round(bytes / 1e6)} MB, ${findings} findings`;
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
