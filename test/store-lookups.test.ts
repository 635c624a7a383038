// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Pulls while Postgres is away do not wait for lists, however slow those are. */
import { setImmediate } from 'node:timers/promises';
import t from 'tap';
import { ManifestCache } from '../src/manifest/manifest-cache.js';
import { parseDigest } from '../src/oci/digest.js';
import { parseTag } from '../src/oci/reference.js';
import type { RepositoryName } from '../src/oci/repository-name.js';
import { openStoreReads } from '../src/reads/store-reads.js';
import type { BlobStore } from '../src/storage/blob-store.js';
import { entryKey, manifestTemplate, tagTemplate } from '../src/storage/keys.js';
import { writeManifestObject } from '../src/storage/manifest-object.js';
import { digestOf, imageOf, types } from './support/wire-suite.js';

void t.test('lists that hang do not hold up a look-up', async (t) => {
  const repository = 'some/image' as RepositoryName;
  const image = imageOf([]);
  const digest = parseDigest(digestOf(image));
  const tag = parseTag('latest');
  const objects = new Map([
    [entryKey(tagTemplate(repository, tag, digest), 1n), new Uint8Array()],
    [entryKey(manifestTemplate(repository, digest), 1n), writeManifestObject(types.manifest, Buffer.from(image))],
  ]);
  let hanging = 0;
  const hang = (): Promise<never> => {
    hanging++;
    return new Promise<never>(() => undefined);
  };
  const store = {
    list: (prefix: string) =>
      prefix.includes('_referrers/') || prefix.endsWith('_tags/')
        ? hang()
        : Promise.resolve([...objects.keys()].filter((key) => key.startsWith(prefix))),
    get: (key: string) => Promise.resolve(objects.get(key)),
    listDirectories: hang,
    size: () => Promise.resolve(1),
  };
  const reads = openStoreReads(store as unknown as BlobStore, new ManifestCache(0));
  for (let limit = 1; limit <= 40; limit++) {
    void reads.listRepositories('', limit);
    void reads.listTags(repository, '', limit);
    const subject = parseDigest(digestOf(String(limit)));
    void reads.listReferrers(repository, subject, { artifactType: undefined, after: undefined, select: undefined });
  }
  const found: string[] = [];
  void reads.manifestsByTag.find({ repository, tag }).then((manifest) => found.push(manifest?.digest ?? 'none'));
  for (let turn = 0; turn < 100 && found.length === 0; turn++) await setImmediate();
  t.strictSame(found, [digest]);
  t.equal(hanging, 8, 'and few of them are under way');
});
