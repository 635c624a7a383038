// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Where the metrics are read: on a port of their own, or else on the registry's port by whoever may administrate it. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Reply, Request } from '../http/contract.js';
import { RegistryError } from '../oci/errors.js';
import { contentTypes, formFor } from './exposition.js';
import type { Metrics } from './metrics.js';

const metricsPath = '/metrics';

/** GET /metrics on the registry's own port, when there is no other for it. */
export async function getMetrics(metrics: Metrics, request: Request): Promise<Reply> {
  const form = formFor(request.header('accept'));
  return { status: 200, headers: { 'Content-Type': contentTypes[form] }, body: await metrics.text(form) };
}

/** The same, when they have. */
export function metricsElsewhere(): never {
  throw new RegistryError('NOT_FOUND', 'metrics have a port of their own here (server.metrics.port)');
}

export interface MetricsServer {
  readonly port: number;
  close(): Promise<void>;
}

/** A listener that knows nothing but /metrics. Rejects with the system's `code` when it cannot listen. */
export async function serveMetrics(metrics: Metrics, host: string, port: number): Promise<MetricsServer> {
  const server = createServer({ headersTimeout: timeoutMs, requestTimeout: timeoutMs }, (request, response) => {
    const { method, headers, url = '' } = request;
    if (url.split('?', 1)[0] !== metricsPath) response.writeHead(404).end();
    else if (method !== 'GET' && method !== 'HEAD') response.writeHead(405, { Allow: 'GET, HEAD' }).end();
    else {
      const form = formFor(headers.accept);
      metrics.text(form).then(
        (text) => response.writeHead(200, { 'Content-Type': contentTypes[form], 'Content-Length': Buffer.byteLength(text) }).end(text),
        (error: unknown) => response.destroy(error instanceof Error ? error : undefined),
      );
    }
  });
  server.maxConnections = mostConnections;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port, exclusive: true }, () => {
      server.off('error', reject);
      resolve();
    });
  });
  return {
    port: (server.address() as AddressInfo).port,
    async close() {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}

const timeoutMs = 10_000;
/** Several Prometheus servers, each with a connection or two. */
const mostConnections = 64;
