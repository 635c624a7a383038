// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What an engine refuses by itself, its limits, and how it starts and ends. */
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { Test } from 'tap';
import type { Reply, Request } from '../../src/http/contract.js';
import { freePort } from '../support/registry.js';
import { eventually, signalled, start, type Stage } from './engine-stage.js';
import { HashSink, noise, ReusedBufferSource } from './sinks.js';
import { Wire } from './wire.js';

export async function lifetimeSuite(t: Test, stage: Stage): Promise<void> {
  await t.test('a request whose end is in doubt is a 400, and nothing behind it is served', async (t) => {
    const served: string[] = [];
    const { open } = await start(t, stage, ({ path }) => {
      served.push(path);
      return { status: 200, body: 'served' };
    });
    const doubtful: Record<string, string> = {
      'two lengths': 'Host: a\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabc',
      'one length twice': 'Host: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc',
      'a list of lengths': 'Host: a\r\nContent-Length: 3, 3\r\n\r\nabc',
      'a length that is no number': 'Host: a\r\nContent-Length: +3\r\n\r\nabc',
      'two hosts': 'Host: a\r\nHost: a\r\n\r\n',
      'no host': 'Accept: */*\r\n\r\n',
      'length and chunks': 'Host: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
      'another coding': 'Host: a\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n',
      'two codings': 'Host: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n',
      'chunked twice': 'Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    };
    for (const [name, rest] of Object.entries(doubtful)) {
      const wire = await open();
      await wire.send(`PUT /doubtful HTTP/1.1\r\n${rest}`);
      const response = await wire.response();
      t.equal(response?.status, 400, name);
      if (stage.engine === 'node' || !refusedByUws.has(name)) {
        t.match(JSON.parse(String(response?.body)), { errors: [{ code: /^[A-Z]/, message: /./ }] }, name);
      }
      await wire.closed;
      const smuggling = await open();
      await smuggling.send(`PUT /doubtful HTTP/1.1\r\n${rest}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n`);
      await smuggling.closed;
    }
    t.same(served, []);
  });

  await t.test('headers of 60 KB are read, of 200 KB refused', async (t) => {
    const { open } = await start(t, stage, (request) => ({ status: 200, body: String(request.header('authorization')?.length) }));
    const wire = await open();
    await wire.request('GET /', [`Authorization: ${'x'.repeat(60_000)}`]);
    t.equal(String((await wire.response())?.body), '60000');
    await wire.request('GET /', [`Authorization: ${'x'.repeat(200_000)}`]);
    t.equal((await wire.response())?.status ?? 'closed', 431);
    await wire.closed;
  });

  await t.test('connections past the limit are refused, and there is room when one goes', async (t) => {
    const { open } = await start(t, stage, () => ({ status: 200, body: 'ok' }), { maxConnections: 2 });
    const first = await open();
    t.same([await ask(first), await ask(await open())], [200, 200]);
    const third = await open();
    const refused = await ask(third);
    t.ok(refused === 503 || refused === undefined, `${refused}`);
    await third.closed;
    t.equal(await ask(first), 200);
    first.socket.destroy();
    await first.closed;
    for (let attempt = 0, status; status !== 200; attempt++) {
      if (attempt === 100) throw new Error('no room');
      const wire = await open();
      status = await ask(wire);
      wire.socket.destroy();
      await wire.closed;
    }
  });

  await t.test('a taken port is EADDRINUSE', async (t) => {
    const { server } = await start(t, stage, accept);
    await t.rejects(start(t, stage, accept, { port: server.port }), { code: 'EADDRINUSE' });
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    await t.rejects(start(t, stage, accept, { port: (other.address() as AddressInfo).port }), { code: 'EADDRINUSE' });
    other.close();
    await t.rejects(start(t, stage, accept, { host: '192.0.2.1' }), { code: 'EADDRNOTAVAIL' });
  });

  await t.test('a shared port', async (t) => {
    const serveAs = (name: string, port = 0): ReturnType<typeof start> =>
      start(t, stage, () => ({ status: 200, body: name }), { reusePort: true, port });
    const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
    if (stage.engine === 'node' && (major < 22 || (major === 22 && minor < 12))) {
      await t.rejects(serveAs('first'), /reuse_port needs Node 22\.12/);
      return;
    }
    // Not port 0, for which uWS never shares.
    const first = await serveAs('first', await freePort());
    await serveAs('second', first.server.port);
    const names = new Set<string>();
    for (let attempt = 0; names.size < 2 && attempt < 200; attempt++) {
      const wire = await first.open();
      await wire.request('GET /');
      names.add(String((await wire.response())?.body));
    }
    t.same([...names].sort(), ['first', 'second']);
  });

  await t.test('who asked is known also after they have gone', async (t) => {
    const begun = signalled();
    const gone = signalled<string>();
    const { open } = await start(t, stage, async (request) => {
      begun.resolve();
      await new Promise((resolve) => request.signal.addEventListener('abort', resolve));
      gone.resolve(request.remoteAddress);
      return { status: 200 };
    });
    const wire = await open();
    await wire.request('GET /');
    await begun.promise;
    wire.socket.destroy();
    t.equal(await gone.promise, '127.0.0.1');
  });

  await t.test('what a client asked for at once ends with its connection', async (t) => {
    const content = noise(30_000_000);
    const sources: ReusedBufferSource[] = [];
    const open = (): Promise<ReusedBufferSource> => {
      const source = new ReusedBufferSource(content, 1024 * 1024);
      sources.push(source);
      return Promise.resolve(source);
    };
    const told = { begun: 0, done: 0 };
    const observer = { begun: () => told.begun++, done: () => told.done++ };
    const server = await start(t, stage, () => ({ status: 200, body: { length: content.length, open } }), { observer });
    const wire = await server.open();
    wire.socket.pause();
    await wire.send('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(2));
    // uWS begins with the second one when the first is done.
    await eventually(() => sources.length === (stage.engine === 'node' ? 2 : 1));
    wire.socket.destroy();
    await eventually(() => told.done === told.begun);
    t.equal(told.done, told.begun, 'who watches is told of the end of each');
    t.same([...new Set(sources.map(({ closes }) => closes))], [1], 'and each source is closed, once');
  });

  await t.test('drain: what is in flight is finished, the rest is closed', async (t) => {
    const arrived: Request[] = [];
    const answer = signalled();
    const content = noise(30_000_000);
    const { server, open } = await start(t, stage, async (request) => {
      arrived.push(request);
      if (request.path === '/upload') await request.body.pipe(new HashSink());
      if (request.path !== '/') await answer.promise;
      if (request.path === '/download') {
        return { status: 200, body: { length: content.length, open: () => Promise.resolve(new ReusedBufferSource(content, 1024 * 1024)) } };
      }
      return { status: 200, body: 'done' };
    });
    const [idle, slow, upload, download, fresh] = [await open(), await open(), await open(), await open(), await open()];
    await idle.request('GET /');
    t.equal((await idle.response())?.headers.get('connection')?.[0] ?? 'keep-alive', 'keep-alive');
    await slow.request('GET /slow');
    await download.request('GET /download');
    await upload.request('PUT /upload', ['Content-Length: 10'], '01234');
    while (arrived.length < 4) await delay(5);

    const startedMs = performance.now();
    const drained = server.drain(30_000);
    t.equal(server.drain(1), drained, 'once');
    await t.rejects(Wire.open(server.port), { code: 'ECONNREFUSED' });
    await upload.send('56789');
    answer.resolve();
    for (const wire of [slow, upload, download]) {
      const response = await wire.response();
      t.same([response?.status, response?.whole, response?.headers.get('connection')?.[0]], [200, true, 'close']);
    }
    await drained;
    for (const wire of [idle, slow, upload, download, fresh]) await wire.closed;
    t.ok(performance.now() - startedMs < 10_000, 'without waiting for the deadline');
  });

  await t.test('drain: what takes too long is cut', async (t) => {
    const begun = signalled();
    const cut = signalled<unknown>();
    const { server, open } = await start(t, stage, async ({ body }) => {
      begun.resolve();
      await body.bytes(100).catch(cut.resolve);
      return { status: 200 };
    });
    const wire = await open();
    await wire.request('PUT /', ['Content-Length: 10'], '0');
    await begun.promise;
    await server.drain(200);
    t.match(await cut.promise, { name: 'BodyAborted' });
    await wire.closed;
    t.equal(await wire.response(), undefined);
  });

  await t.test('clients that stall are cut after the idle timeout, slow ones by the minimum rate', async (t) => {
    const content = noise(64_000_000);
    const limits = { idleTimeoutMs: 1_000, minimumRateBytesPerSecond: 1_000 };
    const failed = signalled<unknown>();
    const source = new ReusedBufferSource(content, 1024 * 1024);
    const { open } = await start(
      t,
      stage,
      async ({ method, body }) => {
        if (method === 'GET') return { status: 200, body: { length: content.length, open: () => Promise.resolve(source) } };
        await body.pipe(new HashSink()).catch(failed.resolve);
        return { status: 201 };
      },
      limits,
    );
    const stalled = await open();
    await stalled.request('PUT /', ['Content-Length: 1000'], 'abc');
    await stalled.closed;
    t.match(await failed.promise, { name: 'BodyAborted', message: /slow/ });

    const slow = await open();
    const startedMs = performance.now();
    await slow.request('PUT /', ['Content-Length: 100000']);
    while (!slow.isClosed && performance.now() - startedMs < 10_000) {
      await slow.send('x'.repeat(20));
      await delay(100);
    }
    t.ok(slow.isClosed, `200 B/s were cut after ${Math.round(performance.now() - startedMs)} ms`);

    const reader = await open();
    reader.socket.pause();
    await reader.request('GET /');
    const readMs = performance.now();
    while (source.closes === 0 && performance.now() - readMs < 10_000) await delay(50);
    t.equal(source.closes, 1, `a download that nobody reads was cut after ${Math.round(performance.now() - readMs)} ms`);
  });

  await t.test('a client that is slower than the idle timeout only for our sake is not cut', async (t) => {
    const wire = await (await start(t, stage, takeSlowly, { idleTimeoutMs: 1_000 })).open();
    await wire.request('PUT /', ['Content-Length: 24000000'], noise(24_000_000));
    t.equal(String((await wire.response())?.body), '24000000');
  });
}

/** Before we are asked, and with a page of HTML. */
const refusedByUws = new Set(['a list of lengths', 'a length that is no number', 'no host', 'length and chunks']);

const accept = (): Reply => ({ status: 200 });

async function takeSlowly({ body }: Request): Promise<Reply> {
  const sink = new HashSink(10_000_000, () => delay(3_000));
  await body.pipe(sink);
  await delay(3_000);
  return { status: 201, body: String(sink.takenBytes) };
}

async function ask(wire: Wire): Promise<number | undefined> {
  await wire.request('GET /');
  return (await wire.response())?.status;
}
