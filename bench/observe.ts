// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What it costs to count one request: our counters (`observe/request-metrics.ts`), and prom-client's own with object labels, which they stand in for. */
import { Counter, Histogram, Registry } from 'prom-client';
import type { FinishedRequest } from '../src/http/contract.js';
import { parsePath } from '../src/http/path.js';
import { Metrics, requestSeconds } from '../src/observe/metrics.js';
import { countRequests } from '../src/observe/request-metrics.js';
import { median } from './statistics.js';
import { figure, renderTable } from './table.js';

const requests = [
  '/v2/team/image/manifests/latest',
  '/v2/',
  `/v2/team/image/blobs/sha256:${'0'.repeat(64)}`,
  '/v2/team/image/tags/list',
].map(
  (path, index) =>
    ({
      method: index === 2 ? 'HEAD' : 'GET',
      resource: parsePath(path),
      status: index === 3 ? 404 : 200,
      receivedBytes: 0,
      sentBytes: 1000,
      complete: true,
      startedMs: performance.now(),
    }) as FinishedRequest,
);

const ours = countRequests(new Metrics());
const registers = [new Registry()];
const labels = ['route', 'method'];
const total = new Counter({ name: 'total', help: 'x', labelNames: [...labels, 'status'], registers });
const seconds = new Histogram({ name: 'seconds', help: 'x', labelNames: labels, buckets: requestSeconds, registers });
const bytes = ['received', 'sent'].map((name) => new Counter({ name, help: 'x', labelNames: labels, registers }));

const ways: Record<string, (request: FinishedRequest) => void> = {
  ours(request) {
    ours.begun(request);
    ours.done(request);
  },
  'prom-client'(request) {
    const of = { route: request.resource?.kind ?? 'none', method: request.method };
    total.inc({ ...of, status: request.status });
    seconds.observe(of, (performance.now() - request.startedMs) / 1000);
    for (const counter of bytes) counter.inc(of, request.sentBytes);
  },
};

const times = 1_000_000;
const rows = Object.entries(ways).map(([name, count]) => {
  const rounds = [0, 1, 2, 3, 4].map(() => {
    const since = performance.now();
    for (let at = 0; at < times; at++) count(requests[at & 3] as FinishedRequest);
    return ((performance.now() - since) / times) * 1000;
  });
  return [name, figure(median(rounds)), figure(Math.min(...rounds))];
});
console.log(renderTable(['counted by', 'µs per request', 'best'], rows));
