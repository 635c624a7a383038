// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What becomes of a request's body. */
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import type { Test } from 'tap';
import { BodyTooLarge, type Handler, type RequestBody } from '../../src/http/contract.js';
import { signalled, start, type Stage } from './engine-stage.js';
import { HashSink, noise, sha256 } from './sinks.js';
import type { Wire } from './wire.js';

const content = noise(24_000_001);

export async function bodiesSuite(t: Test, stage: Stage): Promise<void> {
  await t.test('a body is piped whole and in order, whatever the sink takes at a time', async (t) => {
    const sinks: [string, () => HashSink][] = [
      ['all', () => new HashSink()],
      ['100 KB, ready at once', () => new HashSink(100_000)],
      ['1 MB, ready after a while', () => new HashSink(1_000_000, () => delay(5))],
    ];
    for (const [name, makeSink] of sinks) {
      for (const late of [0, 100]) {
        const handler: Handler = async ({ body }) => {
          const sink = makeSink();
          if (late > 0) await delay(late);
          await body.pipe(sink);
          return { status: 201, body: sink.digest() };
        };
        const wire = await (await start(t, stage, handler)).open();
        for (const send of [sendWithLength, sendChunked]) {
          await send(wire, content);
          t.equal(String((await wire.response())?.body), sha256(content), `${name}, ${late} ms late, ${send.name}`);
        }
      }
    }
  });

  await t.test('a whole body in memory, and its limit', async (t) => {
    const { open, errors } = await start(t, stage, hashMegabyte);
    for (const send of [sendWithLength, sendChunked]) {
      const wire = await open();
      for (const size of [1, 60_000, 1_000_000]) {
        const bytes = content.subarray(0, size);
        await send(wire, bytes);
        t.equal(String((await wire.response())?.body), sha256(bytes), `${size} bytes, ${send.name}`);
      }
      await send(wire, content.subarray(0, 50), '/?transfer');
      t.equal(String((await wire.response())?.body), 'transferred', 'memory of its own');
      const tooLarge = await open();
      void send(tooLarge, content.subarray(0, 1_000_001));
      t.equal((await tooLarge.response())?.status, 413, send.name);
    }
    const empty = await open();
    await empty.request('PUT /', ['Content-Length: 0']);
    t.equal(String((await empty.response())?.body), sha256(new Uint8Array(0)));
    t.same(errors, []);
  });

  await t.test('a body is read once', async (t) => {
    const { open } = await start(t, stage, async ({ body }) => {
      await body.bytes(10);
      return { status: 200, body: await body.bytes(10).then(String, (error: Error) => error.message) };
    });
    const wire = await open();
    await sendWithLength(wire, new Uint8Array(3));
    t.match(String((await wire.response())?.body), 'once');
  });

  await t.test('a sink that is full stops the sender', async (t) => {
    const isFull = signalled();
    const hasRoom = signalled();
    const bytes = noise(100_000_000);
    const sink = new HashSink(1_000_000, () => {
      isFull.resolve();
      return hasRoom.promise;
    });
    const handler: Handler = async ({ body }) => {
      await body.pipe(sink);
      return { status: 201, body: sink.digest() };
    };
    const wire = await (await start(t, stage, handler)).open();
    let sentBytes = 0;
    const sending = (async () => {
      await wire.request('PUT /', [`Content-Length: ${bytes.length}`]);
      for (; sentBytes < bytes.length; sentBytes += 1_000_000) await wire.send(bytes.subarray(sentBytes, sentBytes + 1_000_000));
    })();
    await isFull.promise;
    // Longer than a pause lasts, so the engine has looked several times whether the client is still there.
    await delay(6_000);
    t.equal(sink.takenBytes, 1_000_000);
    t.ok(sentBytes < 25_000_000, `${sentBytes} bytes were sent`);
    hasRoom.resolve();
    t.equal(String((await wire.response())?.body), sha256(bytes));
    await sending;
  });

  await t.test('a sink that fails ends the body, and the handler answers', async (t) => {
    const failing: [string, HashSink | { write(): number; ready(): Promise<void> }][] = [
      ['write', { write: () => raise('disk full'), ready: () => Promise.resolve() }],
      ['ready', { write: () => 0, ready: () => Promise.reject(new Error('disk full')) }],
    ];
    for (const [name, sink] of failing) {
      const { open } = await start(t, stage, async ({ body }) => {
        const message = await body.pipe(sink).catch((error: Error) => error.message);
        return { status: 507, body: String(message) };
      });
      const wire = await open();
      void sendWithLength(wire, content);
      const response = await wire.response();
      t.same([response?.status, String(response?.body)], [507, 'disk full'], name);
    }
  });

  await t.test('a client that leaves in the middle of a body', async (t) => {
    const never = new Promise<void>(() => undefined);
    const reads: [string, (body: RequestBody) => Promise<unknown>][] = [
      ['pipe', (body) => body.pipe(new HashSink())],
      ['pipe into a full sink', (body) => body.pipe(new HashSink(1_000, () => never))],
      ['bytes', (body) => body.bytes(100_000_000)],
      ['read late', (body) => delay(300).then(() => body.bytes(100_000_000))],
    ];
    for (const [name, read] of reads) {
      for (const leave of ['end', 'resetAndDestroy'] as const) {
        const begun = signalled();
        const failed = signalled<unknown>();
        const { open, errors } = await start(t, stage, async ({ body, signal }) => {
          begun.resolve();
          await read(body).catch((error: unknown) => {
            failed.resolve(error);
            throw error;
          });
          return { status: signal.aborted ? 200 : 201 };
        });
        const wire = await open();
        await wire.request('PUT /', ['Content-Length: 10000000'], content.subarray(0, 100_000));
        await begun.promise;
        await delay(20);
        const leftMs = performance.now();
        wire.socket[leave]();
        t.match(await failed.promise, { name: 'BodyAborted' }, `${name}, ${leave}`);
        t.ok(performance.now() - leftMs < 20_000, `long before it would be idle: ${Math.round(performance.now() - leftMs)} ms`);
        await new Promise(setImmediate);
        t.same(errors, [], 'no fault of the handler');
      }
    }
  });

  await t.test('a client that leaves after its body, which ended in a pause', async (t) => {
    const taken = signalled();
    const left = signalled<unknown>();
    const { open, errors } = await start(t, stage, async ({ body, signal }) => {
      await body.pipe(new HashSink(60_000, () => delay(20)));
      taken.resolve();
      await once(signal, 'abort');
      left.resolve(signal.reason);
      return { status: 201 };
    });
    const wire = await open();
    await sendWithLength(wire, content.subarray(0, 100_000));
    await taken.promise;
    wire.socket.destroy();
    t.match(await left.promise, { name: 'BodyAborted' });
    t.same(errors, []);
  });

  await t.test('a reply that comes before the body arrives also at a client that reads last', async (t) => {
    const handler: Handler = ({ path }) => (path === '/later' ? delay(10).then(() => refused) : refused);
    const refused = { status: 404, headers: { 'Content-Type': 'application/json' }, body: '{"errors":[]}' };
    const { open, errors } = await start(t, stage, handler);
    const hundredMegabytes = Buffer.alloc(100_000_000);
    for (const path of ['/now', '/later']) {
      for (const send of [sendWithLength, sendChunked]) {
        const wire = await open();
        wire.socket.pause();
        await send(wire, hundredMegabytes, path);
        wire.socket.resume();
        const response = await wire.response();
        t.same([response?.status, String(response?.body)], [404, refused.body], `${path}, ${send.name}`);
        t.equal(response?.headers.get('connection')?.[0], 'close');
        await wire.closed;
      }
      const small = await open();
      for (let round = 0; round < 2; round++) {
        await sendWithLength(small, hundredMegabytes.subarray(0, 500_000), path);
        const response = await small.response();
        t.same(
          [response?.status, response?.headers.get('connection')?.[0] ?? 'keep-alive'],
          [404, 'keep-alive'],
          'a small body keeps the connection',
        );
      }
    }
    t.same(errors, []);
  });

  await t.test('a client that never stops sending after its reply is closed', async (t) => {
    const { open } = await start(t, stage, () => ({ status: 404, body: 'no' }));
    const wire = await open();
    await wire.request('PUT /', ['Transfer-Encoding: chunked']);
    t.equal((await wire.response())?.status, 404);
    const piece = Buffer.concat([Buffer.from('100000\r\n'), Buffer.alloc(0x100000), Buffer.from('\r\n')]);
    let sent = 0;
    while (!wire.isClosed && sent < 2000) {
      await Promise.race([wire.send(piece), wire.closed]);
      await new Promise(setImmediate);
      sent++;
    }
    t.ok(wire.isClosed, `closed after ${sent} MB`);
  });

  await t.test('Expect: 100-continue', async (t) => {
    const { open } = await start(t, stage, async ({ body, path }) => {
      if (path === '/refused') return { status: 401, body: 'no' };
      return { status: 201, body: sha256(await body.bytes(1_000_000)) };
    });
    const wire = await open();
    for (let round = 0; round < 2; round++) {
      await wire.request('PUT /', ['Content-Length: 500000', 'Expect: 100-continue']);
      t.equal((await wire.response())?.status, 100);
      await wire.send(content.subarray(0, 500_000));
      t.equal(String((await wire.response())?.body), sha256(content.subarray(0, 500_000)));
    }
    await wire.request('PUT /refused', ['Content-Length: 50000000', 'Expect: 100-continue']);
    const first = await wire.response();
    t.equal(first?.status === 100 ? (await wire.response())?.status : first?.status, 401);
  });
}

