// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** A store that is away when the bytes of a reply are asked of it: after the handler, before the head. */
import t from 'tap';
import { loadConfig } from '../../src/config/config.js';
import type { Log } from '../../src/observe/log.js';
import { listen } from '../../src/node-listeners.js';
import { usualLimits } from '../../src/storage/s3-client.js';
import { openS3Store } from '../../src/storage/s3-store.js';
import { HashClock } from '../../src/worker/hash-clock.js';
import { openWorkerPool } from '../../src/worker/worker-pool.js';
import { startS3Proxy } from '../support/s3-proxy.js';
import { s3Server, stopS3Servers } from '../support/s3-server.js';
import { settingsFor } from '../storage/s3-stage.js';
import { Wire } from './wire.js';

const server = await s3Server();
t.teardown(stopS3Servers);
const missing = 'missing' in server && `A STORE THAT IS AWAY IS NOT TESTED: ${server.missing}`;
if (missing) console.error(missing);

void t.test('a store that is away', { skip: missing }, async (t) => {
  if ('missing' in server) return;
  const proxy = await startS3Proxy(server.endpoint);
  const workers = openWorkerPool({ threads: 1, hash: 'auto', clock: new HashClock() });
  const limits = { ...usualLimits, retryForMs: 0 };
  const store = await openS3Store(await settingsFor(server, { endpoint: proxy.endpoint }), workers, limits);
  await store.put('away', Buffer.from('some bytes'));
  proxy.fault = () => ({ refuse: 503, code: 'SlowDown' });
  for (const engine of ['uws', 'node'] as const) {
    const lines: string[] = [];
    const log = { warn: () => undefined, error: (_about: object, line: string) => lines.push(line) } as unknown as Log;
    const defaults = loadConfig(undefined);
    const config = { ...defaults, server: { ...defaults.server, engine, port: 0 } };
    const body = { length: 10, open: () => store.open('away', 0, 10) };
    const observer = { begun: () => undefined, done: () => undefined };
    const http = await listen(config, log, () => ({ status: 200, body }), observer);
    const wire = await Wire.open(http.port);
    await wire.request('GET /');
    const response = await wire.response();
    t.equal(response?.status, 503, `${engine}: the client may come again`);
    t.ok(response?.headers.get('retry-after')?.[0], `${engine}: and is told when`);
    const errors = [{ code: 'UNAVAILABLE', detail: { requestId: response?.headers.get('x-request-id')?.[0] } }];
    t.match(JSON.parse(String(response?.body)), { errors }, `${engine}: in the specification's words`);
    t.strictSame(lines, ['a reply failed'], `${engine}: the log has it once`);
    wire.socket.destroy();
    await http.drain(0);
  }
  proxy.close();
  await workers.close();
});
