// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What a node tells of itself: metrics, log lines and traces, as those see them who read them. */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { Client } from 'pg';
import t, { type Test } from 'tap';
import { startCollector, type ReceivedSpan } from './support/collector.js';
import { parseExposition, samplesOf, valueOf, type Scrape } from './support/exposition.js';
import { errorCode, exchangeRaw, HttpClient, jsonOf, type Answer } from './support/http-client.js';
import { freshDatabase } from './support/postgres.js';
import { freePort } from './support/registry.js';
import {
  bytesOf,
  digestOf,
  engines,
  imageWithBlobs,
  onBothEngines,
  openSession,
  pushBlob,
  putManifest,
  startWireNode,
  stopWireNode,
  until,
  withDigest,
  type WireNode,
} from './support/wire-suite.js';

const readme = readFileSync(path.resolve(import.meta.dirname, '../README.md'), 'utf8');
const openMetrics =
  'application/openmetrics-text; version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1';

onBothEngines({ log: { level: 'info', requests: 'all' } }, async (t, node) => {
  await t.test('two forms', (t) => testForms(t, node));
  await t.test('what moves', (t) => testCounters(t, node));
  await t.test('what is going on', (t) => testGauges(t, node));
  await t.test('whatever is asked', (t) => testCardinality(t, node));
  await t.test('who may read it', (t) => testWhoReads(t, node));
  await t.test('a line per request', (t) => testRequestLines(t, node));
  await t.test('request ids', (t) => testRequestIds(t, node));
});

for (const engine of engines) {
  void t.test(`a failure on ${engine}`, { buffered: true }, (t) => testFailure(t, engine));
  void t.test(`behind a proxy on ${engine}`, { buffered: true }, (t) => testProxies(t, engine));
  void t.test(`a port of its own on ${engine}`, { buffered: true }, (t) => testOwnPort(t, engine));
  void t.test(`traces on ${engine}`, { buffered: true }, (t) => testTraces(t, engine));
}
void t.test('a start that fails', { buffered: true }, testFailedStart);
void t.test('a collector that hangs', { buffered: true }, testHangingCollector);
void t.test('a collector that is not there', { buffered: true }, testAbsentCollector);

async function scrape({ client }: { readonly client: HttpClient }): Promise<Scrape> {
  const answer = await client.send('GET', '/metrics');
  if (answer.status !== 200) throw new Error(`${answer.status} ${answer.body.toString()}`);
  return parseExposition(answer.body.toString(), 'text');
}

async function testForms(t: Test, { client }: WireNode): Promise<void> {
  const forms = [
    [undefined, 'text'],
    ['*/*', 'text'],
    ['text/plain', 'text'],
    [openMetrics, 'openmetrics'],
    ['application/openmetrics-text;q=0, text/plain', 'text'],
    [undefined, 'text'],
  ] as const;
  for (const [accept, form] of forms) {
    const answer = await client.send('GET', '/metrics', accept === undefined ? {} : { headers: { Accept: accept } });
    t.equal(answer.status, 200);
    const type =
      form === 'text' ? 'text/plain; version=0.0.4; charset=utf-8' : 'application/openmetrics-text; version=1.0.0; charset=utf-8';
    t.equal(answer.headers['content-type'], type, `${accept}`);
    const families = parseExposition(answer.body.toString(), form);
    const counter = form === 'text' ? 'registry_http_requests_total' : 'registry_http_requests';
    t.equal(families.get(counter)?.type, 'counter', `${counter}, whichever form was asked for before`);
    for (const name of ['registry_http_request_duration_seconds', 'registry_store_operation_seconds', 'registry_database_query_seconds'])
      t.equal(families.get(name)?.type, 'histogram', name);
    for (const name of [
      'process_resident_memory_bytes',
      'nodejs_eventloop_lag_p99_seconds',
      'registry_database_connections',
      'registry_nodes',
    ])
      t.equal(families.get(name)?.type, 'gauge', name);
    t.ok(families.has('nodejs_gc_duration_seconds'), 'garbage collection');
    const ours = [...families.keys()].filter((name) => name.startsWith('registry_'));
    t.strictSame(
      ours.filter((name) => !readme.includes(`\`${name}`)),
      [],
      'the README has them all',
    );
  }
}