const hashMegabyte: Handler = async ({ body, query }) => {
  try {
    const bytes = await body.bytes(1_000_000);
    if (query === 'transfer') structuredClone(bytes.buffer, { transfer: [bytes.buffer as ArrayBuffer] });
    return { status: 200, body: query === 'transfer' ? 'transferred' : sha256(bytes) };
  } catch (error) {
    if (!(error instanceof BodyTooLarge)) throw error;
    return { status: 413, body: 'too large' };
  }
};

async function sendWithLength(wire: Wire, bytes: Uint8Array, target = '/'): Promise<void> {
  await wire.request(`PUT ${target}`, [`Content-Length: ${bytes.length}`], bytes);
}

async function sendChunked(wire: Wire, bytes: Uint8Array, target = '/'): Promise<void> {
  await wire.request(`PUT ${target}`, ['Transfer-Encoding: chunked']);
  const chunkBytes = 1_234_567;
  for (let at = 0; at < bytes.length; at += chunkBytes) {
    const chunk = bytes.subarray(at, at + chunkBytes);
    await wire.send(Buffer.concat([Buffer.from(`${chunk.length.toString(16)}\r\n`), chunk, Buffer.from('\r\n')]));
  }
  await wire.send('0\r\n\r\n');
}

function raise(message: string): never {
  throw new Error(message);
}
