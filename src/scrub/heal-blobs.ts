// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What follows when data were found damaged, or when their digest was pushed again. Safe on several nodes at once, and after a crash at any place. */
import { isTransient } from '../database/failures.js';
import type { Journal } from '../journal/write-entries.js';
import { writeDamageMark } from '../storage/damage-marks.js';
import { dataKey } from '../storage/keys.js';
import { listDispensable, listLinksTo, listUnmarkedDamage, retireDamaged, setDamageMarked, type DataId } from './damage-queries.js';
import { rewriteLink } from './rewrite-entries.js';
import type { ScrubFinding } from './scrubbing.js';

const atOnce = 100;

/** Writes marks that are missing. Then every repository that is linked to damaged data gets a link to the copy that was pushed, and the damaged ones are retired. */
export async function healBlobs(journal: Journal, onFinding: (finding: ScrubFinding) => void): Promise<void> {
  const { writes, node } = journal;
  for (const { sequence, ...data } of await listUnmarkedDamage(writes, node.id, atOnce)) await writeMark(journal, data, sequence);
  let failure: unknown;
  for (const damaged of await listDispensable(writes, atOnce)) {
    try {
      if (!(await healBlob(journal, damaged)) || damaged.healthy === undefined) continue;
      onFinding({ key: dataKey(damaged.uuid), reason: `${damaged.digest} was pushed again`, outcome: 'healed' });
    } catch (error) {
      // One that fails does not hold up the others.
      failure = error;
    }
  }
  if (failure !== undefined) throw failure as Error;
}

export async function writeMark({ writes, store, history }: Journal, data: DataId, sequence: bigint): Promise<void> {
  await writeDamageMark(store, data.uuid, sequence, data.digest);
  await history.requireStore();
  await setDamageMarked(writes, data, sequence);
}

async function healBlob(journal: Journal, { healthy, ...data }: DataId & { readonly healthy: string | undefined }): Promise<boolean> {
  const { writes, node } = journal;
  if (healthy !== undefined) await moveLinks(journal, data, healthy);
  try {
    return await retireDamaged(writes, node.id, data);
  } catch (error) {
    // A link came to it in the last moment: the next time.
    if (isTransient(error)) return false;
    throw error;
  }
}

async function moveLinks(journal: Journal, data: DataId, healthy: string): Promise<void> {
  for (;;) {
    const links = await listLinksTo(journal.writes, data, atOnce);
    for (const { repository, sequence } of links) await rewriteLink(journal, { repository, digest: data.digest }, sequence, healthy);
    if (links.length < atOnce) return;
  }
}
