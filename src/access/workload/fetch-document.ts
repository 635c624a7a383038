// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Documents that an issuer publishes: small, soon, and from nowhere else than was asked. */
import { readFileSync } from 'node:fs';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { once } from 'node:events';

export interface DocumentOptions {
  /** PEM file of certificates to trust instead of Node's. */
  readonly caFile?: string | undefined;
  /** File of a token that the server asks for; read each time, since those are renewed. */
  readonly bearerTokenFile?: string | undefined;
  readonly signal: AbortSignal;
}

const timeoutMs = 5_000;
const largestBytes = 1024 * 1024;

/** Throws where it is not answered 200; redirects are refused. */
export async function fetchDocument(url: string, { caFile, bearerTokenFile, signal }: DocumentOptions): Promise<string> {
  if (!isTrustworthy(url)) throw new Error(`${url} is neither https nor on this machine`);
  const headers: Record<string, string> = { Accept: 'application/json' };
  if (bearerTokenFile !== undefined) headers['Authorization'] = `Bearer ${readFileSync(bearerTokenFile, 'utf8').trim()}`;
  const options = { headers, agent: false as const, signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]) };
  const request = url.startsWith('https:')
    ? httpsRequest(url, { ...options, ...(caFile === undefined ? {} : { ca: readFileSync(caFile) }) })
    : httpRequest(url, options);
  request.end();
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  try {
    if (response.statusCode !== 200) throw new Error(`${url} answered ${response.statusCode}`);
    const pieces: Buffer[] = [];
    let bytes = 0;
    for await (const piece of response) {
      pieces.push(piece as Buffer);
      bytes += (piece as Buffer).length;
      if (bytes > largestBytes) throw new Error(`${url} answered more than ${largestBytes} bytes`);
    }
    return Buffer.concat(pieces).toString('utf8');
  } finally {
    request.destroy();
  }
}

/** https, or a process of this machine. */
export function isTrustworthy(url: string): boolean {
  if (!URL.canParse(url)) return false;
  const { protocol, hostname } = new URL(url);
  return protocol === 'https:' || (protocol === 'http:' && /^(localhost|\[::1\]|127(\.\d{1,3}){3})$/.test(hostname));
}