async function testCounters(t: Test, node: WireNode): Promise<void> {
  const { client } = node;
  const before = await scrape(node);
  const layer = bytesOf(3_000_000);
  const layerDigest = await pushBlob(client, 'moves/a', layer);
  // Over 4 KiB, so that its bytes come from the cache the second time.
  const image = await imageWithBlobs(client, 'moves/a', ['small'], { annotations: { filler: 'x'.repeat(5000) } });
  t.equal((await putManifest(client, 'moves/a', 'tag', image)).status, 201);
  for (let count = 0; count < 3; count++) t.equal((await client.send('GET', '/v2/moves/a/manifests/tag')).status, 200);
  t.equal((await client.send('HEAD', `/v2/moves/a/manifests/${digestOf(image)}`)).status, 200);
  t.equal((await client.send('GET', `/v2/moves/a/blobs/${layerDigest}`)).body.length, layer.length);
  t.equal((await client.send('HEAD', `/v2/moves/a/blobs/${layerDigest}`)).status, 200);
  t.equal((await client.send('GET', `/v2/moves/a/blobs/${digestOf('never')}`)).status, 404);
  const moved: Record<string, number | ((by: number) => boolean)> = {
    'registry_http_requests_total{route="uploads",method="POST",status="201"}': 3,
    'registry_http_requests_total{route="manifest",method="PUT",status="201"}': 1,
    'registry_http_requests_total{route="manifest",method="GET",status="200"}': 3,
    'registry_http_requests_total{route="manifest",method="HEAD",status="200"}': 1,
    'registry_http_requests_total{route="blob",method="GET",status="200"}': 1,
    'registry_http_requests_total{route="blob",method="GET",status="404"}': 1,
    'registry_http_requests_total{route="blob",method="HEAD",status="200"}': 1,
    'registry_http_request_duration_seconds_count{route="manifest",method="GET"}': 3,
    'registry_http_received_bytes_total{route="uploads",method="POST"}': layer.length + '{}small'.length,
    'registry_http_received_bytes_total{route="manifest",method="PUT"}': Buffer.byteLength(image),
    'registry_http_sent_bytes_total{route="manifest",method="GET"}': 3 * Buffer.byteLength(image),
    'registry_http_sent_bytes_total{route="manifest",method="HEAD"}': 0,
    'registry_http_sent_bytes_total{route="blob",method="GET"}': (by) => by > layer.length && by < layer.length + 1000,
    registry_hash_bytes_total: layer.length + '{}small'.length + Buffer.byteLength(image),
    registry_hash_seconds_total: (by) => by > 0,
    'registry_store_operations_total{store="filesystem",operation="append",result="ok"}': (by) => by >= 1,
    'registry_store_operations_total{store="filesystem",operation="finish",result="ok"}': 1,
    'registry_store_operations_total{store="filesystem",operation="put",result="ok"}': (by) => by >= 6,
    'registry_store_operations_total{store="filesystem",operation="open",result="ok"}': 1,
    'registry_store_operation_seconds_count{store="filesystem",operation="open"}': 1,
    'registry_batched_read_keys_sum{read="manifests-by-tag"}': 3,
    'registry_batched_read_keys_sum{read="manifests-by-digest"}': 1,
    'registry_batched_read_keys_sum{read="links"}': 3,
    'registry_database_query_seconds_count{pool="reads"}': (by) => by >= 7,
    'registry_database_query_seconds_count{pool="writes"}': (by) => by >= 8,
    'registry_manifest_cache_lookups_total{result="miss"}': 1,
    'registry_manifest_cache_lookups_total{result="hit"}': (by) => by >= 2,
    registry_manifest_cache_bytes: Buffer.byteLength(image),
  };
  // A reply is counted when its last byte has gone, which the client may see a moment earlier.
  const blobGets = 'registry_http_requests_total{route="blob",method="GET",status="200"}';
  const after = await until('the last reply to be counted', async () => {
    const now = await scrape(node);
    return valueOf(now, blobGets) > valueOf(before, blobGets) && valueOf(now, 'registry_http_requests_in_flight') === 1 ? now : undefined;
  });
  for (const [sample, expected] of Object.entries(moved)) {
    const by = valueOf(after, sample) - valueOf(before, sample);
    t.ok(typeof expected === 'number' ? by === expected : expected(by), `${sample} moved by ${by}`);
  }
  const [build = ''] = samplesOf(after, 'registry_build_info');
  t.ok(build.includes(`engine="${node.engine}"`) && build.includes(`node="${process.versions.node}"`), build);
}

