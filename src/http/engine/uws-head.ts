// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { STATUS_CODES } from 'node:http';
import type { Reply } from '../contract.js';
import type { UwsResponse } from './uws-response.js';

/** Status line and headers. `Content-Length` and `Date` are uWS's own. */
export function writeHead(response: UwsResponse, { status, headers }: Reply, requestId: string, close: boolean): void {
  response.writeStatus(statusLine(status));
  for (const name in headers) {
    const value = headers[name];
    if (typeof value === 'string') response.writeHeader(name, value);
    else if (value !== undefined) for (const one of value) response.writeHeader(name, one);
  }
  response.writeHeader('X-Request-Id', requestId);
  if (close) response.writeHeader('Connection', 'close');
}

/** The name of a header that would break out of its line: uWS writes what it is given, where node:http throws. */
export function invalidHeader({ headers }: Reply): string | undefined {
  for (const name in headers) {
    const value = headers[name];
    const wrong = typeof value === 'string' ? unprintable.test(value) : value?.some((one) => unprintable.test(one));
    if (wrong === true || !isToken(name)) return name;
  }
  return undefined;
}

/** The same that node:http refuses. */
const unprintable = /[^\t\x20-\x7e\x80-\xff]/;
const token = /^[\w!#$%&'*+.^`|~-]+$/;

/** Names are few and written in our own code: each is looked at once. */
const tokens = new Set<string>();

function isToken(name: string): boolean {
  if (tokens.has(name)) return true;
  if (!token.test(name)) return false;
  if (tokens.size < 100) tokens.add(name);
  return true;
}

const statusLines = new Map<number, string>();

function statusLine(status: number): string {
  let line = statusLines.get(status);
  if (line === undefined) {
    line = `${status} ${STATUS_CODES[status] ?? 'Unknown'}`;
    statusLines.set(status, line);
  }
  return line;
}
