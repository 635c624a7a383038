// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Config } from '../config/config.js';
import { Availability } from '../database/availability.js';
import { ManifestCache } from '../manifest/manifest-cache.js';
import { openReads } from '../reads/database-reads.js';
import type { MetadataReads } from '../reads/metadata-reads.js';
import { openStoreReads } from '../reads/store-reads.js';
import type { Parts } from './open-parts.js';

/** Reads as a node reads: what is found stays for an hour, and should the database be lost on the way, the store goes on answering. */
export function openCommandReads({ database, store }: Parts, { gc, manifests }: Config): MetadataReads {
  const { reads, writes } = database;
  const availability = new Availability({
    probe: () => reads.query('SELECT 1'),
    onLost: () => undefined,
    onRecovered: () => undefined,
  });
  return openReads({ reads, writes }, gc.delay, availability, openStoreReads(store, new ManifestCache(manifests.cache_size)), undefined);
}
