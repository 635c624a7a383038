// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The ports of a node: the registry's, and that of its metrics where it has one of its own. */
import type { Config } from './config/config.js';
import { chooseEngine } from './http/engine/choose-engine.js';
import type { Handler, HttpServer, Request, RequestObserver } from './http/contract.js';
import type { Log } from './observe/log.js';
import { serveMetrics, type MetricsServer } from './observe/metrics-endpoint.js';
import type { Metrics } from './observe/metrics.js';
import { nameOf } from './observe/request-log.js';
import { RegistryError } from './oci/errors.js';
import { tlsFilesOf } from './reload.js';
import { loadAddon } from './worker/addon.js';

/** Undefined where the metrics have no port of their own. */
export async function listenForMetrics(config: Config, log: Log, metrics: Metrics): Promise<MetricsServer | undefined> {
  const { bind_address: host, port } = config.server.metrics;
  if (port === undefined) return undefined;
  const server = await serveMetrics(metrics, host, port).catch((error: unknown) => {
    const { code, message } = error as NodeJS.ErrnoException;
    const cause = code === 'EADDRINUSE' ? 'the port is taken' : message;
    throw new Error(`cannot listen for metrics on ${host}:${port}: ${cause} (server.metrics.port)`, { cause: error });
  });
  log.info(`metrics on http://${hostForUrl(host)}:${server.port}/metrics`);
  return server;
}

export async function listen(config: Config, log: Log, handler: Handler, observer: RequestObserver): Promise<HttpServer> {
  const { server } = config;
  const { serve, reason } = await chooseEngine(server.engine, loadAddon()?.setReceiveBuffer);
  if (reason !== undefined) log.warn(`serving with node:http: ${reason}`);
  return serve(handler, {
    host: server.bind_address,
    port: server.port,
    reusePort: server.reuse_port,
    receiveBufferBytes: server.receive_buffer,
    maxConnections: server.max_connections,
    idleTimeoutMs: server.idle_timeout,
    minimumRateBytesPerSecond: server.minimum_rate,
    tls: tlsFilesOf(config),
    observer,
    onError: (error, request) => {
      if (!(error instanceof RegistryError) || error.status >= 500) log.error({ err: error, ...aboutRequest(request) }, 'a reply failed');
    },
  });
}

export function aboutRequest({ id, method, path, resource }: Request): Record<string, string> {
  return { requestId: id, method: method.slice(0, 20), ...(resource === undefined ? { path: path.slice(0, 200) } : nameOf(resource)) };
}

export function hostForUrl(address: string): string {
  return address.includes(':') ? `[${address}]` : address;
}
