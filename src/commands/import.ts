// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Config } from '../config/config.js';
import type { Journal } from '../journal/write-entries.js';
import { importLayout, readLayout, type ImportCounts } from '../layout/import-layout.js';
import { openSource } from '../layout/layout-source.js';
import { BufferPool } from '../upload/buffer-pool.js';
import type { Uploads } from '../upload/active-upload.js';
import { loadHasher } from '../worker/hash.js';
import { print, showProgress, UsageError, type Command, type CommandInput } from './command.js';
import { parseImageName } from './image-name.js';
import { openRegistry, type Parts } from './open-parts.js';
import { openCommandReads } from './open-reads.js';
import { withJournal } from './with-journal.js';

/** `ha-registry import`: an OCI image layout, as other tools write it. */
export const importCommand: Command = {
  usage: `ha-registry import DIR|FILE.tar REPO[:TAG] [--json] [options]

  Takes the images of an OCI image layout, with what refers to them: all of them under the names that they have in it, or one as TAG. Again without harm. Beside running
  nodes or without one.

  --json         the result as JSON
`,
  options: { json: { type: 'boolean' } },
  arguments: { least: 2, most: 2 },
  async run({ config, version, values, arguments: [place = '', name = ''] }: CommandInput) {
    const { repository, tag, digest } = parseImageName(name);
    if (digest !== undefined) throw new UsageError(`import goes to REPO or REPO:TAG, not to a digest: ${name}`);
    const { max_size: maxManifestBytes, sparse } = config.manifests;
    const layout = await readLayout(await openSource(place), tag, maxManifestBytes);
    const parts = await openRegistry(config, true);
    try {
      const { links } = openCommandReads(parts, config);
      const counts = await withJournal(parts, version, async (journal) => {
        const uploads = await openUploads(config, parts, journal);
        return importLayout({ uploads, links, sparse, onProgress: showCounts }, layout, repository);
      }).finally(() => showProgress(''));
      tell(counts, repository, values['json'] === true);
      return 0;
    } finally {
      await parts.close();
    }
  },
};

async function openUploads(config: Config, { workers, store }: Parts, journal: Journal): Promise<Uploads> {
  return {
    journal,
    hasher: await loadHasher(config.workers.hash),
    hashBuffer: (task) => workers.hashBuffer(task),
    buffers: new BufferPool(config.uploads.memory_budget, store.parts.wantedBytes(1)),
    progress: { active: 0 },
  };
}

function showCounts(done: string, { blobs, bytes }: { readonly blobs: number; readonly bytes: number }): void {
  showProgress(`${done} ${blobs} blobs, ${bytes} bytes`);
}

function tell(counts: ImportCounts, repository: string, json: boolean): void {
  if (json) return print(JSON.stringify(counts));
  print(`${repository}: ${counts.tags.length} tags, ${counts.manifests} manifests, ${counts.blobs} blobs, ${counts.bytes} bytes`);
  for (const digest of counts.missing) print(`listed by an index, but neither in the layout nor in ${repository}: ${digest}`);
  for (const name of counts.unnamed) print(`not a tag, so what it names has none: ${name}`);
}
