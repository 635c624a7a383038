// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** A certificate authority that nobody knows, and the certificate of a server from it, on 127.0.0.1 if nothing else is said; by openssl. */
import path from 'node:path';
import { run } from './command.js';
import { temporaryDirectory } from './registry.js';

export interface PrivateAuthority {
  readonly caFile: string;
  readonly certificateFile: string;
  readonly keyFile: string;
}

export async function makePrivateAuthority(names = 'IP:127.0.0.1'): Promise<PrivateAuthority> {
  const directory = await temporaryDirectory('authority-');
  const file = (name: string): string => path.join(directory, name);
  const request = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2'];
  const make = (name: string, ...more: string[]) =>
    run('openssl', [...request, '-subj', `/CN=${name}`, '-keyout', file(`${name}.key`), '-out', file(`${name}.crt`), ...more]);
  await make('authority');
  const signer = ['-CA', file('authority.crt'), '-CAkey', file('authority.key')];
  await make('server', ...signer, '-addext', `subjectAltName=${names}`, '-addext', 'basicConstraints=critical,CA:FALSE');
  return { caFile: file('authority.crt'), certificateFile: file('server.crt'), keyFile: file('server.key') };
}
