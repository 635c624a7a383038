// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What a handler gets to see of a request, and what becomes of its reply. */
import { once } from 'node:events';
import type { Test } from 'tap';
import type { Handler, Reply, Request } from '../../src/http/contract.js';
import { eventually, signalled, start, type Stage } from './engine-stage.js';
import { noise, ReusedBufferSource, sha256 } from './sinks.js';

/** The same reply given at once and after a turn of the loop: the engines have a path for each. */
function bothWays(reply: (request: Request) => Reply): { readonly name: string; readonly handler: Handler }[] {
  return [
    { name: 'at once', handler: reply },
    {
      name: 'later',
      handler: async (request) => {
        await new Promise(setImmediate);
        return reply(request);
      },
    },
  ];
}

export async function repliesSuite(t: Test, stage: Stage): Promise<void> {
  await t.test('a request is seen as it was sent', async (t) => {
    for (const { name, handler } of bothWays(describe)) {
      const { open } = await start(t, stage, handler);
      const wire = await open();
      await wire.request('GET /v2/a%2Fb/../c//d?n=%41&last=a%2Fb', ['Accept: x', 'aCCept: y', 'X-Empty:']);
      t.same(JSON.parse(String((await wire.response())?.body)), {
        method: 'GET',
        path: '/v2/a%2Fb/../c//d',
        query: 'n=%41&last=a%2Fb',
        remoteAddress: '127.0.0.1',
        accept: 'x, y',
        empty: '',
        absent: null,
        length: 0,
      });
      await wire.request('PATCH /', ['Content-Length: 3'], 'abc');
      t.match(JSON.parse(String((await wire.response())?.body)), { method: 'PATCH', path: '/', query: '', length: 3 }, name);
    }
  });

  await t.test('replies of every form, on one connection', async (t) => {
    const long = noise(300_000);
    const forms: Record<string, Reply> = {
      '/text': { status: 200, headers: { 'Content-Type': 'text/plain' }, body: 'grüße' },
      '/bytes': { status: 201, body: new Uint8Array([1, 2, 3]) },
      '/long': { status: 200, body: long },
      '/empty': { status: 202, headers: { Location: '/x' } },
      '/list': { status: 401, headers: { 'WWW-Authenticate': ['Bearer realm="a"', 'Basic realm="b"'] }, body: '{}' },
      '/204': { status: 204, body: 'no' },
      '/304': { status: 304, headers: { ETag: '"a"' }, body: 'no' },
      '/none': { status: 200, body: { length: 0, open: () => Promise.reject(new Error('opened for no bytes')) } },
    };
    for (const { name, handler } of bothWays(({ path }) => forms[path] ?? { status: 404 })) {
      const { open, errors } = await start(t, stage, handler);
      const wire = await open();
      const get = async (method: string, path: string): Promise<Record<string, unknown>> => {
        await wire.request(`${method} ${path}`);
        const response = await wire.response(method === 'HEAD');
        return { status: response?.status, length: response?.headers.get('content-length')?.[0], body: response?.body };
      };
      const expected: [string, number, string | undefined, Uint8Array | string][] = [
        ['/text', 200, '7', 'grüße'],
        ['/bytes', 201, '3', new Uint8Array([1, 2, 3])],
        ['/long', 200, '300000', long],
        ['/empty', 202, '0', ''],
        ['/list', 401, '2', '{}'],
        ['/204', 204, undefined, ''],
        ['/304', 304, undefined, ''],
        ['/none', 200, '0', ''],
        ['/unknown', 404, '0', ''],
      ];
      for (const [path, status, length, body] of expected) {
        t.same(await get('GET', path), { status, length, body: Buffer.from(body) }, `GET ${path} ${name}`);
        t.same(await get('HEAD', path), { status, length, body: Buffer.alloc(0) }, `HEAD ${path} ${name}`);
      }
      await wire.request('GET /list');
      const list = await wire.response();
      t.same(list?.headers.get('www-authenticate'), ['Bearer realm="a"', 'Basic realm="b"']);
      t.ok(Date.parse(list?.headers.get('date')?.[0] ?? '') > 0, 'there is a Date');
      t.equal(list?.headers.has('uwebsockets'), false);
      t.same([wire.isClosed, wire.rest, errors], [false, '', []]);
    }
  });

  await t.test('a stream is sent whole, HEAD has its length, and its source is closed once', async (t) => {
    const content = noise(20_000_003);
    const sources: ReusedBufferSource[] = [];
    const open = (): Promise<ReusedBufferSource> => {
      const source = new ReusedBufferSource(content, 1024 * 1024);
      sources.push(source);
      return Promise.resolve(source);
    };
    for (const { name, handler } of bothWays(() => ({ status: 206, body: { length: content.length, open } }))) {
      const wire = await (await start(t, stage, handler)).open();
      await wire.request('HEAD /');
      t.equal((await wire.response(true))?.headers.get('content-length')?.[0], String(content.length));
      t.equal(sources.length, 0, 'HEAD opens nothing');
      for (let round = 0; round < 2; round++) {
        await wire.request('GET /');
        const response = await wire.response();
        t.equal(sha256(response?.body ?? Buffer.alloc(0)), sha256(content), name);
      }
      await eventually(() => sources.every(({ closes }) => closes > 0));
      t.same(
        sources.splice(0).map(({ closes }) => closes),
        [1, 1],
      );
    }
  });

  await t.test('a source that fails never gives a short body that looks whole', async (t) => {
    const content = noise(3_000_000);
    const failing = (failAt: number, length = content.length): Reply & { source: ReusedBufferSource } => {
      const source = new ReusedBufferSource(content, 1024 * 1024, (at) =>
        at >= failAt ? Promise.reject(new Error('disk')) : Promise.resolve(),
      );
      return { status: 200, body: { length, open: () => Promise.resolve(source) }, source };
    };
    const cases: [string, Reply & { source?: ReusedBufferSource }, number][] = [
      ['open throws', { status: 200, body: { length: 5, open: () => Promise.reject(new Error('disk')) } }, 500],
      ['the first read throws', failing(0), 500],
      ['a later read throws', failing(2_000_000), 200],
      ['it ends early', failing(Infinity, content.length + 1), 200],
      ['it gives too much', failing(Infinity, content.length - 1), 200],
    ];
    for (const [name, reply, status] of cases) {
      const { open, errors } = await start(t, stage, () => reply);
      const wire = await open();
      await wire.request('GET /');
      const response = await wire.response();
      t.same([response?.status, response?.whole], [status, status === 500], name);
      if (status === 500) t.match(JSON.parse(String(response?.body)), { errors: [{ code: 'UNKNOWN' }] });
      else await wire.closed;
      await eventually(() => (reply.source?.closes ?? 1) > 0);
      t.equal(errors.length, 1, `${name}: ${errors.join()}`);
      t.equal(reply.source?.closes ?? 1, 1);
    }
  });

  await t.test('a client that leaves in the middle of a download', async (t) => {
    const content = noise(64_000_000);
    const source = new ReusedBufferSource(content, 1024 * 1024);
    const aborted = signalled<unknown>();
    const { open, errors } = await start(t, stage, (request) => {
      request.signal.addEventListener('abort', () => aborted.resolve(request.signal.reason));
      return { status: 200, body: { length: content.length, open: () => Promise.resolve(source) } };
    });
    const wire = await open();
    await wire.request('GET /');
    await once(wire.socket, 'data');
    wire.socket.pause();
    await new Promise(setImmediate);
    t.equal(source.closes, 0);
    wire.socket.resetAndDestroy();
    t.match(await aborted.promise, { name: 'BodyAborted' });
    await new Promise(setImmediate);
    t.same([source.closes, errors], [1, []]);
  });

  await t.test('a client that leaves while its source is waited for', async (t) => {
    const content = noise(3_000_000);
    const stalled = signalled();
    const source = new ReusedBufferSource(content, 1024 * 1024, (at) => {
      if (at < 2_000_000) return Promise.resolve();
      stalled.resolve();
      return new Promise(() => undefined);
    });
    const { open } = await start(t, stage, () => ({ status: 200, body: { length: content.length, open: () => Promise.resolve(source) } }));
    const wire = await open();
    await wire.request('GET /');
    await stalled.promise;
    t.equal(source.closes, 0);
    wire.socket.destroy();
    await eventually(() => source.closes > 0);
    t.equal(source.closes, 1);
  });

  await t.test('a client that leaves before the reply: the signal tells, also one that is asked for later', async (t) => {
    const arrived = signalled<Request>();
    const answer = signalled();
    const { open, errors } = await start(t, stage, async (request) => {
      arrived.resolve(request);
      await answer.promise;
      return { status: 200, body: { length: 1, open: () => Promise.reject(new Error('opened for nobody')) } };
    });
    const wire = await open();
    await wire.request('GET /');
    const request = await arrived.promise;
    t.equal(request.signal.aborted, false);
    wire.socket.destroy();
    await once(request.signal, 'abort');
    answer.resolve();
    await new Promise(setImmediate);
    t.same(errors, []);
    t.equal(request.path, '/');
  });

  await t.test('a handler that throws is a 500 and is told; so is a header that would split', async (t) => {
    for (const { name, handler } of [
      ...bothWays(throwBug),
      ...bothWays(() => ({ status: 200, headers: { Location: '/a\r\nSet-Cookie: b' } })),
    ]) {
      const { open, errors } = await start(t, stage, handler);
      const wire = await open();
      for (let round = 1; round <= 2; round++) {
        await wire.request('GET /');
        const response = await wire.response();
        t.equal(response?.status, 500, name);
        t.match(JSON.parse(String(response?.body)), { errors: [{ code: 'UNKNOWN', message: 'internal error' }] });
        t.equal(response?.headers.get('content-type')?.[0], 'application/json');
        t.equal(errors.length, round);
      }
    }
  });

  await t.test('requests that are sent together are answered in order', async (t) => {
    const { open } = await start(t, stage, ({ path }) => ({ status: 200, body: path }));
    const wire = await open();
    const paths = ['/1', '/2', '/3'];
    await wire.send(paths.map((path) => `GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`).join(''));
    for (const path of paths) t.equal(String((await wire.response())?.body), path);
  });

  await t.test('a client that asks for it is closed after the reply', async (t) => {
    for (const { name, handler } of bothWays(() => ({ status: 200, body: 'x'.repeat(100_000) }))) {
      const wire = await (await start(t, stage, handler)).open();
      await wire.request('GET /', ['Connection: close']);
      const response = await wire.response();
      t.equal(response?.body.length, 100_000, name);
      await wire.closed;
    }
  });
}

function throwBug(): never {
  throw new Error('bug');
}

function describe(request: Request): Reply {
  const { method, path, query, remoteAddress, body } = request;
  const headers = { accept: request.header('accept'), empty: request.header('x-empty'), absent: request.header('x-absent') ?? null };
  return { status: 200, body: JSON.stringify({ method, path, query, remoteAddress, ...headers, length: body.length }) };
}
