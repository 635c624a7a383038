// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Reply, StreamBody } from '../contract.js';

/** A body up to this is written with its headers in one go and forgotten; a longer one is sent as the client takes it. */
export const inlineBytes = 16 * 1024;

export function isStream(body: Reply['body']): body is StreamBody {
  return typeof body === 'object' && 'open' in body;
}

/** Nothing follows the headers (RFC 9110, 6.4.1). */
export function hasNoBody(method: string, { status }: Reply): boolean {
  return method === 'HEAD' || status === 204 || status === 304;
}

/** The Content-Length that a GET has, also for HEAD. */
export function bodyLength({ body }: Reply): number {
  if (body === undefined) return 0;
  return typeof body === 'string' ? Buffer.byteLength(body) : body.length;
}