async function testGauges(t: Test, node: WireNode): Promise<void> {
  const { client } = node;
  const idle = await until('nothing to be going on', async () => {
    const now = await scrape(node);
    return valueOf(now, 'registry_uploads_in_progress') === 0 && now;
  });
  t.equal(valueOf(idle, 'registry_nodes'), 1);
  t.equal(valueOf(idle, 'registry_upload_buffer_bytes{state="allocated"}'), valueOf(idle, 'registry_upload_buffer_bytes{state="free"}'));
  const session = await openSession(client, 'going/on');
  const upload = client.open('PATCH', session, { 'Content-Length': '1000000' });
  upload.request.write(bytesOf(300_000));
  await until('the upload to be seen', async () => {
    const now = await scrape(node);
    const taken =
      valueOf(now, 'registry_upload_buffer_bytes{state="allocated"}') - valueOf(now, 'registry_upload_buffer_bytes{state="free"}');
    return valueOf(now, 'registry_uploads_in_progress') === 1 && taken > 0 && valueOf(now, 'registry_http_requests_in_flight') === 2;
  });
  const aborted = 'registry_http_aborted_total{route="session",method="PATCH"}';
  const gaveUp = 'registry_http_requests_total{route="session",method="PATCH",status="499"}';
  t.equal(valueOf(idle, aborted), 0);
  upload.request.destroy();
  await until('its end to be seen', async () => {
    const now = await scrape(node);
    return (
      valueOf(now, 'registry_uploads_in_progress') === 0 &&
      valueOf(now, 'registry_http_requests_in_flight') === 1 &&
      valueOf(now, aborted) === 1 &&
      valueOf(now, gaveUp) === 1
    );
  });
  await until('the line of a request that was given up', () =>
    linesOf(node).find((line) => line['status'] === 499 && line['aborted'] === true),
  );
}

function junk(): string {
  return randomBytes(6).toString('hex');
}

/** NaN is no sample, so what was not measured since the last scrape may be missing; only ours count. */
function series(found: Scrape): number {
  return [...found.values()].filter(({ name }) => name.startsWith('registry_')).reduce((sum, { samples }) => sum + samples.size, 0);
}

