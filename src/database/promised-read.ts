// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { BatchedRead, type BatchWatch, type Elsewhere } from './batched-read.js';
import { RegistryError } from '../oci/errors.js';
import { isDatabaseAway, unavailable } from './failures.js';

/** What may be collected some day, as it was read. */
export interface Dated {
  /** Its time is near: before anybody is told that it exists, its time has to be moved on. */
  readonly dueSoon?: boolean;
  /** `performance.now()` from before the read. Absent where the store was read in the database's place: that promises nothing, and nothing is collected meanwhile. */
  readonly readAt?: number;
}

/** What must be left of a time for a promise of an hour: two hours, or three quarters of a shorter `gc.delay`. */
export function promiseMs(gcDelayMs: number): number {
  return Math.min(2 * 3_600_000, gcDelayMs * 0.75);
}

/** An answer that is older (the process was frozen, the machine is overloaded) promises nothing any more. */
const freshMs = 60_000;
const mostAttempts = 5;

/**
 * Reads whose answer is a promise: what was found stays for at least an hour, whatever the collector does. The time comes along with the batched read; moving it on is
 * rare, since it then lies a whole `gc.delay` ahead.
 */
export class PromisedRead<Key, Value extends Dated> {
  private readonly reads: BatchedRead<Key, Value | undefined>;
  private readonly promises: BatchedRead<{ readonly key: Key; readonly value: Value }, boolean>;

  /** `promise` moves times on and answers, at the same index, whether each is still there. */
  constructor(
    read: (keys: readonly Key[]) => Promise<readonly (Value | undefined)[]>,
    promise: (found: readonly { readonly key: Key; readonly value: Value }[]) => Promise<readonly boolean[]>,
    watch?: BatchWatch,
    elsewhere?: Elsewhere<Key, Value | undefined>,
  ) {
    this.reads = new BatchedRead(read, watch, elsewhere);
    this.promises = new BatchedRead(promise);
  }

  async find(key: Key): Promise<Value | undefined> {
    for (let attempt = 1; attempt <= mostAttempts; attempt++) {
      const value = await this.reads.find(key);
      if (value === undefined) return undefined;
      if (value.dueSoon === true && !(await this.promise(key, value))) continue;
      if (value.readAt === undefined || performance.now() - value.readAt < freshMs) return value;
    }
    throw unavailable('the database is too slow to say what exists');
  }

  private async promise(key: Key, value: Value): Promise<boolean> {
    try {
      return await this.promises.find({ key, value });
    } catch (error) {
      // This node takes no push now, and so nobody relies on what it says: pulls go on.
      if (isDatabaseAway(error) || error instanceof RegistryError) return true;
      throw error;
    }
  }
}
