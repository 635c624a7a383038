// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The servers that the benches compare, and the configuration each is given. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Launch, Place } from '../test/support/registry.js';

export interface ServerKind {
  readonly readyPath: string;
  /** Writes what the server needs into its directory and says how it is started. */
  readonly launch: (place: Place) => Launch;
}

/** This registry, as built in dist/. */
export function haRegistry({
  engine = 'uws',
  nodeArguments = [],
  scrub = true,
}: { engine?: string; nodeArguments?: readonly string[]; scrub?: boolean } = {}): ServerKind {
  const main = fileURLToPath(new URL('../dist/main.js', import.meta.url));
  return {
    readyPath: '/readyz',
    launch({ root, port }) {
      const config = join(root, 'config.yml');
      writeFileSync(config, `server:\n  engine: ${engine}\nlog:\n  level: warn\nscrub:\n  enabled: ${scrub}\n`);
      const serve = ['serve', '--root', join(root, 'data'), '-p', String(port), '--config', config];
      return { command: process.execPath, args: [...nodeArguments, main, ...serve] };
    },
  };
}

/** Debian's docker-registry 2.8, with the cache that Debian's own configuration has. */
export const dockerRegistry: ServerKind = {
  readyPath: '/v2/',
  launch({ root, port }) {
    const config = join(root, 'config.yml');
    const storage = { cache: { blobdescriptor: 'inmemory' }, filesystem: { rootdirectory: join(root, 'data') }, delete: { enabled: true } };
    const log = { level: 'error', accesslog: { disabled: true } };
    writeFileSync(config, JSON.stringify({ version: '0.1', log, storage, http: { addr: `127.0.0.1:${port}` } }));
    return { command: 'docker-registry', args: ['serve', config] };
  },
};

/** nginx with one worker and sendfile, serving `<directory>/files`. */
export const nginx: ServerKind = {
  readyPath: '/ready',
  launch({ root, port }) {
    mkdirSync(join(root, 'files'), { recursive: true });
    writeFileSync(join(root, 'files', 'ready'), 'yes');
    const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((kind) => `${kind}_temp_path ${root}/${kind};`).join(' ');
    const config = `daemon off; worker_processes 1; pid ${root}/pid; error_log ${root}/error.log;
      ${process.getuid?.() === 0 ? 'user root;' : ''} events { worker_connections 256; }
      http { access_log off; sendfile on; tcp_nopush on; ${temporary} server { listen 127.0.0.1:${port}; root ${root}/files; } }`;
    writeFileSync(join(root, 'nginx.conf'), config);
    return { command: 'nginx', args: ['-p', root, '-c', join(root, 'nginx.conf'), '-e', join(root, 'error.log')] };
  },
};

export function installed(command: string): boolean {
  return spawnSync(command, ['--version']).error === undefined;
}