async function testCardinality(t: Test, node: WireNode): Promise<void> {
  const { client, port } = node;
  const everything = async (): Promise<void> => {
    const paths = [
      `/${junk()}`,
      `/v2/${junk()}`,
      `/v2/${junk()}/manifests/${junk()}`,
      `/v2/${junk()}/manifests/.${junk()}`,
      `/v2/${junk().toUpperCase()}!/tags/list`,
      `/v2/${junk()}/blobs/sha256:${junk()}`,
      `/v2/${junk()}/blobs/${digestOf(junk())}`,
      `/v2/${junk()}/blobs/uploads/${junk()}`,
      `/v2/${junk()}/referrers/${digestOf(junk())}`,
      `/v2/${junk()}/tags/list?n=${junk()}`,
      `/v2/_catalog?last=${junk()}`,
      `/%zz${junk()}`,
      `/metrics/${junk()}`,
      '/livez',
    ];
    for (const path of paths) await client.send('GET', path);
    for (const method of ['PUT', 'DELETE', 'OPTIONS', 'PROPFIND', 'BREW'])
      await exchangeRaw(port, rawRequest(method, `/v2/${junk()}/manifests/${junk()}`));
    // The node engine knows the methods that there are; this one neither engine does.
    await exchangeRaw(port, rawRequest(`X${junk().toUpperCase()}`, '/'));
    await exchangeRaw(port, rawRequest('GET', '/v2/', 'Host: two\r\n'));
  };
  await everything();
  const before = await scrape(node);
  for (let count = 0; count < 10; count++) await everything();
  const after = await scrape(node);
  t.equal(series(after), series(before), 'ten times as much garbage makes no more series');
  const routes = 'base|blob|manifest|uploads|session|tags|referrers|catalog|livez|readyz|metrics|none';
  const known = new RegExp(
    `^registry_http_requests_total\\{route="(${routes})",method="(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS|other)",status="[1-5]\\d\\d"\\}$`,
  );
  const seen = samplesOf(after, 'registry_http_requests_total');
  t.strictSame(
    seen.filter((sample) => !known.test(sample)),
    [],
    'labels are known beforehand',
  );
  t.ok(
    seen.some((sample) => sample.includes('method="other"')),
    'methods that nobody knows are one',
  );
  t.ok(
    seen.some((sample) => sample.includes('route="none"') && sample.includes('status="404"')),
    'and so are paths that name nothing',
  );
  t.ok(
    seen.some((sample) => sample.includes('route="none"') && sample.includes('status="400"')),
    'requests that the engine refuses count, too',
  );
  t.notMatch([...after.values()].flatMap(({ samples }) => [...samples.keys()]).join('\n'), /moves|going/, 'no name of a repository');
}

function rawRequest(method: string, path: string, more = ''): string {
  return `${method} ${path} HTTP/1.1\r\nHost: x\r\n${more}Content-Length: 0\r\nConnection: close\r\n\r\n`;
}

async function testWhoReads(t: Test, { client }: WireNode): Promise<void> {
  for (const name of ['X-Forwarded-For', 'Forwarded', 'X-Real-IP', 'Via', 'X-Forwarded-Host']) {
    const answer = await client.send('GET', '/metrics', { headers: { [name]: '127.0.0.1' } });
    t.equal(answer.status, 403, name);
    t.equal(errorCode(answer), 'DENIED');
  }
  t.equal((await client.send('POST', '/metrics', { body: '' })).status, 405);
}

type Line = Record<string, unknown>;

function linesOf({ log }: { readonly log: () => string }): Line[] {
  return log()
    .split('\n')
    .filter((line) => line.startsWith('{') && line.endsWith('}'))
    .map((line) => JSON.parse(line) as Line);
}

function lineWith(node: WireNode, requestId: string): Promise<Line> {
  return until(`the line of ${requestId}`, () =>
    linesOf(node).find((line) => line['requestId'] === requestId && line['msg'] === 'request'),
  );
}

