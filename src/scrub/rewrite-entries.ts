// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * Entries that the store has lost, or that have to lead elsewhere, are written again: each as a new entry, by the write protocol. What has changed since it was looked
 * at, or is being written by somebody, is left alone: false then.
 */
import { findForeignKey } from '../blob/link-queries.js';
import { writeEntries, type Journal } from '../journal/write-entries.js';
import { manifestObjects } from '../manifest/push-manifest.js';
import { parseManifest } from '../oci/manifest.js';
import type { Tag } from '../oci/reference.js';
import type { RepositoryName } from '../oci/repository-name.js';
import {
  deletionTemplate,
  linkPrefix,
  linkTemplate,
  manifestPrefix,
  tagBody,
  tagPrefix,
  tagTemplate,
  type KeyTemplate,
} from '../storage/keys.js';
import { hashOf } from '../storage/manifest-object.js';
import {
  commitRewrittenDeletion,
  commitRewrittenLink,
  commitRewrittenManifest,
  commitRewrittenTag,
  findLinkAt,
  findManifestAt,
  findTagAt,
  intendAlone,
  isTombstone,
  type Intent,
  type Place,
} from './rewrite-queries.js';

/** The database's copy cannot take the place of the store's: its bytes are not right either. */
export class NoCopyLeft extends Error {}

const nothing = new Uint8Array();

/** The link under this sequence; to other data where `uuid` is given. */
export function rewriteLink(journal: Journal, place: Place, sequence: bigint, uuid?: string): Promise<boolean> {
  const { writes } = journal;
  return writeEntries(journal, async (node) => {
    const from = await findLinkAt(writes, place, sequence);
    if (from === undefined) return { done: false };
    const to = uuid ?? from;
    const bytes = Buffer.from(await findForeignKey(writes, place.digest, to));
    const objects = [{ template: linkTemplate(place.repository, place.digest, to), bytes }];
    return written(journal, node, place.repository, linkPrefix(place.repository, place.digest), objects, (intent) =>
      commitRewrittenLink(writes, node, intent, place, { sequence, uuid: from }, to),
    );
  });
}

/** The manifest under this sequence, from the database's bytes. Throws NoCopyLeft. */
export function rewriteManifest(journal: Journal, place: Place, sequence: bigint): Promise<boolean> {
  const { writes } = journal;
  return writeEntries(journal, async (node) => {
    const copy = await findManifestAt(writes, place, sequence);
    if (copy === undefined) return { done: false };
    const { mediaType, bytes } = copy;
    if (hashOf(bytes, place.digest) !== place.digest) throw new NoCopyLeft('the bytes in the database are not those of its digest either');
    const objects = manifestObjects({ ...place, manifest: parseManifest(bytes, mediaType), bytes });
    const templates = objects.map(({ template }) => template);
    return written(journal, node, place.repository, manifestPrefix(place.repository, place.digest), objects, (intent) =>
      commitRewrittenManifest(writes, node, intent, place, sequence, templates),
    );
  });
}

/** The newest entry of a tag, which may be its deletion. An older one cannot be brought back: a new entry would be the newest. */
export function rewriteTag(journal: Journal, repository: RepositoryName, tag: Tag, sequence: bigint): Promise<boolean> {
  const { writes } = journal;
  const prefix = tagPrefix(repository, tag);
  return writeEntries(journal, async (node) => {
    const found = await findTagAt(writes, repository, tag, sequence);
    if (found === undefined) return { done: false };
    const { digest, at } = found;
    const objects =
      digest === undefined
        ? [{ template: deletionTemplate(prefix), bytes: tagBody(at) }]
        : [{ template: tagTemplate(repository, tag, digest), bytes: tagBody(at) }];
    return written(journal, node, repository, prefix, objects, (intent) =>
      commitRewrittenTag(writes, node, intent, repository, tag, sequence, digest),
    );
  });
}

/** The deletion of a link or a manifest. */
export function rewriteDeletion(journal: Journal, place: Place, prefix: string, sequence: bigint): Promise<boolean> {
  const { writes } = journal;
  return writeEntries(journal, async (node) => {
    if (!(await isTombstone(writes, prefix, sequence))) return { done: false };
    return written(journal, node, place.repository, prefix, [{ template: deletionTemplate(prefix), bytes: nothing }], (intent) =>
      commitRewrittenDeletion(writes, node, intent, place, prefix, sequence),
    );
  });
}

async function written(
  { writes }: Journal,
  node: string,
  repository: RepositoryName,
  prefix: string,
  objects: readonly { readonly template: KeyTemplate; readonly bytes: Uint8Array }[],
  commit: (intent: Intent) => Promise<void>,
) {
  const templates = objects.map(({ template }) => template);
  const intent = await intendAlone(writes, node, repository, prefix, templates);
  return { sequence: intent.sequence, objects, commit: () => commit(intent), outcome: true };
}
