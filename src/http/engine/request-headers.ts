// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** A request's headers as one flat list: a name in lower case, its value, the next name, … An array costs a request less than a map. */
export type HeaderPairs = readonly string[];

/** The value of a header; repeated ones are joined. */
export function findHeader(pairs: HeaderPairs, name: string): string | undefined {
  let found: string | undefined;
  for (let at = 0; at < pairs.length; at += 2) {
    if (pairs[at] === name) found = found === undefined ? pairs[at + 1] : `${found}, ${pairs[at + 1]}`;
  }
  return found;
}

/** Stands for a body whose length is not known before its end. */
export const CHUNKED = -1;

/**
 * How many bytes of body follow, or `CHUNKED`, or what is wrong with the headers that say so (RFC 9112, 3.2 and 6.3). Both engines ask here,
 * because what one of them lets pass (uWS: two lengths, two hosts, any coding; node: two hosts) is how requests are smuggled past a proxy.
 */
export function bodyFraming(pairs: HeaderPairs, hostRequired: boolean): number | string {
  let hosts = 0;
  let length: string | undefined;
  let coding: string | undefined;
  for (let at = 0; at < pairs.length; at += 2) {
    const name = pairs[at];
    if (name === 'host') hosts++;
    else if (name === 'content-length') {
      if (length !== undefined) return 'repeated Content-Length';
      length = pairs[at + 1];
    } else if (name === 'transfer-encoding') {
      if (coding !== undefined) return 'repeated Transfer-Encoding';
      coding = pairs[at + 1];
    }
  }
  if (hosts > 1) return 'repeated Host';
  if (hosts === 0 && hostRequired) return 'no Host';
  if (coding !== undefined) {
    if (length !== undefined) return 'both Content-Length and Transfer-Encoding';
    return coding.toLowerCase() === 'chunked' ? CHUNKED : 'Transfer-Encoding other than chunked';
  }
  if (length === undefined) return 0;
  return /^\d{1,15}$/.test(length) ? Number(length) : 'malformed Content-Length';
}