async function testRequestLines(t: Test, node: WireNode): Promise<void> {
  const { client } = node;
  const blob = bytesOf(20_000);
  const digest = await pushBlob(client, 'lines/a', blob);
  const trace = '4bf92f3577b34da6a3ce929d0e0e4736';
  const secrets = ['Basic dXNlcjpodW50ZXIy', 'hunter2-in-the-query', 'session=hunter2-in-a-cookie'] as const;
  const headers = {
    Authorization: secrets[0],
    Cookie: secrets[2],
    'User-Agent': 'test/1.0',
    traceparent: `00-${trace}-00f067aa0ba902b7-01`,
  };
  const get = await client.send('GET', `/v2/lines/a/blobs/${digest}?token=${secrets[1]}`, {
    headers: { ...headers, 'X-Request-Id': 'line-1' },
  });
  t.equal(get.status, 200);
  t.match(
    await lineWith(node, 'line-1'),
    {
      level: 'info',
      method: 'GET',
      route: 'blob',
      repository: 'lines/a',
      digest,
      status: 200,
      receivedBytes: 0,
      sentBytes: blob.length,
      remoteAddress: '127.0.0.1',
      userAgent: 'test/1.0',
      traceId: trace,
      ms: Number,
    },
    'a pull',
  );
  const session = await openSession(client, 'lines/a');
  const put = await client.send('PUT', withDigest(session, digestOf('abc')), { body: 'abc', headers: { 'X-Request-Id': 'line-2' } });
  t.equal(put.status, 201);
  t.match(
    await lineWith(node, 'line-2'),
    { method: 'PUT', route: 'session', repository: 'lines/a', session: session.split('/').at(-1), receivedBytes: 3, status: 201 },
    'a push',
  );
  await client.send('GET', '/v2/lines/a/manifests/latest', { headers: { 'X-Request-Id': 'line-3' } });
  t.match(await lineWith(node, 'line-3'), { route: 'manifest', repository: 'lines/a', reference: 'latest', status: 404 }, 'a tag');
  await client.send('GET', '/etc/passwd', { headers: { 'X-Request-Id': 'line-4', 'User-Agent': `\u00e9${'x'.repeat(900)}` } });
  const nothing = await lineWith(node, 'line-4');
  t.match(nothing, { route: 'none', path: '/etc/passwd', status: 404 }, 'a path that names nothing');
  t.equal(String(nothing['userAgent']).length, 200, 'what a client says is cut short');
  for (const secret of secrets) t.notOk(node.log().includes(secret), 'secrets stay out of the log');
  t.notMatch(node.log(), /hunter2/);
}

function idOf({ headers }: Answer): string {
  return String(headers['x-request-id']);
}

async function testRequestIds(t: Test, { client, port }: WireNode): Promise<void> {
  const own = [idOf(await client.send('GET', '/v2/')), idOf(await client.send('GET', '/v2/')), idOf(await client.send('GET', '/nowhere'))];
  t.equal(new Set(own).size, 3, own.join(' '));
  for (const id of own) t.match(id, /^[\w-]{14,30}$/, 'one of ours');
  for (const id of ['a', '7b7c-1.2:3_4', 'x'.repeat(128)])
    t.equal(idOf(await client.send('HEAD', '/v2/', { headers: { 'X-Request-Id': id } })), id, 'a sane one is kept');
  for (const id of ['', ' ', 'a b', '"quoted"', '{"json":1}', 'x'.repeat(129), 'é'])
    t.not(
      idOf(await client.send('GET', '/v2/', { headers: { 'X-Request-Id': Buffer.from(id).toString('latin1') } })),
      id,
      'others are not',
    );
  t.match(
    await exchangeRaw(port, rawRequest('GET', '/v2/', 'Host: two\r\n')),
    /^HTTP\/1\.1 400 [^]*\r\nX-Request-Id: \S+\r\n/,
    'what the engine refuses has one',
  );
}

