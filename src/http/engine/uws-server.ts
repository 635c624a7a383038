// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The fast engine: uWebSockets.js. The only file that imports it. What it does wrong and how it is held: `design/http-engine.md`. */
import { createServer } from 'node:net';
import type { Handler, HttpServer, Serve, ServerOptions, SetReceiveBuffer, TlsFiles } from '../contract.js';
import { Sweep } from './sweep.js';
import { readTlsFiles, sameFiles, type TlsPems } from './tls-files.js';
import { UwsExchange, type UwsShared } from './uws-exchange.js';
import type { UwsRequest, UwsResponse } from './uws-response.js';

interface Uws {
  App(): UwsApp;
  SSLApp(options: Record<string, string>): UwsApp;
  us_listen_socket_close(socket: object): void;
  us_socket_local_port(socket: object): number;
  readonly LIBUS_LISTEN_EXCLUSIVE_PORT: number;
  _cfg?(key: string): void;
}

interface UwsApp {
  any(pattern: string, handler: (response: UwsResponse, request: UwsRequest) => void): unknown;
  filter(handler: (response: UwsResponse, change: number) => void): unknown;
  listen(host: string, port: number, flags: number, done: (socket: object | false) => void): unknown;
  close(): unknown;
  getDescriptor(): unknown;
  /** What this app accepts is given to its children in turn, and to itself when it has none. */
  addChildAppDescriptor(descriptor: unknown): unknown;
  /** Missing in older versions. */
  removeChildAppDescriptor?(descriptor: unknown): unknown;
}

/** The engine, or why its binary does not load here: musl, another version of Node, not installed. */
export async function loadUws(setReceiveBuffer?: SetReceiveBuffer): Promise<Serve | { readonly reason: string }> {
  // Read by the binary when it is loaded; its own limit of 4 KB is too small for bearer tokens and multi-range headers.
  process.env['UWS_HTTP_MAX_HEADERS_SIZE'] = '65536';
  try {
    const uws = (await import('uWebSockets.js')) as unknown as Uws;
    // Otherwise every reply has a header that tells the engine and its version.
    uws['_cfg']?.('silent');
    return (handler, options) => serve(uws, handler, options, setReceiveBuffer);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    return { reason: message.split('\n', 1)[0] ?? message };
  }
}

async function serve(uws: Uws, handler: Handler, options: ServerOptions, setReceiveBuffer?: SetReceiveBuffer): Promise<HttpServer> {
  const { app, pems } = await createApp(uws, options.tls);
  const sweep = new Sweep(options.idleTimeoutMs);
  const shared: UwsShared = { handler, options, sweep, draining: false, live: 0, onFinished: () => undefined };
  let connections = 0;
  const attach = (app: UwsApp): void => {
    app.filter((response, change) => {
      connections += change;
      if (change > 0 && connections > options.maxConnections) response.close();
    });
    app.any('/*', (response, request) => new UwsExchange(shared, response, request).serve());
  };
  attach(app);
  let known = pems;
  /** The one that listens, and those that came for it: an app keeps the connections that it has to their end. */
  const apps = [app];
  try {
    const socket = await listen(uws, app, options);
    const port = uws.us_socket_local_port(socket);
    setReceiveBuffer?.(port, options.receiveBufferBytes);
    let drained: Promise<void> | undefined;
    return {
      engine: 'uws',
      port,
      async renewTls(tls) {
        if (app.removeChildAppDescriptor === undefined)
          throw new Error('this version of uWebSockets.js takes new certificates only at its start');
        if (known !== undefined && sameFiles(known, await readTlsFiles(tls))) return;
        const { app: next, pems: taken } = await createApp(uws, tls);
        known = taken;
        attach(next);
        const last = apps.at(-1);
        // The listening socket stays the one that it is, so that nobody is refused meanwhile.
        app.addChildAppDescriptor(next.getDescriptor());
        if (last !== undefined && last !== app) app.removeChildAppDescriptor(last.getDescriptor());
        apps.push(next);
      },
      retire() {
        shared.draining = true;
      },
      drain(timeoutMs) {
        drained ??= drain(shared, timeoutMs, uws, apps, socket);
        return drained;
      },
    };
  } catch (error) {
    sweep.stop();
    app.close();
    throw error;
  }
}

async function createApp(uws: Uws, tls: TlsFiles | undefined): Promise<{ readonly app: UwsApp; readonly pems: TlsPems | undefined }> {
  if (tls === undefined) return { app: uws.App(), pems: undefined };
  const pems = await readTlsFiles(tls);
  const app = uws.SSLApp({
    cert_file_name: tls.certificateFile,
    key_file_name: tls.keyFile,
    ...(tls.clientCaFile !== undefined && { ca_file_name: tls.clientCaFile }),
  });
  // It reads the files itself, so they may have been others by then.
  if (sameFiles(await readTlsFiles(tls), pems)) return { app, pems };
  app.close();
  throw new Error(`TLS certificate ${tls.certificateFile} was replaced while it was read`);
}

async function listen(uws: Uws, app: UwsApp, { host, port, reusePort }: ServerOptions): Promise<object> {
  // Without the flag uWS sets SO_REUSEPORT, and a second process would take connections away silently.
  const flags = reusePort ? 0 : uws.LIBUS_LISTEN_EXCLUSIVE_PORT;
  const socket = await new Promise<object | false>((resolve) => {
    app.listen(host, port, flags, resolve);
  });
  if (socket !== false) return socket;
  await failAsNodeDoes(host, port);
  throw new Error(`uWebSockets.js can't listen on ${host}:${port}`);
}

/** uWS does not say why it can't listen; Node, asked for the same, throws an error with a `code`. */
async function failAsNodeDoes(host: string, port: number): Promise<void> {
  const probe = createServer();
  await new Promise<void>((resolve, reject) => {
    probe.once('error', reject);
    probe.listen({ host, port, exclusive: true }, resolve);
  });
  await new Promise((resolve) => probe.close(resolve));
}

/** The last reply's bytes are with the kernel by then, or in a few KB that uWS has still to write. */
const lastWordsMs = 50;

/** Resolves when no request is open, or after `timeoutMs`. uWS can't tell idle connections; each is closed by its own timer or with all the others. */
async function drain(shared: UwsShared, timeoutMs: number, uws: Uws, apps: readonly UwsApp[], socket: object): Promise<void> {
  shared.draining = true;
  uws.us_listen_socket_close(socket);
  await new Promise<void>((resolve) => {
    const deadline = setTimeout(resolve, timeoutMs);
    const checkSoon = (): void => {
      if (shared.live > 0) return;
      setTimeout(() => {
        if (shared.live > 0) return;
        clearTimeout(deadline);
        resolve();
      }, lastWordsMs);
    };
    shared.onFinished = checkSoon;
    checkSoon();
  });
  shared.sweep.stop();
  for (const app of apps) app.close();
}
