// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The peer from Debian's package docker-registry (distribution 2.8), for measuring and for trying a drill out. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { startRegistry, type RunningRegistry } from './registry.js';

export function startDockerRegistry(binary = 'docker-registry'): Promise<RunningRegistry> {
  return startRegistry({
    readyPath: '/v2/',
    launch: async ({ root, port }) => {
      const configFile = path.join(root, 'docker-registry.yml');
      await writeFile(configFile, JSON.stringify(settings(root, port)));
      return { command: binary, args: ['serve', configFile] };
    },
  });
}

function settings(root: string, port: number): object {
  return {
    version: 0.1,
    log: { level: 'warn', accesslog: { disabled: true } },
    storage: { filesystem: { rootdirectory: path.join(root, 'data') }, delete: { enabled: true } },
    http: { addr: `127.0.0.1:${port}` },
  };
}