/** A table that is gone is a failure of ours: 500, with its cause in the log and the request's id in both places. */
async function testFailure(t: Test, engine: WireNode['engine']): Promise<void> {
  const database = await freshDatabase();
  const withSecret = new URL(database.url);
  withSecret.searchParams.set('application_name', 'hunter2');
  const node = await startWireNode(engine, { log: { level: 'warn' }, database: { url: withSecret.href } });
  t.teardown(() => stopWireNode(node));
  const admin = new Client({ connectionString: database.url });
  await admin.connect();
  await admin.query('ALTER TABLE tags RENAME TO tags_elsewhere');
  const answer = await node.client.send('GET', '/v2/a/b/manifests/x', { headers: { Authorization: 'Bearer hunter2' } });
  await admin.query('ALTER TABLE tags_elsewhere RENAME TO tags');
  await admin.end();
  t.equal(answer.status, 500);
  const id = String(answer.headers['x-request-id']);
  t.strictSame(jsonOf<{ errors: unknown }>(answer).errors, [{ code: 'UNKNOWN', message: 'internal error', detail: { requestId: id } }]);
  t.match(await lineWith(node, id), {
    level: 'warn',
    status: 500,
    route: 'manifest',
    repository: 'a/b',
    reference: 'x',
    remoteAddress: '127.0.0.1',
  });
  const cause = linesOf(node).find((line) => line['requestId'] === id && line['level'] === 'error');
  t.match(cause, { repository: 'a/b', reference: 'x', err: { code: '42P01', message: /tags/, stack: String } }, 'the cause');
  t.equal((await node.client.send('GET', '/v2/a/b/manifests/x')).status, 404);
  t.equal(linesOf(node).filter((line) => line['msg'] === 'request').length, 1, 'only failures have a line by default');
  t.notMatch(node.log(), /hunter2/, 'no secret');
  const errors = 'registry_database_errors_total{pool="reads",cause="other"}';
  t.equal(valueOf(await scrape(node), errors), 1);
}

async function testFailedStart(t: Test): Promise<void> {
  const url = `postgres://user:hunter2@127.0.0.1:${await freePort()}/db?password=hunter2`;
  const failed = startWireNode('uws', { log: { level: 'debug' }, database: { url } });
  const told = await failed.then(stopWireNode, (error: Error) => error.message);
  t.match(told, /"msg":"start failed"/, 'with its cause');
  t.match(told, /database\.url/, 'and the setting');
  t.notMatch(told, /hunter2/, 'but not the password');
}

async function testProxies(t: Test, engine: WireNode['engine']): Promise<void> {
  const server = { trusted_proxies: ['127.0.0.1', '10.0.0.0/8', '2001:db8::/32'] };
  const node = await startWireNode(engine, { log: { level: 'info', requests: 'all' }, server });
  t.teardown(() => stopWireNode(node));
  const cases = [
    [undefined, '127.0.0.1'],
    ['192.0.2.1', '192.0.2.1'],
    ['6.6.6.6, 192.0.2.1', '192.0.2.1'],
    ['6.6.6.6, 192.0.2.1, 10.1.2.3', '192.0.2.1'],
    ['192.0.2.1,2001:db8::7, 10.1.2.3', '192.0.2.1'],
    ['10.1.2.3', '10.1.2.3'],
    ['192.0.2.1:4711', '192.0.2.1'],
    ['[2001:dead::1]:80, 10.0.0.1', '2001:dead::1'],
    ['192.0.2.1, junk', '127.0.0.1'],
    ['junk, 10.0.0.1', '10.0.0.1'],
  ] as const;
  for (const [index, [forwarded, expected]] of cases.entries()) {
    const id = `proxied-${index}`;
    await node.client.send('GET', '/v2/', {
      headers: { 'X-Request-Id': id, ...(forwarded !== undefined && { 'X-Forwarded-For': forwarded }) },
    });
    t.equal((await lineWith(node, id))['remoteAddress'], expected, `${forwarded}`);
  }
  const distrusting = await startWireNode(engine, { log: { level: 'info', requests: 'all' } });
  t.teardown(() => stopWireNode(distrusting));
  await distrusting.client.send('GET', '/v2/', { headers: { 'X-Request-Id': 'direct', 'X-Forwarded-For': '192.0.2.1' } });
  t.equal((await lineWith(distrusting, 'direct'))['remoteAddress'], '127.0.0.1', 'hearsay');
}

