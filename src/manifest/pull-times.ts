// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Queryer } from '../database/pool.js';
import type { Digest } from '../oci/digest.js';
import type { RepositoryName } from '../oci/repository-name.js';
import { recordPulls } from './manifest-queries.js';

/** Manifests that are remembered between two writes; what is pulled beyond them is remembered with its next pull. */
const mostRemembered = 20_000;
const atOnce = 500;

/** Which manifests were pulled, folded in memory and written in batches: a pull costs a look into a map, and a manifest a write in an hour. */
export class PullTimes {
  private pulled = new Map<string, { readonly repository: RepositoryName; readonly digest: Digest }>();

  note(repository: RepositoryName, digest: Digest): void {
    const key = `${repository}@${digest}`;
    if (this.pulled.size < mostRemembered && !this.pulled.has(key)) this.pulled.set(key, { repository, digest });
  }

  /** Writes what was noted. What cannot be written now is noted again. */
  async write(writes: Queryer): Promise<void> {
    const waiting = [...this.pulled.values()];
    this.pulled = new Map();
    for (let from = 0; from < waiting.length; from += atOnce) {
      try {
        await recordPulls(writes, waiting.slice(from, from + atOnce));
      } catch (error) {
        for (const { repository, digest } of waiting.slice(from)) this.note(repository, digest);
        throw error;
      }
    }
  }
}
