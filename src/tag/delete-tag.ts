// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { writeEntries, type Journal, type Prepared } from '../journal/write-entries.js';
import type { Tag } from '../oci/reference.js';
import type { RepositoryName } from '../oci/repository-name.js';
import { deletionTemplate, tagBody, tagPrefix } from '../storage/keys.js';
import { commitTagDeletion, prepareTagDeletion } from './tag-queries.js';

/** False when there is no such tag. The manifest stays. `by` is who deletes it, empty for anonymous. */
export function deleteTag(
  journal: Journal,
  { repository, tag, by }: { readonly repository: RepositoryName; readonly tag: Tag; readonly by: string },
  signal: AbortSignal,
): Promise<boolean> {
  const template = deletionTemplate(tagPrefix(repository, tag));
  const prepare = async (node: string): Promise<Prepared<boolean>> => {
    const body = tagBody(new Date(), by);
    const sequence = await prepareTagDeletion(journal.writes, node, { repository, tag, template, body });
    if (sequence === undefined) return { done: false };
    const commit = () => commitTagDeletion(journal.writes, node, sequence, repository, tag);
    return { sequence, objects: [{ template, bytes: body }], commit, outcome: true };
  };
  return writeEntries(journal, prepare, signal);
}
