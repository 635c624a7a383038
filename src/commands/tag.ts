// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Config } from '../config/config.js';
import { findDigest } from '../oci/digest.js';
import type { Tag } from '../oci/reference.js';
import type { RepositoryName } from '../oci/repository-name.js';
import { aboveAll, tagHistory, type HistoryEntry } from '../undo/history.js';
import { restoreTag, type TagTarget } from '../undo/restore.js';
import { parseTime } from '../undo/time.js';
import { commandUser, print, UsageError, type Command, type CommandInput } from './command.js';
import { parseImageName } from './image-name.js';
import { openRegistry } from './open-parts.js';
import { withJournal } from './with-journal.js';

type Values = CommandInput['values'];

/** `ha-registry tag`: what a tag was, and back to it. */
export const tagCommand: Command = {
  usage: `ha-registry tag history|restore REPO:TAG [--limit N | --to DIGEST | --at TIME] [--json] [options]

  history lists what a tag pointed at, newest first; restore points it there again, also when it, or its manifest, was deleted. Beside running nodes or without one.

  --limit N      history: so many changes at most (100)
  --to DIGEST    restore: what it pointed at once; without --to and --at, what it pointed at before
  --at TIME      restore: what it pointed at then, such as 2026-11-21T16:03:00Z
  --json         the result as JSON
`,
  options: { limit: { type: 'string' }, to: { type: 'string' }, at: { type: 'string' }, json: { type: 'boolean' } },
  arguments: { least: 2, most: 2 },
  async run({ config, version, values, arguments: [action, name = ''] }: CommandInput) {
    const { repository, tag } = parseImageName(name);
    if (tag === undefined) throw new UsageError(`not REPO:TAG: ${name}`);
    if (action === 'history') return showHistory(config, repository, tag, limitOf(values), values['json'] === true);
    if (action !== 'restore') throw new UsageError(`tag ${String(action)}: history and restore are the ones there are`);
    return restore(config, version, repository, tag, targetOf(values), values['json'] === true);
  },
};

async function showHistory(config: Config, repository: RepositoryName, tag: Tag, limit: number, json: boolean): Promise<number> {
  const parts = await openRegistry(config);
  const { reads } = parts.database;
  try {
    const { current, changes, more } = await tagHistory({ queryer: reads, store: parts.store }, repository, tag, aboveAll, limit);
    if (json) print(JSON.stringify({ repository, tag, digest: current ?? null, history: changes }));
    else changes.forEach((change) => print(lineOf(change)));
    if (!json && more !== undefined) print('and older ones: --limit shows more');
    return 0;
  } finally {
    await parts.close();
  }
}

function lineOf({ at, by, action, digest, restorable }: HistoryEntry): string {
  return `${at}  ${action.padEnd(7)}  ${digest ?? '-'}${by === null ? '' : `  ${by}`}${digest === null || restorable ? '' : '  (gone)'}`;
}

async function restore(
  config: Config,
  version: string,
  repository: RepositoryName,
  tag: Tag,
  target: TagTarget,
  json: boolean,
): Promise<number> {
  const parts = await openRegistry(config);
  try {
    const { digest, before, restored, missing } = await withJournal(parts, version, (journal) =>
      restoreTag({ journal, sparse: config.manifests.sparse }, repository, tag, target, commandUser()),
    );
    if (json) print(JSON.stringify({ repository, tag, digest, before: before ?? null, restored, missing }));
    else if (restored) print(`${repository}:${tag} points at ${digest} again${before === undefined ? '' : `, no longer at ${before}`}`);
    else print(`${repository}:${tag} points at ${digest} already`);
    if (!json) for (const reference of missing) print(`not in ${repository}: ${reference}`);
    return 0;
  } finally {
    await parts.close();
  }
}

function limitOf({ limit, to, at }: Values): number {
  if (to !== undefined || at !== undefined) throw new UsageError('--to and --at are for tag restore');
  if (limit === undefined) return 100;
  if (typeof limit !== 'string' || !/^[1-9]\d{0,5}$/.test(limit)) throw new UsageError(`--limit ${String(limit)}: not a number of changes`);
  return Number(limit);
}

function targetOf({ limit, to, at }: Values): TagTarget {
  if (limit !== undefined) throw new UsageError('--limit is for tag history');
  if (to !== undefined && at !== undefined) throw new UsageError('--to goes without --at');
  const digest = typeof to === 'string' ? findDigest(to) : undefined;
  if (to !== undefined && digest === undefined) throw new UsageError(`--to ${String(to)}: not a digest`);
  const time = typeof at === 'string' ? parseTime(at) : undefined;
  if (at !== undefined && time === undefined) throw new UsageError(`--at ${String(at)}: not a time such as 2026-11-21T16:03:00Z`);
  if (digest !== undefined) return { to: digest };
  return time === undefined ? {} : { at: time };
}
