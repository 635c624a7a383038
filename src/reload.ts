// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Another configuration, or renewed certificates, for a node that goes on serving. */
import type { LiveAccess } from './access/live-access.js';
import type { Access } from './access/open-access.js';
import { watchFiles } from './access/watched-file.js';
import { checkFiles } from './config/check-files.js';
import { ConfigurationError, type Config } from './config/config.js';
import { takeOver } from './config/live-settings.js';
import type { HttpServer, TlsFiles } from './http/contract.js';
import type { Log } from './observe/log.js';

export interface ReloadParts {
  readonly log: Log;
  readonly server: HttpServer;
  readonly access: LiveAccess;
  readonly open: (config: Config) => Promise<Access>;
  /** What else holds from now on; must not fail. */
  readonly onChange: (config: Config, before: Config) => void;
}

export interface Reloader {
  /** All of it, or nothing: where it throws, what was before goes on. One after the other. */
  reload(next: Config): Promise<void>;
  close(): void;
}

export function openReloader(started: Config, { log, server, access, open, onChange }: ReloadParts): Reloader {
  let running = started;
  let renewal = watchCertificates(running, server, log);
  return {
    async reload(next) {
      const { config, waiting } = takeOver(running, next);
      refuseOpening(config, running);
      for (const warning of await checkFiles(config)) log.warn(warning);
      const opened = await open(config);
      try {
        const files = tlsFilesOf(config);
        if (files !== undefined) await server.renewTls(files);
      } catch (error) {
        await opened.close();
        throw error;
      }
      access.replace(opened);
      const before = running;
      running = config;
      renewal?.close();
      renewal = watchCertificates(running, server, log);
      log.level = config.log.level;
      onChange(config, before);
      if (waiting.length > 0) log.warn(`changed, but only from the next start on: ${waiting.join(', ')}`);
      log.info('the configuration was read again, and holds from now on');
    },
    close: () => renewal?.close(),
  };
}

/** An empty file is a configuration, too, and one that opens the registry to everybody who reaches it, through a proxy of this machine perhaps. */
function refuseOpening({ access }: Config, before: Config): void {
  if (!before.access.hasIdentities || access.hasIdentities || access.anonymous) return;
  throw new ConfigurationError(
    'identity: nobody could be told from anybody any more, so everything would be open; set access.anonymous: true if that is meant, or start anew',
  );
}

export function tlsFilesOf({ server: { tls } }: Config): TlsFiles | undefined {
  if (tls === undefined) return undefined;
  return { certificateFile: tls.server_certificate_bundle, keyFile: tls.server_private_key, clientCaFile: tls.client_ca_bundle };
}

/** Whoever renews certificates need not tell. */
function watchCertificates(config: Config, server: HttpServer, log: Log): { close(): void } | undefined {
  const files = tlsFilesOf(config);
  if (files === undefined) return undefined;
  const { certificateFile, keyFile, clientCaFile } = files;
  return watchFiles(
    [certificateFile, keyFile, ...(clientCaFile === undefined ? [] : [clientCaFile])],
    async () => {
      await server.renewTls(files);
      log.info(`${certificateFile} (server.tls) was read again, for new connections`);
    },
    (error) => log.error(`server.tls: ${(error as Error).message}; what was before goes on`),
  );
}