async function testOwnPort(t: Test, engine: WireNode['engine']): Promise<void> {
  const port = await freePort();
  const node = await startWireNode(engine, { server: { metrics: { port } } });
  t.teardown(() => stopWireNode(node));
  const watcher = new HttpClient(port);
  t.teardown(() => watcher.close());
  await node.client.send('GET', '/v2/');
  const found = await scrape({ client: watcher });
  t.ok(valueOf(found, 'registry_http_requests_total{route="base",method="GET",status="200"}') >= 1);
  const proxied = await watcher.send('GET', '/metrics?x=1', { headers: { 'X-Forwarded-For': '192.0.2.1', Accept: openMetrics } });
  t.equal(proxied.status, 200, 'whoever reaches this port may read');
  parseExposition(proxied.body.toString(), 'openmetrics');
  t.equal((await watcher.send('HEAD', '/metrics')).status, 200);
  t.equal((await watcher.send('GET', '/v2/')).status, 404, 'and nothing else');
  t.equal((await watcher.send('POST', '/metrics', { body: '' })).status, 405);
  const elsewhere = await node.client.send('GET', '/metrics');
  t.equal(elsewhere.status, 404, 'not on the registry any more');
  t.match(elsewhere.body.toString(), 'server.metrics.port');
  await t.rejects(startWireNode(engine, { server: { metrics: { port } } }), /server\.metrics\.port/, 'a taken port is named');
}

async function testTraces(t: Test, engine: WireNode['engine']): Promise<void> {
  const collector = await startCollector({ hangs: false });
  t.teardown(() => collector.close());
  const tracing = { endpoint: collector.url, headers: { Authorization: 'Bearer for-the-collector' }, service_name: 'a-registry' };
  const node = await startWireNode(engine, { tracing, log: { level: 'info', requests: 'all' } });
  const { client } = node;
  const layer = bytesOf(3_000_000);
  const digest = digestOf(layer);
  const push = await client.send('POST', `/v2/traced/a/blobs/uploads/?digest=${digest}`, { body: layer, headers: given(1) });
  t.equal(push.status, 201);
  const image = await imageWithBlobs(client, 'traced/a', []);
  await putManifest(client, 'traced/a', 'tag', image, undefined, { headers: given(2) });
  await client.send('GET', '/v2/traced/a/manifests/tag', { headers: given(3) });
  await client.send('GET', `/v2/traced/a/blobs/${digest}`, { headers: given(4) });
  await client.send('GET', '/v2/traced/a/tags/list', { headers: given(5, '00') });
  const gone = await client.send('GET', '/v2/traced/a/manifests/gone');
  await client.send('GET', '/livez');
  await stopWireNode(node);

  const of = (number: number) => collector.spans.filter(({ traceId }) => traceId === String(number).padStart(32, 'a'));
  const root = (number: number): ReceivedSpan => {
    const [found, ...more] = of(number).filter(({ parentSpanId }) => parentSpanId === String(number).padStart(16, 'b'));
    t.equal(more.length, 0, 'one span below the caller');
    if (found === undefined) throw new Error(`no span for request ${number}: ${JSON.stringify(collector.spans.map(({ name }) => name))}`);
    return found;
  };
  const below = (parent: ReceivedSpan, name: string): ReceivedSpan => {
    const found = of(Number(parent.traceId.replaceAll('a', ''))).find((span) => span.name === name && span.parentSpanId === parent.spanId);
    if (found === undefined)
      throw new Error(`no ${name} below ${parent.name}: ${JSON.stringify(of(Number(parent.traceId.replaceAll('a', ''))))}`);
    t.ok(found.startMs >= parent.startMs - 5 && found.endMs <= parent.endMs + 5, `${name} lies within ${parent.name}`);
    return found;
  };
  const pushed = root(1);
  t.match(pushed, {
    name: 'POST uploads',
    attributes: {
      'http.request.method': 'POST',
      'http.route': 'uploads',
      'http.response.status_code': 201,
      'http.request.body.size': layer.length,
      'registry.repository': 'traced/a',
      'registry.request_id': push.headers['x-request-id'],
    },
    resource: { 'service.name': 'a-registry', 'service.version': String },
  });
  below(pushed, 'query insert-session');
  below(pushed, 'store write');
  below(pushed, 'store append');
  below(pushed, 'store finish');
  below(pushed, 'store put');
  below(pushed, 'query commit-link');
  const hashes = of(1).filter(({ name }) => name === 'hash');
  t.equal(
    hashes.reduce((sum, { attributes }) => sum + Number(attributes['registry.bytes']), 0),
    layer.length,
    'every byte was hashed in a span',
  );
  const ids = new Set(of(1).map(({ spanId }) => spanId));
  t.ok(
    hashes.every(({ parentSpanId }) => ids.has(parentSpanId)),
    'of this trace',
  );
  below(root(2), 'hash');
  const pulled = root(3);
  t.equal(pulled.name, 'GET manifest');
  const batch = below(pulled, 'metadata batch');
  t.equal(batch.attributes['registry.read'], 'manifests-by-tag');
  below(batch, 'query find-manifests-by-tag');
  below(root(4), 'store open');
  t.strictSame(of(5), [], 'what the caller does not trace is not traced');
  t.ok(
    collector.spans.some(
      (span) => span.name === 'GET manifest' && span.attributes['http.response.status_code'] === 404 && span.parentSpanId === '',
    ),
    'a request without a caller is a trace of its own',
  );
  const [own] = collector.spans.filter(({ attributes }) => attributes['registry.request_id'] === gone.headers['x-request-id']);
  t.equal((await lineWith(node, String(gone.headers['x-request-id'])))['traceId'], own?.traceId, 'which the log names');
  t.notOk(
    collector.spans.some(({ name }) => /livez|readyz/.test(name)),
    'probes are not traced',
  );
  t.ok(
    collector.headers.length > 0 && collector.headers.every(({ authorization }) => authorization === 'Bearer for-the-collector'),
    'settings reach the collector',
  );
  t.notMatch(node.log(), /for-the-collector/, 'and not the log');
}

