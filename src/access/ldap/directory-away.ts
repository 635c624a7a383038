// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { RegistryError } from '../../oci/errors.js';

/** The directory cannot tell. Whoever throws it has told the log why, once, and not for each login. */
export class DirectoryAway extends Error {
  override readonly name = 'DirectoryAway';
}

const retryAfterSeconds = '5';

export function directoryUnavailable(cause: DirectoryAway): RegistryError {
  return new RegistryError('UNAVAILABLE', 'the directory of users cannot be asked now', {
    headers: { 'Retry-After': retryAfterSeconds },
    cause,
  });
}
