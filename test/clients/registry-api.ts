// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Asks the registry itself, past client and proxy, what it holds. */
import { digestOf } from './images.js';

export const manifestTypes = [
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
];

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

interface Manifest {
  readonly config?: Descriptor;
  readonly layers?: readonly Descriptor[];
  readonly manifests?: readonly Descriptor[];
}

export interface Stored {
  readonly digest: string;
  readonly mediaType: string;
  readonly body: string;
}

export interface RegistryApi {
  /** The manifest under a tag or digest; undefined when there is none. */
  readonly manifest: (repository: string, reference: string) => Promise<Stored | undefined>;
  /** The digest under a tag or digest, after a look whether all that it names is there in its announced size. */
  readonly verified: (repository: string, reference: string) => Promise<string>;
  readonly tags: (repository: string) => Promise<string[]>;
  readonly putManifest: (repository: string, reference: string, mediaType: string, body: string) => Promise<void>;
}

/** As `fetch`. */
export type Ask = (
  url: string,
  options?: Pick<RequestInit, 'method'> & { headers?: Record<string, string>; body?: string },
) => Promise<Response>;

export function registryApi(url: string, ask: Ask = fetch): RegistryApi {
  const at = (repository: string, rest: string) => `${url}/v2/${repository}/${rest}`;

  async function manifest(repository: string, reference: string): Promise<Stored | undefined> {
    const response = await ask(at(repository, `manifests/${reference}`), { headers: { Accept: manifestTypes.join(', ') } });
    const body = await response.text();
    if (response.status === 404) return undefined;
    expectStatus(response, 200, body);
    return { digest: digestOf(body), mediaType: response.headers.get('content-type') ?? '', body };
  }

  async function verified(repository: string, reference: string): Promise<string> {
    const stored = await manifest(repository, reference);
    if (stored === undefined) throw new Error(`the registry has no ${repository}:${reference}`);
    const { config, layers = [], manifests = [] } = JSON.parse(stored.body) as Manifest;
    for (const { digest, size } of [...(config === undefined ? [] : [config]), ...layers]) {
      const response = await ask(at(repository, `blobs/${digest}`), { method: 'HEAD' });
      expectStatus(response, 200, `HEAD of ${digest} in ${repository}`);
      const length = response.headers.get('content-length');
      if (length !== String(size)) throw new Error(`${digest} has Content-Length ${length} instead of ${size}`);
    }
    for (const child of manifests) await verified(repository, child.digest);
    return stored.digest;
  }

  return {
    manifest,
    verified,
    async tags(repository) {
      const response = await ask(at(repository, 'tags/list'));
      const body = await response.text();
      expectStatus(response, 200, body);
      return (JSON.parse(body) as { tags: string[] }).tags;
    },
    async putManifest(repository, reference, mediaType, body) {
      const response = await ask(at(repository, `manifests/${reference}`), {
        method: 'PUT',
        headers: { 'Content-Type': mediaType },
        body,
      });
      expectStatus(response, 201, await response.text());
    },
  };
}

function expectStatus({ status, url }: Response, expected: number, detail: string): void {
  if (status !== expected) throw new Error(`${url} answered ${status} instead of ${expected}: ${detail.slice(0, 500)}`);
}
