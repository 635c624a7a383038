// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Digest } from '../oci/digest.js';
import type { RepositoryName } from '../oci/repository-name.js';
import { writeEntries, type Journal } from '../journal/write-entries.js';
import { linkTemplate } from '../storage/keys.js';
import { commitResurrection, findCollectedLink, findForeignKey, intendLink } from './link-queries.js';

/**
 * Brings back what the collector took from this repository, while the data are still there: a client may have been told of it longer than an hour ago. The link is a new
 * entry of its own; the collected one stays in the trash. False when there is nothing to bring back, or when it is there again by now.
 */
export function resurrectLink(journal: Journal, repository: RepositoryName, digest: Digest): Promise<boolean> {
  const link = { repository, digest };
  return writeEntries<boolean>(journal, async (node) => {
    const uuid = await findCollectedLink(journal.writes, link);
    if (uuid === undefined) return { done: false };
    const sequence = await intendLink(journal.writes, node, link, uuid);
    const elsewhere = Buffer.from(await findForeignKey(journal.writes, digest, uuid));
    return {
      sequence,
      objects: [{ template: linkTemplate(repository, digest, uuid), bytes: elsewhere }],
      commit: () => commitResurrection(journal.writes, node, sequence, link, uuid),
      outcome: true,
    };
  });
}
