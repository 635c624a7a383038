// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Digest } from '../oci/digest.js';
import type { Request } from './contract.js';

/** If-None-Match (RFC 9110, 13.1.2) against a representation whose entity tag is its digest. */
export function isNotModified(request: Request, digest: Digest): boolean {
  const header = request.header('if-none-match');
  if (header === undefined) return false;
  return header.split(',').some((text) => {
    const tag = text.trim().replace(/^W\//, '');
    return tag === '*' || tag === `"${digest}"`;
  });
}
