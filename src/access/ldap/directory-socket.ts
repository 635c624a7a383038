// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** A connection to a directory's server, as far as the protocol's first byte: TCP, and TLS by ldaps:// or StartTLS. */
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { connect, isIP, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { askForTls } from './start-tls.js';

export interface SocketOptions {
  readonly startTls: boolean;
  /** Read for each connection, so that a new one is picked up; undefined: the authorities that Node knows. */
  readonly caFile: string | undefined;
  /** For all of it. */
  readonly timeoutMs: number;
}

const keepAliveMs = 30_000;

/** Rejects with what went wrong. */
export async function openSocket(url: string, { startTls, caFile, timeoutMs }: SocketOptions): Promise<Socket> {
  const { protocol, hostname, port } = new URL(url);
  const host = hostname.replaceAll(/^\[|\]$/g, '');
  const isTls = protocol === 'ldaps:';
  const place = { host, port: port === '' ? (isTls ? 636 : 389) : Number(port) };
  const ca = caFile === undefined || !(isTls || startTls) ? undefined : await readFile(caFile, 'utf8');
  // The name is what the certificate is compared with, also where the socket is there already.
  const tls = {
    host,
    minVersion: 'TLSv1.2' as const,
    ...(isIP(host) === 0 ? { servername: host } : {}),
    ...(ca === undefined ? {} : { ca }),
  };
  let socket: Socket = isTls ? connectTls({ ...tls, ...place }) : connect(place);
  const open = async (): Promise<void> => {
    await once(socket, isTls ? 'secureConnect' : 'connect');
    if (!startTls) return;
    const plain = socket;
    await askForTls(plain);
    socket = connectTls({ ...tls, socket: plain });
    socket.once('close', () => plain.destroy());
    await once(socket, 'secureConnect');
  };
  let timer: NodeJS.Timeout | undefined;
  try {
    const late = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => reject(new Error(`no connection within ${timeoutMs} ms`)), timeoutMs);
    });
    await Promise.race([open(), late]);
  } catch (error) {
    socket.on('error', () => undefined).destroy();
    throw error;
  } finally {
    clearTimeout(timer);
  }
  // Whoever uses it learns of errors by what it waits for.
  return socket
    .on('error', () => undefined)
    .setNoDelay(true)
    .setKeepAlive(true, keepAliveMs);
}
