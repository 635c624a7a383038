// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Fills a registry by HTTP with many repositories and tags, each tag a small manifest of its own over one shared blob. */
import { contentFrom } from './content.js';
import { manifestOf, mountBlob, pushBlob, pushManifest } from './push.js';
import { fill } from './timing.js';
import type { Address } from './wire.js';

export interface SeededTag {
  readonly repository: string;
  readonly tag: string;
  readonly digest: string;
}

/** The one blob that every manifest names. */
export const sharedBlob = contentFrom(Buffer.from('{}'));
const width = 32;
/** Makes a manifest about 1 KB long. */
const padding = '.'.repeat(500);

/** Tag number i lies in repository number i % repositories. */
export async function seed(
  target: { name: string; address: Address },
  { repositories, tags }: { repositories: number; tags: number },
): Promise<SeededTag[]> {
  const start = performance.now();
  await fill(target, { count: 1, width: 1 }, (connection) => pushBlob(connection, 'bench/base', sharedBlob));
  await fill(target, { count: repositories, width }, (connection, index) =>
    mountBlob(connection, 'bench/base', repositoryName(index), sharedBlob.digest),
  );
  const seeded: SeededTag[] = [];
  await fill(target, { count: tags, width }, async (connection, index) => {
    const [repository, tag] = [repositoryName(index % repositories), `t${Math.floor(index / repositories)}`];
    const manifest = manifestOf(sharedBlob, [sharedBlob], { 'bench.name': `${repository}:${tag}`, 'bench.padding': padding });
    await pushManifest(connection, repository, tag, manifest);
    seeded.push({ repository, tag, digest: manifest.digest });
  });
  console.error(`${target.name}: ${repositories} repositories and ${tags} tags in ${Math.round((performance.now() - start) / 1000)} s`);
  return seeded;
}

function repositoryName(index: number): string {
  return `bench/r${String(index).padStart(5, '0')}`;
}
