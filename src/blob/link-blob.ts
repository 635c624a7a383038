// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Digest } from '../oci/digest.js';
import type { RepositoryName } from '../oci/repository-name.js';
import { writeEntries, type Journal, type Prepared } from '../journal/write-entries.js';
import { dataKey, isForeign, linkTemplate } from '../storage/keys.js';
import { endSession } from '../upload/session-queries.js';
import { commitLink, findForeignKey, prepareLink, type LinkKey, type PreparedLink } from './link-queries.js';

const empty = new Uint8Array();

/** The bytes of a finished upload: in its data object already, or small and here. */
export interface UploadedData {
  readonly session: { readonly id: string; readonly revision: bigint; readonly dataUuid: string };
  readonly size: number;
  readonly small: Uint8Array | undefined;
}

/**
 * Makes an uploaded digest readable in a repository. When the digest is stored already, the link goes to those data and the uploaded ones are dropped once that is
 * committed; a small upload is then not even written.
 */
export async function linkUpload(
  journal: Journal,
  repository: RepositoryName,
  digest: Digest,
  { session, size, small }: UploadedData,
  signal: AbortSignal,
): Promise<void> {
  let written = small === undefined;
  const prepare = async (node: string): Promise<Prepared<void>> => {
    const prepared = await prepareWithin(journal, node, { repository, digest }, { own: session.dataUuid }, size);
    if (prepared.outcome === 'linked') {
      await endSession(journal.writes, session.id, session.revision);
      return { done: undefined };
    }
    const writeData = async (): Promise<void> => {
      if (written || small === undefined || prepared.uuid !== session.dataUuid) return;
      await journal.store.put(dataKey(session.dataUuid), small);
      written = true;
    };
    return {
      ...(await linkEntry(journal, node, { repository, digest, uuid: prepared.uuid, size, session }, prepared.sequence, undefined)),
      writeData,
    };
  };
  await writeEntries(journal, prepare, signal);
}

/** Makes a digest of another repository (of any, when `from` is undefined) readable in this one. False when there is no such source. */
export function mountBlob(
  journal: Journal,
  repository: RepositoryName,
  digest: Digest,
  from: readonly RepositoryName[] | undefined,
  signal?: AbortSignal,
): Promise<boolean> {
  const prepare = async (node: string): Promise<Prepared<boolean>> => {
    const prepared = await prepareWithin(journal, node, { repository, digest }, { from }, undefined);
    if (prepared.outcome !== 'write') return { done: prepared.outcome === 'linked' };
    return linkEntry(
      journal,
      node,
      { repository, digest, uuid: prepared.uuid, size: Number(prepared.size), session: undefined },
      prepared.sequence,
      true,
    );
  };
  return writeEntries(journal, prepare, signal);
}

/** Throws DENIED where the repository has a quota and no room. */
async function prepareWithin(
  { writes, quotas }: Journal,
  node: string,
  link: LinkKey,
  source: Parameters<typeof prepareLink>[3],
  size: number | undefined,
): Promise<PreparedLink> {
  const quota = quotas?.of(link.repository);
  if (quota === undefined) return prepareLink(writes, node, link, source);
  const prepared = await prepareLink(writes, node, link, source, { limitBytes: quota.limitBytes, size });
  quota.note(Number(prepared.used));
  if (prepared.outcome === 'full') throw quota.exceeded(Number(prepared.used), Number(prepared.size));
  return prepared;
}

async function linkEntry<Outcome>(
  journal: Journal,
  node: string,
  link: { repository: RepositoryName; digest: Digest; uuid: string; size: number; session: UploadedData['session'] | undefined },
  drawn: string | null,
  outcome: Outcome,
) {
  const sequence = BigInt(drawn ?? 0);
  const bytes = isForeign(link.uuid) ? Buffer.from(await findForeignKey(journal.writes, link.digest, link.uuid)) : empty;
  return {
    sequence,
    objects: [{ template: linkTemplate(link.repository, link.digest, link.uuid), bytes }],
    commit: () => commitLink(journal.writes, node, { ...link, sequence }),
    outcome,
  };
}
