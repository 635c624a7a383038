// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { exportLayout, type ExportCounts } from '../layout/export-layout.js';
import { openTarget } from '../layout/layout-target.js';
import { print, showProgress, UsageError, type Command, type CommandInput } from './command.js';
import { parseImageName } from './image-name.js';
import { openRegistry } from './open-parts.js';
import { openCommandReads } from './open-reads.js';

/** `ha-registry export`: images as files that other tools, and other registries, read. */
export const exportCommand: Command = {
  usage: `ha-registry export REPO[:TAG|@DIGEST] DIR|FILE.tar [--json] [options]

  Writes an OCI image layout: one image, or all tags of a repository, with what refers to them. DIR may hold a layout already, to which they are added. Beside running
  nodes or without one.

  --json         the result as JSON
`,
  options: { json: { type: 'boolean' } },
  arguments: { least: 2, most: 2 },
  async run({ config, values, arguments: [name = '', place = ''] }: CommandInput) {
    const image = parseImageName(name);
    if (place === '') throw new UsageError('export: no directory');
    const parts = await openRegistry(config);
    try {
      const target = await openTarget(place);
      try {
        const reads = openCommandReads(parts, config);
        tell(
          await exportLayout({ reads, store: parts.store, onProgress: showCounts }, image, target),
          image.repository,
          place,
          values['json'] === true,
        );
        return 0;
      } catch (error) {
        showProgress('');
        await target.abort();
        throw error;
      }
    } finally {
      await parts.close();
    }
  },
};

function showCounts({ manifests, blobs, bytes }: ExportCounts): void {
  showProgress(`${manifests} manifests, ${blobs} blobs, ${bytes} bytes`);
}

function tell(counts: ExportCounts, repository: string, place: string, json: boolean): void {
  showProgress('');
  if (json) return print(JSON.stringify(counts));
  print(`${place}: ${counts.tags} tags, ${counts.manifests} manifests, ${counts.blobs} blobs, ${counts.bytes} bytes`);
  for (const digest of counts.missing) print(`listed by an index, but not in ${repository}: ${digest}`);
}