/** A caller that traces, or with flags `00` does not. */
const given = (number: number, flags = '01') => ({
  traceparent: `00-${String(number).padStart(32, 'a')}-${String(number).padStart(16, 'b')}-${flags}`,
});

/** Generous, since the machine may be busy; a batch of spans that somebody waited for would take ten seconds each. */
const quickMs = 3_000;

async function testHangingCollector(t: Test): Promise<void> {
  const collector = await startCollector({ hangs: true });
  t.teardown(() => collector.close());
  const node = await startWireNode('uws', { tracing: { endpoint: collector.url } });
  let slowestMs = 0;
  const ask = async (): Promise<void> => {
    const since = performance.now();
    t.equal((await node.client.send('GET', '/v2/traced/a/manifests/gone')).status, 404);
    slowestMs = Math.max(slowestMs, performance.now() - since);
  };
  await ask();
  await until('spans to be on their way', () => collector.requests() > 0);
  for (let count = 0; count < 200; count++) await ask();
  t.ok(slowestMs < quickMs, `the slowest request took ${Math.round(slowestMs)} ms`);
  const since = performance.now();
  await stopWireNode(node);
  const tookMs = performance.now() - since;
  t.ok(tookMs < 9_000, `the end took ${Math.round(tookMs)} ms`);
}

async function testAbsentCollector(t: Test): Promise<void> {
  const node = await startWireNode('uws', { tracing: { endpoint: `http://127.0.0.1:${await freePort()}/v1/traces` } });
  for (let count = 0; count < 20; count++) t.equal((await node.client.send('GET', '/v2/')).status, 200);
  await until(
    'a complaint',
    () => linesOf(node).find((line) => line['msg'] === 'traces could not be delivered (tracing.endpoint)'),
    60_000,
  );
  await stopWireNode(node);
  t.equal(linesOf(node).filter(({ level }) => level === 'error').length, 0, 'and no more than that');
}
