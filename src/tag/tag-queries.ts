// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Queryer } from '../database/pool.js';
import type { Tag } from '../oci/reference.js';
import type { RepositoryName } from '../oci/repository-name.js';
import { tagPrefix, type KeyTemplate } from '../storage/keys.js';

/** Tags after `last` in the order of their bytes, at most `limit`; undefined when there is no such repository. */
export async function listTags(reads: Queryer, repository: RepositoryName, last: string, limit: number): Promise<string[] | undefined> {
  const { rows } = await reads.query<[string[]]>({
    name: 'list-tags',
    text: `SELECT ARRAY(SELECT t.name FROM tags t WHERE t.repository_id = r.id AND t.name > $2 ORDER BY t.name LIMIT $3) FROM repositories r WHERE r.name = $1`,
    values: [repository, last, limit],
    rowMode: 'array',
  });
  return rows[0]?.[0];
}

/** The sequence of the deletion that is now pending, or undefined when there is no such tag. `body`: of its entry, JSON. */
export async function prepareTagDeletion(
  queryer: Queryer,
  node: string,
  deletion: { readonly repository: RepositoryName; readonly tag: Tag; readonly template: KeyTemplate; readonly body: Uint8Array },
): Promise<bigint | undefined> {
  const { repository, tag, template, body } = deletion;
  const { rows } = await queryer.query<{ sequence: string | null }>({
    name: 'prepare-tag-deletion',
    text: 'SELECT prepare_tag_deletion($1, $2, $3, $4, $5) AS sequence',
    values: [node, repository, tag, template, Buffer.from(body).toString('utf8')],
  });
  const sequence = rows[0]?.sequence ?? null;
  return sequence === null ? undefined : BigInt(sequence);
}

export async function commitTagDeletion(
  queryer: Queryer,
  node: string,
  sequence: bigint,
  repository: RepositoryName,
  tag: Tag,
): Promise<void> {
  await queryer.query({
    name: 'commit-tag-deletion',
    text: 'SELECT commit_tag_deletion($1, $2, $3, $4, $5)',
    values: [node, sequence, repository, tag, tagPrefix(repository, tag)],
  });
}
