// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Client } from 'pg';
import { isTransient } from '../database/failures.js';
import { pausePoints } from '../database/pause-points.js';
import type { Lookups } from '../storage/batch-lookups.js';
import type { BlobStore } from '../storage/blob-store.js';
import { deletionTemplate, entryKey, manifestPrefix, timeInTagBody } from '../storage/keys.js';
import {
  listStrayReferrers,
  restoreBlobs,
  restoreLinks,
  restoreManifests,
  restoreRepositories,
  restoreTagHistory,
  restoreTags,
  restoreTombstones,
  restoreTrash,
  type RepositoryIds,
} from './batch-queries.js';
import { inClaim } from './claim.js';
import {
  referrerKeyOf,
  type Finding,
  type GroupReading,
  type RestoredLink,
  type RestoredManifest,
  type RestoredTagEntry,
} from './read-group.js';
import { quarantine, saveProgress, type ShardProgress } from './rebuild-queries.js';

/** Groups that follow each other in a walk. */
export interface Batch {
  readonly readings: readonly GroupReading[];
  readonly repositories: readonly string[];
  /** Progress once it is in the index. */
  readonly shard: string;
  readonly progress: ShardProgress & { readonly largestSequence: bigint };
}

/** Puts a batch into the index, with the progress, in one transaction. Returns all that did not fit. */
export async function restoreBatch(loader: Client, claim: string, store: BlobStore, batch: Batch): Promise<Finding[]> {
  await pausePoints.reached?.(`rebuild.read.${batch.shard}`);
  for (let attempt = 1; ; attempt++) {
    try {
      // First and apart: another part of the walk that has a blob of these waits for this only.
      await inClaim(loader, claim, () => restoreBlobs(loader, linksOf(batch)));
      return await inClaim(loader, claim, () => restoreRows(loader, store, batch));
    } catch (error) {
      // Parts that are walked side by side may wait for each other's blobs.
      if (!isTransient(error) || attempt >= mostAttempts) throw error;
    }
  }
}

const mostAttempts = 5;

function linksOf({ readings }: Batch): RestoredLink[] {
  return readings.flatMap(({ link }) => link ?? []);
}

async function restoreRows(client: Client, store: BlobStore, batch: Batch): Promise<Finding[]> {
  const { readings, repositories, shard, progress } = batch;
  const findings = readings.flatMap((reading) => reading.findings);
  const links = linksOf(batch);
  const manifests = readings.flatMap(({ manifest }) => manifest ?? []);
  const tombstones = readings.flatMap(({ tombstone }) => tombstone ?? []);
  const trash = readings.flatMap(({ superseded }) => superseded);
  const ids = repositories.length === 0 ? new Map<string, string>() : await restoreRepositories(client, repositories);
  if (tombstones.length > 0) await restoreTombstones(client, ids, tombstones);
  if (links.length > 0) await restoreLinks(client, ids, links);
  if (manifests.length > 0) await restoreManifests(client, ids, manifests);
  const tags = readings.flatMap(({ tag }) => (tag === undefined ? [] : [tag]));
  if (tags.length > 0) findings.push(...(await restoreTagsOf(client, store, ids, tags)));
  const referrers = readings.flatMap((reading) => reading.referrers ?? []);
  for (const { index, superseded } of referrers.length === 0 ? [] : await listStrayReferrers(client, ids, referrers)) {
    const { key } = referrers[index] as (typeof referrers)[number];
    if (superseded) trash.push(key);
    else findings.push({ key, reason: 'the manifest of this referrer is not there' });
  }
  if (trash.length > 0) await restoreTrash(client, trash);
  const unserved = findings.filter(({ kept }) => kept === undefined);
  if (unserved.length > 0) await quarantine(client, unserved);
  await saveProgress(client, shard, progress);
  return findings;
}

/** A tag whose manifest was deleted later than the tag was pushed went with it: its own entry of that deletion is written where it is missing. */
async function restoreTagsOf(
  client: Client,
  store: BlobStore,
  ids: RepositoryIds,
  tags: readonly (readonly RestoredTagEntry[])[],
): Promise<Finding[]> {
  const findings: Finding[] = [];
  await restoreTagHistory(client, ids, tags.flat());
  const newest = tags.flatMap(([first]) => (first?.digest === undefined ? [] : [first]));
  for (const { index, deletedAs } of await restoreTags(client, ids, newest)) {
    const tag = newest[index] as RestoredTagEntry;
    const { repository, digest, prefix, sequence } = tag;
    if (digest !== undefined && deletedAs !== undefined && deletedAs > sequence) {
      // The same bytes as its manifest's: those that whoever deleted them had in hand.
      const body = (await store.get(entryKey(deletionTemplate(manifestPrefix(repository, digest)), deletedAs))) ?? new Uint8Array();
      const at = timeInTagBody(body);
      await store.put(entryKey(deletionTemplate(prefix), deletedAs), body);
      await restoreTagHistory(client, ids, [{ ...tag, sequence: deletedAs, digest: undefined, at }]);
      await restoreTombstones(client, ids, [{ repository, path: prefix, sequence: deletedAs }]);
      findings.push({
        key: entryKeyOf(tag),
        reason: 'the tag went with its manifest; the entry of its deletion is written now',
        kept: true,
      });
    } else {
      findings.push({ key: entryKeyOf(tag), reason: `its manifest ${tag.digest} is not there` });
    }
  }
  return findings;
}

function entryKeyOf({ prefix, sequence, digest }: RestoredTagEntry): string {
  return entryKey(`${prefix}%.${(digest ?? '').replace(':', '.')}` as Parameters<typeof entryKey>[0], sequence);
}

/** Referrer entries that the manifests of a batch should have and that are not in the store: a crash came between the two. They are written now. */
export async function writeMissingReferrers(
  lookups: Lookups,
  readings: readonly GroupReading[],
  write: (key: string, manifest: RestoredManifest) => Promise<void>,
): Promise<Finding[]> {
  const findings: Finding[] = [];
  const look = async (manifest: RestoredManifest, key: string): Promise<void> => {
    if ((await lookups.size(key)) !== undefined) return;
    await write(key, manifest);
    findings.push({ key, reason: 'the entry among the referrers was missing; it is written now', kept: true });
  };
  await Promise.all(
    readings.flatMap(({ manifest }) => {
      const key = manifest === undefined ? undefined : referrerKeyOf(manifest);
      return manifest === undefined || key === undefined ? [] : [look(manifest, key)];
    }),
  );
  return findings;
}
