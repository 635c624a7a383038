// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What the files that a configuration names hold, as far as it can be told without opening anything. */
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { parseHtpasswd } from '../access/password/local-users.js';
import { readTlsFiles, TlsFault } from '../http/engine/tls-files.js';
import { faultAt, type Config } from './config.js';

const settings = {
  certificate: 'server.tls.server_certificate_bundle',
  key: 'server.tls.server_private_key',
  'client CA': 'server.tls.client_ca_bundle',
} as const;

/** What an operator should know of but can be lived with. Throws ConfigurationError for what cannot. */
export async function checkFiles(config: Config, now: Date = new Date()): Promise<string[]> {
  return [...aboutPasswords(config), ...(await aboutTls(config, now))];
}

function aboutPasswords({ access: { htpasswd_file: file } }: Config): string[] {
  if (file === undefined || parseHtpasswd(readFileSync(file, 'utf8')).size > 0) return [];
  return [`access.htpasswd_file: ${file}: nobody is in it`];
}

async function aboutTls(config: Config, now: Date): Promise<string[]> {
  const { tls } = config.server;
  if (tls === undefined) return [];
  const { server_certificate_bundle: certificateFile, server_private_key: keyFile, client_ca_bundle: clientCaFile } = tls;
  try {
    const { cert } = await readTlsFiles({ certificateFile, keyFile, clientCaFile });
    return [...validity(new X509Certificate(cert), certificateFile, now), ...(await aboutClients(config, now))];
  } catch (error) {
    if (error instanceof TlsFault) throw faultAt(config, settings[error.file], error.message);
    throw error;
  }
}

async function aboutClients(config: Config, now: Date): Promise<string[]> {
  const { client_ca_bundle: authoritiesFile, client_crl_file: listFile } = config.server.tls ?? {};
  if (authoritiesFile === undefined) return [];
  // Its libraries are loaded only where they are needed.
  const { CertificateFault, listWarnings, readTrust } = await import('../access/certificate/client-certificates.js');
  const trust = await readTrust({ authoritiesFile, listFile }).catch((error: unknown) => {
    if (!(error instanceof CertificateFault)) throw error;
    throw faultAt(config, error.file === 'list' ? 'server.tls.client_crl_file' : settings['client CA'], error.message);
  });
  return listWarnings(trust, now.getTime()).map((line) => `server.tls.client_crl_file: ${listFile}: ${line}`);
}

function validity({ validFrom, validTo }: X509Certificate, file: string, now: Date): string[] {
  const place = `${settings.certificate}: ${file}`;
  if (now > new Date(validTo)) return [`${place} expired on ${validTo}`];
  if (now < new Date(validFrom)) return [`${place} is valid only from ${validFrom} on`];
  return [];
}
