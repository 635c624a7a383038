// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { restoreManifest } from '../undo/restore.js';
import { commandUser, print, UsageError, type Command, type CommandInput } from './command.js';
import { parseImageName } from './image-name.js';
import { openRegistry } from './open-parts.js';
import { withJournal } from './with-journal.js';

/** `ha-registry manifest restore`: a manifest that was deleted by its digest. */
export const manifestCommand: Command = {
  usage: `ha-registry manifest restore REPO@DIGEST [--without-tags] [--json] [options]

  Brings back a manifest that was deleted, with the tags that went with it, unless they were set again since. Beside running nodes or without one.

  --without-tags the manifest alone; without this option its tags can follow later
  --json         the result as JSON
`,
  options: { 'without-tags': { type: 'boolean' }, json: { type: 'boolean' } },
  arguments: { least: 2, most: 2 },
  async run({ config, version, values, arguments: [action, name = ''] }: CommandInput) {
    if (action !== 'restore') throw new UsageError(`manifest ${String(action)}: restore is the one there is`);
    const { repository, digest } = parseImageName(name);
    if (digest === undefined) throw new UsageError(`not REPO@DIGEST: ${name}`);
    const parts = await openRegistry(config);
    try {
      const { restored, tags, missing } = await withJournal(parts, version, (journal) =>
        restoreManifest({ journal, sparse: config.manifests.sparse }, repository, digest, values['without-tags'] !== true, commandUser()),
      );
      if (values['json'] === true) print(JSON.stringify({ repository, digest, restored, tags, missing }));
      else {
        print(restored ? `${repository}@${digest} is back` : `${repository}@${digest} is there: nothing was deleted`);
        for (const tag of tags) print(`${repository}:${tag} points at it again`);
        for (const reference of missing) print(`not in ${repository}: ${reference}`);
      }
      return 0;
    } finally {
      await parts.close();
    }
  },
};
