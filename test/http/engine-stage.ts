// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { execFileSync } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Test } from 'tap';
import type { Handler, HttpServer, Serve, ServerOptions, TlsFiles } from '../../src/http/contract.js';
import { Wire } from './wire.js';

/** One engine for the suite to run on. */
export interface Stage {
  readonly engine: 'uws' | 'node';
  readonly serve: Serve;
}

export interface Started {
  readonly server: HttpServer;
  /** What `onError` was told. */
  readonly errors: string[];
  readonly open: () => Promise<Wire>;
}

/** A server on a free port, drained when the test ends. */
export async function start(t: Test, { serve }: Stage, handler: Handler, changes: Partial<ServerOptions> = {}): Promise<Started> {
  const errors: string[] = [];
  const server = await serve(handler, { ...defaults, onError: (error) => errors.push(String(error)), ...changes });
  const wires: Wire[] = [];
  t.teardown(async () => {
    for (const { socket } of wires) socket.destroy();
    await server.drain(0);
  });
  return {
    server,
    errors,
    async open() {
      const wire = await Wire.open(server.port, changes.tls === undefined ? undefined : {});
      wires.push(wire);
      return wire;
    },
  };
}

const defaults = {
  host: '127.0.0.1',
  port: 0,
  reusePort: false,
  receiveBufferBytes: 256 * 1024,
  maxConnections: 1_000,
  idleTimeoutMs: 60_000,
  minimumRateBytesPerSecond: 256,
};

/** Waits for what the other side of a socket is about to do. */
export async function eventually(condition: () => boolean): Promise<void> {
  const limitMs = performance.now() + 10_000;
  while (!condition() && performance.now() < limitMs) await delay(5);
  await new Promise(setImmediate);
}

/** A promise to be resolved from outside. */
export function signalled<T = void>(): { readonly promise: Promise<T>; readonly resolve: (value: T) => void } {
  let resolve!: (value: T) => void;
  const promise = new Promise<T>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}

export interface Certificates extends TlsFiles {
  /** Signed by `clientCaFile`, and one that is not. */
  readonly client: { readonly certificateFile: string; readonly keyFile: string };
  readonly stranger: { readonly certificateFile: string; readonly keyFile: string };
  /** Another one for the server. */
  readonly renewed: { readonly certificateFile: string; readonly keyFile: string };
  readonly clientCaFile: string;
}

/** Made by openssl in a temporary directory; undefined where there is no openssl. */
export function makeCertificates(t: Test): Certificates | undefined {
  try {
    execFileSync('openssl', ['version'], { stdio: 'ignore' });
  } catch {
    return undefined;
  }
  const directory = mkdtempSync(join(tmpdir(), 'ha-registry-tls-'));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  const path = (name: string): string => join(directory, name);
  const openssl = (...parameters: string[]): void => {
    execFileSync('openssl', parameters, { cwd: directory, stdio: 'ignore' });
  };
  const selfSigned = (name: string): { certificateFile: string; keyFile: string } => {
    openssl(
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:prime256v1',
      '-nodes',
      '-days',
      '2',
      '-subj',
      `/CN=${name}`,
      '-keyout',
      `${name}.key`,
      '-out',
      `${name}.crt`,
    );
    return { certificateFile: path(`${name}.crt`), keyFile: path(`${name}.key`) };
  };
  selfSigned('ca');
  openssl(
    'req',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:prime256v1',
    '-nodes',
    '-subj',
    '/CN=alice',
    '-keyout',
    'alice.key',
    '-out',
    'alice.csr',
  );
  openssl('x509', '-req', '-in', 'alice.csr', '-CA', 'ca.crt', '-CAkey', 'ca.key', '-set_serial', '1', '-days', '2', '-out', 'alice.crt');
  return {
    ...selfSigned('localhost'),
    client: { certificateFile: path('alice.crt'), keyFile: path('alice.key') },
    stranger: selfSigned('stranger'),
    renewed: selfSigned('renewed'),
    clientCaFile: path('ca.crt'),
  };
}
