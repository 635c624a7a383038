// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What the files that a configuration names hold, as far as it can be told without opening anything. */
import { X509Certificate } from 'node:crypto';
import { readTlsFiles, TlsFault } from '../http/engine/tls-files.js';
import { faultAt, type Config } from './config.js';

const settings = {
  certificate: 'server.tls.server_certificate_bundle',
  key: 'server.tls.server_private_key',
  'client CA': 'server.tls.client_ca_bundle',
} as const;

/** What an operator should know of but can be lived with. Throws ConfigurationError for what cannot. */
export async function checkFiles(config: Config, now: Date = new Date()): Promise<string[]> {
  const { tls } = config.server;
  if (tls === undefined) return [];
  const { server_certificate_bundle: certificateFile, server_private_key: keyFile } = tls;
  try {
    const { cert } = await readTlsFiles({ certificateFile, keyFile });
    return validity(new X509Certificate(cert), certificateFile, now);
  } catch (error) {
    if (error instanceof TlsFault) throw faultAt(config, settings[error.file], error.message);
    throw error;
  }
}

function validity({ validFrom, validTo }: X509Certificate, file: string, now: Date): string[] {
  const place = `${settings.certificate}: ${file}`;
  if (now > new Date(validTo)) return [`${place} expired on ${validTo}`];
  if (now < new Date(validFrom)) return [`${place} is valid only from ${validFrom} on`];
  return [];
}
