// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What the replies of an upload session have in common. */
import { RegistryError } from '../oci/errors.js';
import type { RepositoryName } from '../oci/repository-name.js';

export function uploadUnknown(id: string): RegistryError {
  return new RegistryError('BLOB_UPLOAD_UNKNOWN', 'upload unknown, ended or expired', { detail: id });
}

export function sessionLocation(repository: RepositoryName, id: string): string {
  return `/v2/${repository}/blobs/uploads/${id}`;
}

/** `0-<last byte>`; an empty upload says `0-0`, since docker's parser needs an end that is not before the start. */
export function sessionRange(received: number): string {
  return `0-${Math.max(0, received - 1)}`;
}

export function outOfStep(message: string, repository: RepositoryName, id: string, received: number): RegistryError {
  return new RegistryError('RANGE_INVALID', message, {
    detail: { received },
    headers: { Location: sessionLocation(repository, id), Range: sessionRange(received), 'Docker-Upload-UUID': id },
  });
}
