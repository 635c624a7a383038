// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Gives a database that went back in time the writes that it lost: each is committed once more, under its own sequence, from what the store holds. */
import type { Client } from 'pg';
import { commitLink, commitLinkDeletion } from '../blob/link-queries.js';
import { commitManifest, commitManifestDeletion, findSubject } from '../manifest/manifest-queries.js';
import { parseManifest } from '../oci/manifest.js';
import { parseTag, type Tag } from '../oci/reference.js';
import { parseRepositoryName, type RepositoryName } from '../oci/repository-name.js';
import type { BlobStore } from '../storage/blob-store.js';
import { dataKey, entryKey, manifestTemplate, parseEntry, type Entry } from '../storage/keys.js';
import { commitTagDeletion } from '../tag/tag-queries.js';
import { adoptBlob, adoptWrite, isManifestEntry, listUnknownEntries, type EntryClaim } from './cluster-queries.js';
import type { RecentWrite } from './recent-writes.js';

/** Entries per query. */
const atOnce = 500;

/** Those of the writes of which the database lacks an entry, in the same order. */
export async function listUnknownWrites(client: Client, writes: readonly RecentWrite[]): Promise<RecentWrite[]> {
  const unknown = new Set<RecentWrite>();
  const claims = writes.flatMap((write) => write.templates.flatMap((template) => claimOf(write, template)));
  for (let start = 0; start < claims.length; start += atOnce) {
    const batch = claims.slice(start, start + atOnce);
    for (const index of await listUnknownEntries(client, batch)) {
      const claim = batch[index];
      if (claim !== undefined) unknown.add(claim.write);
    }
  }
  return writes.filter((write) => unknown.has(write));
}

/** A referrer's entry stands and falls with its manifest's. */
function claimOf(write: RecentWrite, template: RecentWrite['templates'][number]): (EntryClaim & { readonly write: RecentWrite })[] {
  const entry = parseEntry(entryKey(template, write.sequence));
  if (entry === undefined || entry.kind === 'referrer') return [];
  const { repository, sequence, kind } = entry;
  const tag = kind === 'tag' ? entry.tag : undefined;
  const digest = kind === 'tag' ? undefined : entry.digest;
  return [{ write, repository, sequence, prefix: template.slice(0, template.indexOf('%')), digest, tag, isManifest: kind === 'manifest' }];
}

/** In one transaction: a write that cannot be committed leaves no pending row, whose expiry would delete its objects. */
export async function adopt(client: Client, store: BlobStore, node: string, write: RecentWrite): Promise<void> {
  const { sequence, templates } = write;
  const entries = templates.flatMap((template) => parseEntry(entryKey(template, sequence)) ?? []);
  const repository = parseRepositoryName(entries[0]?.repository ?? '');
  const data = entries.flatMap((entry) => (entry.kind === 'link' && entry.uuid !== 'deleted' ? [entry.uuid] : []));
  const commit = await prepareCommit(client, store, node, sequence, repository, entries);
  await client.query('BEGIN');
  try {
    await adoptWrite(client, node, { sequence, repository, templates, data });
    await commit();
    await client.query('COMMIT');
  } catch (error) {
    await client.query('ROLLBACK');
    throw error;
  }
}

async function prepareCommit(
  client: Client,
  store: BlobStore,
  node: string,
  sequence: bigint,
  repository: RepositoryName,
  entries: readonly Entry[],
): Promise<() => Promise<void>> {
  const [link] = entries.filter((entry) => entry.kind === 'link');
  const [manifest] = entries.filter((entry) => entry.kind === 'manifest');
  const tagEntries = entries.filter((entry) => entry.kind === 'tag');
  const tags: Tag[] = tagEntries.map(({ tag }) => parseTag(tag));
  if (link?.uuid === 'deleted') return () => commitLinkDeletion(client, node, sequence, { repository, digest: link.digest });
  if (link !== undefined) {
    const size = await store.size(dataKey(link.uuid));
    if (size === undefined) throw new Error(`the store has no data for the link ${link.digest} of ${repository}`);
    return async () => {
      const uuid = await adoptBlob(client, link.digest, link.uuid, size);
      await commitLink(client, node, { repository, digest: link.digest, uuid, size, sequence });
    };
  }
  if (manifest?.deleted === true) {
    const { digest } = manifest;
    return async () =>
      commitManifestDeletion(client, node, sequence, { repository, digest, tags, subject: await findSubject(client, repository, digest) });
  }
  if (manifest !== undefined) {
    const { digest } = manifest;
    if (await isManifestEntry(client, repository, digest, sequence))
      throw new Error(`the database has the manifest ${digest} of ${repository}, but not its tags`);
    const object = await store.get(entryKey(manifestTemplate(repository, digest), sequence));
    if (object === undefined) throw new Error(`the store has no entry for the manifest ${digest} of ${repository}`);
    const { mediaType, bytes } = readManifestObject(object);
    const push = { repository, digest, manifest: parseManifest(bytes, mediaType), bytes, tags, allowMissing: true };
    return () => commitManifest(client, node, sequence, push);
  }
  const [tag] = tags;
  if (tag === undefined) throw new Error(`sequence ${sequence} of ${repository} has no entry that can be adopted`);
  return () => commitTagDeletion(client, node, sequence, repository, tag);
}

/** Header lines, a blank line, the exact bytes. */
function readManifestObject(object: Uint8Array): { readonly mediaType: string; readonly bytes: Uint8Array } {
  const buffer = Buffer.from(object);
  const end = buffer.indexOf('\n\n');
  const header = buffer.subarray(0, end).toString('utf8');
  return { mediaType: /^Content-Type: (.*)$/m.exec(header)?.[1] ?? '', bytes: buffer.subarray(end + 2) };
}
