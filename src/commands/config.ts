// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { checkFiles } from '../config/check-files.js';
import { print, UsageError, type Command } from './command.js';

/** Whatever is wrong with the file itself is told before a command runs. */
export const configCommand: Command = {
  usage: `ha-registry config check [--config FILE]
  says whether a node would start with this configuration, or take it over (SIGHUP); opens nothing; exit code 0: yes, 2: no
`,
  options: {},
  arguments: { least: 1, most: 1 },
  async run({ config, values, arguments: [word] }) {
    if (word !== 'check') throw new UsageError(`config: unknown command ${JSON.stringify(word)}`);
    for (const warning of await checkFiles(config)) print(`warning: ${warning}`);
    print(`${typeof values['config'] === 'string' ? values['config'] : 'without a file, the configuration'} is good`);
    return 0;
  },
};
