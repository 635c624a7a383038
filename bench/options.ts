// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The options that the scripts of the speed targets share. */
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { parseArgs } from 'node:util';
import { gibibyte, mebibyte } from './content.js';
import { dockerRegistry, haRegistry, type ServerKind } from './launches.js';

export interface Options {
  readonly rounds: number;
  readonly quick: boolean;
  /** `--root`: where the data lie. */
  readonly disk: string;
  /** /dev/shm where there is one, else the disk. */
  readonly memory: string;
  /** Of the one big blob. */
  readonly bigBytes: number;
  readonly engine: string;
  readonly registry: ServerKind;
  /** For Node, where the bench starts the registry itself. */
  readonly nodeArguments: readonly string[];
  /** A count by its own option, else `usual`, with `--quick` `quick`. */
  count(name: 'tags' | 'repositories' | 'manifests' | 'seconds', usual: number, quick: number): number;
}

export function readOptions(usualRounds: number, quickRounds = 1): Options {
  const { values } = parseArgs({
    options: {
      rounds: { type: 'string' },
      quick: { type: 'boolean', default: false },
      root: { type: 'string', default: tmpdir() },
      engine: { type: 'string', default: 'uws' },
      registry: { type: 'string', default: 'ours' },
      'cpu-prof': { type: 'string' },
      tags: { type: 'string' },
      repositories: { type: 'string' },
      manifests: { type: 'string' },
      seconds: { type: 'string' },
    },
  });
  const { quick, root } = values;
  const nodeArguments = values['cpu-prof'] === undefined ? [] : ['--cpu-prof', '--cpu-prof-dir', values['cpu-prof']];
  return {
    rounds: Number(values.rounds ?? (quick ? quickRounds : usualRounds)),
    quick,
    disk: root,
    memory: existsSync('/dev/shm') ? '/dev/shm' : root,
    bigBytes: quick ? 64 * mebibyte : gibibyte,
    engine: values.engine,
    registry: values.registry === 'debian' ? dockerRegistry : haRegistry({ engine: values.engine, nodeArguments }),
    nodeArguments,
    count: (name, usual, few) => Number(values[name] ?? (quick ? few : usual)),
  };
}
