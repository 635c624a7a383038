// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { readFile } from 'node:fs/promises';
import { createSecureContext } from 'node:tls';
import type { TlsFiles } from '../contract.js';

export interface TlsPems {
  readonly cert: Buffer;
  readonly key: Buffer;
  readonly ca?: Buffer;
}

type TlsFile = 'certificate' | 'key' | 'client CA';

/** Names the file. */
export class TlsFault extends Error {
  readonly file: TlsFile;

  constructor(file: TlsFile, problem: string, cause: unknown) {
    super(`${problem}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
    this.file = file;
  }
}

/** Reads and checks the files before an engine does, because uWS says only that its construction failed. Throws TlsFault. */
export async function readTlsFiles({ certificateFile, keyFile, clientCaFile }: TlsFiles): Promise<TlsPems> {
  const cert = await read('certificate', certificateFile);
  const key = await read('key', keyFile);
  check('certificate', `TLS certificate ${certificateFile} can't be used`, () => createSecureContext({ cert }));
  check('key', `TLS key ${keyFile} can't be used`, () => createSecureContext({ key }));
  check('key', `TLS key ${keyFile} does not belong to certificate ${certificateFile}`, () => createSecureContext({ cert, key }));
  if (clientCaFile === undefined) return { cert, key };
  const ca = await read('client CA', clientCaFile);
  check('client CA', `TLS client CA ${clientCaFile} can't be used`, () => createSecureContext({ ca }));
  return { cert, key, ca };
}

export function sameFiles(some: TlsPems, others: TlsPems): boolean {
  const hasSameCa = some.ca === undefined ? others.ca === undefined : others.ca !== undefined && some.ca.equals(others.ca);
  return hasSameCa && some.cert.equals(others.cert) && some.key.equals(others.key);
}

async function read(what: TlsFile, file: string): Promise<Buffer> {
  try {
    return await readFile(file);
  } catch (cause) {
    throw new TlsFault(what, `TLS ${what} ${file} can't be read`, cause);
  }
}

function check(file: TlsFile, problem: string, attempt: () => void): void {
  try {
    attempt();
  } catch (cause) {
    throw new TlsFault(file, problem, cause);
  }
}
