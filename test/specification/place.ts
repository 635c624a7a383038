// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** A repository of the registry under test, and the requests that all checks are made of. */
import { mediaTypes } from './content.js';
import { faultsOf, type Expected } from './expectations.js';
import { FollowingClient, type Answer, type Exchange, type HttpClient } from '../support/http-client.js';

export class Place {
  readonly client: HttpClient;
  readonly repository: string;

  constructor(client: HttpClient, repository: string) {
    this.client = client;
    this.repository = repository;
  }

  blob(digest: string): string {
    return `/v2/${this.repository}/blobs/${digest}`;
  }

  manifest(reference: string): string {
    return `/v2/${this.repository}/manifests/${reference}`;
  }

  uploads(query: Readonly<Record<string, string>> = {}): string {
    const text = new URLSearchParams(query).toString();
    return `/v2/${this.repository}/blobs/uploads/${text === '' ? '' : `?${text}`}`;
  }

  /** Like the Go clients, which offer gzip for every answer: no digest fits a body that was compressed. */
  send(method: string, target: string, { headers = {}, ...exchange }: Exchange = {}): Promise<Answer> {
    return this.client.send(method, target, { ...exchange, headers: { 'Accept-Encoding': 'gzip', ...headers } });
  }

  async faults(method: string, target: string, expected: Expected, exchange: Exchange = {}): Promise<string[]> {
    return faultsOf(`${method} ${short(target)}`, await this.send(method, target, exchange), expected, method);
  }

  /** `method` is GET or HEAD: the whole blob as it was pushed, with its length and the digest that was asked for, unless it comes from a store, which knows no digests. */
  blobFaults(method: string, target: string, digest: string, bytes: Uint8Array): Promise<string[]> {
    const fromStore = method === 'GET' && this.client instanceof FollowingClient;
    const headers = { 'Content-Length': String(bytes.byteLength), ...(fromStore ? {} : { 'Docker-Content-Digest': digest }) };
    return this.faults(method, target, { status: 200, headers, body: method === 'HEAD' ? new Uint8Array() : bytes });
  }

  /** What is not there can neither be looked at, nor pulled, nor deleted. */
  async absentFaults(kind: 'blob' | 'manifest', ...references: readonly string[]): Promise<string[]> {
    const expected = { status: 404, code: kind === 'blob' ? 'BLOB_UNKNOWN' : 'MANIFEST_UNKNOWN' };
    const faults: string[] = [];
    for (const reference of references) {
      for (const method of ['HEAD', 'GET', 'DELETE']) faults.push(...(await this.faults(method, this[kind](reference), expected)));
    }
    return faults;
  }

  /** `method` is GET or HEAD: the exact bytes and their type, whatever the order of the types that the client accepts. */
  manifestFaults(method: string, target: string, digest: string, mediaType: string, bytes: Uint8Array): Promise<string[]> {
    const headers = { 'Content-Type': mediaType, 'Content-Length': String(bytes.byteLength), 'Docker-Content-Digest': digest };
    const expected = { status: 200, headers, body: method === 'HEAD' ? new Uint8Array() : bytes };
    return this.faults(method, target, expected, { headers: { Accept: acceptedManifests } });
  }

  /** A Location may be relative or absolute, and may have a query. */
  resolve(location: string): string {
    const { pathname, search } = new URL(location, `http://127.0.0.1:${this.client.port}`);
    return pathname + search;
  }
}

export const acceptedManifests = [mediaTypes.index, mediaTypes.image];

/** Adds parameters to a path that may have a query. */
export function withQuery(target: string, parameters: readonly (readonly [string, string])[]): string {
  const url = new URL(target, 'http://localhost');
  for (const [name, value] of parameters) url.searchParams.append(name, value);
  return url.pathname + url.search;
}

function short(target: string): string {
  return target.replace(/([0-9a-f]{12})[0-9a-f]{20,}/g, '$1…');
}
