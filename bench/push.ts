// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The pushes and pulls that the benches are made of. Each throws when the registry answers anything but what the specification promises. */
import { randomBytes } from 'node:crypto';
import { type Content, contentFrom } from './content.js';
import type { Answer, Connection } from './wire.js';

export const manifestType = 'application/vnd.oci.image.manifest.v1+json';
const configType = 'application/vnd.oci.image.config.v1+json';
const layerType = 'application/vnd.oci.image.layer.v1.tar';

export interface Image {
  readonly config: Content;
  readonly layers: readonly Content[];
  readonly manifest: Content;
}

/** `put`: POST, then one PUT with Content-Length. `patch`: POST, one chunked PATCH, and an empty PUT, as docker does. */
export type BlobWay = 'put' | 'patch';

export async function pushBlob(connection: Connection, repository: string, content: Content, way: BlobWay = 'put'): Promise<void> {
  const started = await connection.request({
    method: 'POST',
    path: `/v2/${repository}/blobs/uploads/`,
    headers: { 'Content-Length': '0' },
  });
  let location = locationOf(expectStatus(started, 202, 'POST upload'));
  const type = { 'Content-Type': 'application/octet-stream' };
  if (way === 'patch') {
    const headers = { ...type, 'Transfer-Encoding': 'chunked' };
    const sent = await connection.request({ method: 'PATCH', path: location, headers, body: content.chunks() });
    location = locationOf(expectStatus(sent, 202, 'PATCH upload'));
  }
  const headers = { ...type, 'Content-Length': String(way === 'put' ? content.bytes : 0) };
  const path = `${location}${location.includes('?') ? '&' : '?'}digest=${encodeURIComponent(content.digest)}`;
  const done = await connection.request({ method: 'PUT', path, headers, body: way === 'put' ? content.parts() : [] });
  expectStatus(done, 201, 'PUT upload');
}

export async function pushManifest(connection: Connection, repository: string, reference: string, manifest: Content): Promise<void> {
  const headers = { 'Content-Type': manifestType, 'Content-Length': String(manifest.bytes) };
  const path = `/v2/${repository}/manifests/${reference}`;
  expectStatus(await connection.request({ method: 'PUT', path, headers, body: manifest.parts() }), 201, 'PUT manifest');
}

/** As clients push: ask for each blob, push what is missing, then the manifest by tag. */
export async function pushImage(connection: Connection, repository: string, tag: string, image: Image): Promise<void> {
  for (const blob of [image.config, ...image.layers]) {
    const asked = await connection.request({ method: 'HEAD', path: `/v2/${repository}/blobs/${blob.digest}` });
    if (asked.status !== 200) await pushBlob(connection, repository, blob);
  }
  await pushManifest(connection, repository, tag, image.manifest);
}

/** The manifest by tag, then every blob. */
export async function pullImage(connection: Connection, repository: string, tag: string, image: Image): Promise<void> {
  const path = `/v2/${repository}/manifests/${tag}`;
  expectStatus(await connection.request({ method: 'GET', path, headers: { Accept: manifestType } }), 200, 'GET manifest');
  for (const blob of [image.config, ...image.layers]) await pullBlob(connection, repository, blob);
}

export async function pullBlob(connection: Connection, repository: string, content: Content): Promise<void> {
  const answer = await connection.request({ method: 'GET', path: `/v2/${repository}/blobs/${content.digest}` });
  if (expectStatus(answer, 200, 'GET blob').bodyBytes !== content.bytes) throw new Error(`GET blob gave ${answer.bodyBytes} bytes`);
}

export async function mountBlob(connection: Connection, from: string, to: string, digest: string): Promise<void> {
  const path = `/v2/${to}/blobs/uploads/?mount=${encodeURIComponent(digest)}&from=${encodeURIComponent(from)}`;
  expectStatus(await connection.request({ method: 'POST', path, headers: { 'Content-Length': '0' } }), 201, 'mount');
}

/** An image of random bytes: a config of 2 KB and the layers asked for. */
export function makeImage(layerBytes: readonly number[]): Image {
  const config = contentFrom(Buffer.from(JSON.stringify({ architecture: 'amd64', os: 'linux', noise: randomBytes(960).toString('hex') })));
  const layers = layerBytes.map((bytes) => contentFrom(randomBytes(bytes)));
  return { config, layers, manifest: manifestOf(config, layers) };
}

export function manifestOf(config: Content, layers: readonly Content[], annotations?: Record<string, string>): Content {
  const manifest = {
    schemaVersion: 2,
    mediaType: manifestType,
    config: descriptor(configType, config),
    layers: layers.map((layer) => descriptor(layerType, layer)),
    ...(annotations === undefined ? {} : { annotations }),
  };
  return contentFrom(Buffer.from(JSON.stringify(manifest)));
}

function descriptor(mediaType: string, { digest, bytes }: Content): { mediaType: string; digest: string; size: number } {
  return { mediaType, digest, size: bytes };
}

function expectStatus(answer: Answer, status: number, what: string): Answer {
  if (answer.status !== status) throw new Error(`${what} answered ${answer.status}: ${answer.body.toString('utf8', 0, 200)}`);
  return answer;
}

function locationOf(answer: Answer): string {
  const { pathname, search } = new URL(answer.headers.get('location') ?? '', 'http://registry');
  return pathname + search;
}
