// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { setTimeout as sleep } from 'node:timers/promises';
import type { LinkedBlob } from '../blob/link-queries.js';
import { isDatabaseAway } from '../database/failures.js';
import type { Journal } from '../journal/write-entries.js';
import type { Log } from '../observe/log.js';
import type { Digest } from '../oci/digest.js';
import type { BlobStore } from '../storage/blob-store.js';
import { markDamaged } from './damage-queries.js';
import { writeMark } from './heal-blobs.js';
import type { ScrubCounters } from './scrubbing.js';

type Data = Pick<LinkedBlob, 'uuid' | 'key' | 'size'>;

export interface LossOptions {
  readonly journal: Journal;
  readonly counters: Pick<ScrubCounters, 'damaged'>;
  readonly log: Log;
  /** Between the two looks. */
  readonly pauseMs?: number;
}

/** Data that a pull finds missing, or cut short, are damaged at once, as if a scrub had come by: nobody is told any more that they exist, and a push brings them again. */
export class LossRecorder {
  private readonly options: LossOptions;
  /** By uuid: who pulls the same meanwhile shares the answer. */
  private readonly looking = new Map<string, Promise<boolean>>();

  constructor(options: LossOptions) {
    this.options = options;
  }

  /** False where the store has them after all. Throws UNAVAILABLE, and marks nothing, where the store itself is not the one it should be. */
  isLost(digest: Digest, data: Data): Promise<boolean> {
    const known = this.looking.get(data.uuid);
    if (known !== undefined) return known;
    const look = this.look(digest, data).finally(() => this.looking.delete(data.uuid));
    this.looking.set(data.uuid, look);
    return look;
  }

  private async look(digest: Digest, data: Data): Promise<boolean> {
    const { journal, pauseMs = defaultPauseMs } = this.options;
    const { store } = journal;
    if ((await lossOf(store, digest, data)) === undefined) return false;
    await sleep(pauseMs);
    // Before and after: a mount may come and go between two looks.
    await journal.history.requireStore();
    const reason = await lossOf(store, digest, data);
    if (reason === undefined) return false;
    await journal.history.requireStore();
    await this.mark(digest, data, reason);
    return true;
  }

  private async mark(digest: Digest, { uuid, key }: Data, reason: string): Promise<void> {
    const { journal, counters, log } = this.options;
    try {
      const sequence = await markDamaged(journal.writes, journal.node.id, { digest, uuid }, reason);
      // Another was faster, or the blob was deleted meanwhile.
      if (sequence === undefined) return;
      counters.damaged++;
      log.error({ key, digest, outcome: 'damaged' }, `a pull found: ${reason}`);
      await writeMark(journal, { digest, uuid }, sequence);
    } catch (error) {
      // The next pull does it, or, where only the mark in the store is missing, the leader.
      if (!isDatabaseAway(error)) log.error({ err: error, key, digest }, 'lost data could not be marked as damaged');
    }
  }
}

const defaultPauseMs = 500;

async function lossOf(store: BlobStore, digest: Digest, { key, size }: Data): Promise<string | undefined> {
  const actual = await store.size(key);
  if (actual === undefined) return `the object of ${digest} is missing`;
  return actual < size ? `the object has ${actual} bytes instead of the ${size} of ${digest}` : undefined;
}
