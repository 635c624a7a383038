// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Queryer } from '../database/pool.js';
import type { BlobStore } from '../storage/blob-store.js';
import { deletionTemplate, entryKey, tagPrefix, tagTemplate } from '../storage/keys.js';
import type { Digest } from '../oci/digest.js';
import { RegistryError } from '../oci/errors.js';
import type { Tag } from '../oci/reference.js';
import type { RepositoryName } from '../oci/repository-name.js';
import { findTagged, listTagChanges, type TagChange } from './undo-queries.js';

/** One line of a tag's history, as JSON has it. */
export interface HistoryEntry {
  readonly sequence: string;
  /** RFC 3339, UTC. */
  readonly at: string;
  /** Who did it; null where nobody had a name, and for deletions. */
  readonly by: string | null;
  /** `pushed` again where it pointed at the same manifest before. */
  readonly action: 'created' | 'moved' | 'pushed' | 'deleted';
  /** null where it was deleted. */
  readonly digest: Digest | null;
  /** Whether the manifest is here, or can come back. */
  readonly restorable: boolean;
}

export interface TagHistory {
  readonly current: Digest | undefined;
  readonly changes: readonly HistoryEntry[];
  /** The sequence after which the next page begins. */
  readonly more: string | undefined;
}

/** Above every sequence. */
export const aboveAll = 9223372036854775807n;

/** Entries whose bodies are read together. */
const readsAtOnce = 50;

/** Newest first. Who did it stands in the store's entry alone. Throws MANIFEST_UNKNOWN for a tag that there has never been. */
export async function tagHistory(
  { queryer, store }: { readonly queryer: Queryer; readonly store: BlobStore },
  repository: RepositoryName,
  tag: Tag,
  below: bigint,
  limit: number,
): Promise<TagHistory> {
  const current = await findTagged(queryer, repository, tag);
  const found = await listTagChanges(queryer, repository, tag, below, limit + 1);
  if (found.length === 0 && below === aboveAll)
    throw new RegistryError('MANIFEST_UNKNOWN', `there has never been a ${repository}:${tag}`, { detail: tag });
  const changes: HistoryEntry[] = [];
  for (let start = 0; start < Math.min(found.length, limit); start += readsAtOnce) {
    const some = found.slice(start, Math.min(start + readsAtOnce, limit));
    changes.push(...(await Promise.all(some.map(async (change) => entryOf(change, await findAuthor(store, repository, tag, change))))));
  }
  return { current, changes, more: found.length > limit ? changes.at(-1)?.sequence : undefined };
}

async function findAuthor(store: BlobStore, repository: RepositoryName, tag: Tag, { digest, sequence }: TagChange): Promise<string | null> {
  const template = digest === undefined ? deletionTemplate(tagPrefix(repository, tag)) : tagTemplate(repository, tag, digest);
  const body = await store.get(entryKey(template, sequence));
  try {
    const { by } = JSON.parse(Buffer.from(body ?? []).toString('utf8')) as { readonly by?: unknown };
    return typeof by === 'string' && by !== '' ? by : null;
  } catch {
    return null;
  }
}

function entryOf({ sequence, at, digest, before, restorable }: TagChange, by: string | null): HistoryEntry {
  const action = actionOf(digest, before);
  return { sequence: String(sequence), at: at.toISOString(), by, action, digest: digest ?? null, restorable };
}

function actionOf(digest: Digest | undefined, before: Digest | undefined): HistoryEntry['action'] {
  if (digest === undefined) return 'deleted';
  if (before === undefined) return 'created';
  return digest === before ? 'pushed' : 'moved';
}
