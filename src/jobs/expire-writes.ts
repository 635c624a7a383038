// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { commitLinkDeletion } from '../blob/link-queries.js';
import { isTransient } from '../database/failures.js';
import {
  abandonExpiredWrite,
  listExpiredWrites,
  setOutcomeUnknown,
  type ExpiredWrite,
  type PendingDeletion,
} from '../journal/journal-queries.js';
import { sideBySide } from '../journal/side-by-side.js';
import { tagsAtOnce, type Journal } from '../journal/write-entries.js';
import { commitManifestDeletion, findSubject } from '../manifest/manifest-queries.js';
import { parseDigest } from '../oci/digest.js';
import { parseTag } from '../oci/reference.js';
import { parseRepositoryName } from '../oci/repository-name.js';
import { deletionTemplate, entryKey, linkPrefix, manifestPrefix, tagPrefix, type KeyTemplate } from '../storage/keys.js';
import { commitTagDeletion } from '../tag/tag-queries.js';

const atOnce = 500;

/** Gives up what this node has left pending and does not know of any more, since an answer was lost. Every node does that for itself. */
export async function giveUpLostWrites(journal: Journal): Promise<void> {
  await setOutcomeUnknown(journal.writes, journal.node.id, [...journal.active]);
}

/**
 * Ends what dead nodes left pending. Writes are withdrawn: nobody was told of them. Deletions are carried out: their entry may be in the store, and there it counts.
 * Safe on several nodes at once, since only one can take a pending row away.
 */
export async function expireWrites(journal: Journal, onError: (error: unknown) => void): Promise<void> {
  for (const expired of await listExpiredWrites(journal.writes, atOnce)) {
    try {
      if (expired.deletion === undefined) await abandonExpiredWrite(journal.writes, expired.sequence);
      else await rollForward(journal, expired, expired.deletion);
    } catch (error) {
      // One that fails does not hold up the others.
      onError(error);
    }
  }
}

async function rollForward(journal: Journal, { sequence, repository: name }: ExpiredWrite, deletion: PendingDeletion): Promise<void> {
  const { writes, store, node, history } = journal;
  const repository = parseRepositoryName(name);
  // The bytes that its writer has in hand, and may still write. A node of a version before 0031 did not tell them: its own entry, if it lands, has a time and ours none. That
  // is all that a body says, whatever is served hangs on the key; and a time that nobody knows keeps the history for longer.
  const bytes = Buffer.from('body' in deletion ? deletion.body : '');
  const put = async (template: KeyTemplate): Promise<void> => {
    const key = entryKey(template, sequence);
    if ((await store.size(key)) !== undefined) return;
    await store.put(key, bytes);
    await history.requireStore();
  };
  try {
    if ('tag' in deletion) {
      const tag = parseTag(deletion.tag);
      await put(deletionTemplate(tagPrefix(repository, tag)));
      await commitTagDeletion(writes, node.id, sequence, repository, tag);
    } else if ('blob' in deletion) {
      const digest = parseDigest(deletion.blob);
      await put(deletionTemplate(linkPrefix(repository, digest)));
      await commitLinkDeletion(writes, node.id, sequence, { repository, digest });
    } else {
      const digest = parseDigest(deletion.manifest);
      const tags = deletion.tags.map(parseTag);
      await put(deletionTemplate(manifestPrefix(repository, digest)));
      await sideBySide(tags, tagsAtOnce, (tag) => put(deletionTemplate(tagPrefix(repository, tag))));
      const subject = await findSubject(writes, repository, digest);
      await commitManifestDeletion(writes, node.id, sequence, { repository, digest, tags, subject });
    }
  } catch (error) {
    // Newer writes went past it: it has nothing left to delete.
    if (!isTransient(error)) throw error;
    await abandonExpiredWrite(writes, sequence);
  }
}
