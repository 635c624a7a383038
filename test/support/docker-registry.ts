// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The peer from Debian's package docker-registry (distribution 2.8), for measuring and for trying a drill out. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { startRegistry, type RunningRegistry } from './registry.js';

/** `storage` as its configuration has it; without it a directory, `data` below its root. */
export function startDockerRegistry(binary = 'docker-registry', storage?: object): Promise<RunningRegistry> {
  return startRegistry({
    readyPath: '/v2/',
    // With certificates of this machine's its S3 driver does not start.
    env: { AWS_CA_BUNDLE: '' },
    launch: async ({ root, port }) => {
      const configFile = path.join(root, 'docker-registry.yml');
      await writeFile(configFile, JSON.stringify(settings(port, storage ?? { filesystem: { rootdirectory: path.join(root, 'data') } })));
      return { command: binary, args: ['serve', configFile] };
    },
  });
}

function settings(port: number, storage: object): object {
  return {
    version: 0.1,
    log: { level: 'warn', accesslog: { disabled: true } },
    storage: { ...storage, delete: { enabled: true } },
    http: { addr: `127.0.0.1:${port}` },
  };
}
