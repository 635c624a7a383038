// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { findDigest, type Digest } from '../oci/digest.js';
import { findTag, type Tag } from '../oci/reference.js';
import { findRepositoryName, type RepositoryName } from '../oci/repository-name.js';
import { UsageError } from './command.js';

/** `REPO`, `REPO:TAG` or `REPO@DIGEST`, without a host. */
export interface ImageName {
  readonly repository: RepositoryName;
  readonly tag: Tag | undefined;
  readonly digest: Digest | undefined;
}

/** Throws UsageError. */
export function parseImageName(text: string): ImageName {
  const at = text.indexOf('@');
  const colon = at < 0 ? text.indexOf(':') : -1;
  const end = at < 0 ? colon : at;
  const repository = findRepositoryName(end < 0 ? text : text.slice(0, end));
  const reference = text.slice(end + 1);
  const digest = at < 0 ? undefined : findDigest(reference);
  const tag = colon < 0 ? undefined : findTag(reference);
  if (repository === undefined) throw new UsageError(`not the name of a repository: ${text} (without a host: team/app)`);
  if (at >= 0 && digest === undefined) throw new UsageError(`not a digest: ${reference}`);
  if (colon >= 0 && tag === undefined) throw new UsageError(`not a tag: ${reference}`);
  return { repository, tag, digest };
}
