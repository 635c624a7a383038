// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { randomBytes } from 'node:crypto';

/** What proxies and clients put into X-Request-Id; anything else could break a log's line, or fill it. */
const sane = /^[\w.:=+/-]{1,128}$/;
const process = randomBytes(9).toString('base64url');
let count = 0;

/** hot: the client's name for its request, else one that no other process gives: a random part of this process, and a count (a UUID costs ten times as much). */
export function requestId(given: string | undefined): string {
  return given !== undefined && sane.test(given) ? given : `${process}-${(count++).toString(36)}`;
}
