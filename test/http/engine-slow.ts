// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * Clients and handlers that take longer than uWS's own timers (about 10 s, and 16 KiB/s) allow. They need real time, so all of them run at once
 * and beside everything else; each resolves with what is to be checked.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Test } from 'tap';
import type { Handler } from '../../src/http/contract.js';
import { start, type Stage } from './engine-stage.js';
import { HashSink, noise, ReusedBufferSource, sha256 } from './sinks.js';

export interface SlowCase {
  readonly name: string;
  readonly outcome: Promise<{ readonly found: unknown; readonly wanted: unknown }>;
}

export function startSlowCases(t: Test, stage: Stage): SlowCase[] {
  const cases = {
    'an upload of 1 KB/s for 33 s': slowUpload,
    'an upload that stalls for 15 s': stalledUpload,
    'a reply after 40 s': slowReply,
    'a reply 40 s after a body that was paused': slowReplyAfterPause,
    'a download whose client stalls for 15 s, twice': stalledDownload,
    'a long body in memory whose client stalls for 15 s': stalledBytes,
    'a download whose source stalls for 15 s after its client did': stalledSource,
    'a sink that is full for 20 s': stalledSink,
    'a body that is read after 15 s': lateRead,
  };
  return Object.entries(cases).map(([name, run]) => {
    const outcome = run(t, stage);
    // Looked at when all else is done; until then it is not unhandled.
    outcome.catch(() => undefined);
    return { name: `${stage.engine}: ${name}`, outcome };
  });
}

type Outcome = SlowCase['outcome'];

const content = noise(40_000_000);

const hashBody: Handler = async ({ body }) => {
  const sink = new HashSink();
  await body.pipe(sink);
  return { status: 201, body: sink.digest() };
};

const answerAtLast: Handler = async ({ method, body }) => {
  if (method === 'PUT') await body.bytes(100);
  await delay(40_000);
  return { status: 200, body: 'at last' };
};

const pauseAndAnswerAtLast: Handler = async ({ body }) => {
  const sink = new HashSink(9_900_000, () => delay(3_000));
  await body.pipe(sink);
  await delay(40_000);
  return { status: 201, body: sink.digest() };
};

const readLate: Handler = async (request) => {
  await delay(15_000);
  return hashBody(request);
};

async function slowUpload(t: Test, stage: Stage): Outcome {
  const bytes = content.subarray(0, 33 * 1024);
  const wire = await (await start(t, stage, hashBody)).open();
  await wire.request('PUT /', [`Content-Length: ${bytes.length}`]);
  for (let at = 0; at < bytes.length; at += 1024) {
    await wire.send(bytes.subarray(at, at + 1024));
    await delay(1_000);
  }
  return { found: String((await wire.response())?.body), wanted: sha256(bytes) };
}

async function stalledUpload(t: Test, stage: Stage): Outcome {
  const bytes = content.subarray(0, 10_000_000);
  const wire = await (await start(t, stage, hashBody)).open();
  await wire.request('PUT /', [`Content-Length: ${bytes.length}`], bytes.subarray(0, 5_000_000));
  await delay(15_000);
  await wire.send(bytes.subarray(5_000_000));
  return { found: String((await wire.response())?.body), wanted: sha256(bytes) };
}

async function slowReply(t: Test, stage: Stage): Outcome {
  const { open } = await start(t, stage, answerAtLast, { idleTimeoutMs: 5_000 });
  const [getting, putting] = [await open(), await open()];
  await getting.request('GET /');
  await putting.request('PUT /', ['Content-Length: 3'], 'abc');
  return { found: [String((await getting.response())?.body), String((await putting.response())?.body)], wanted: ['at last', 'at last'] };
}

async function slowReplyAfterPause(t: Test, stage: Stage): Outcome {
  const bytes = content.subarray(0, 10_000_000);
  const wire = await (await start(t, stage, pauseAndAnswerAtLast)).open();
  await wire.request('PUT /', [`Content-Length: ${bytes.length}`], bytes);
  return { found: String((await wire.response())?.body), wanted: sha256(bytes) };
}

async function stalledDownload(t: Test, stage: Stage): Outcome {
  const source = new ReusedBufferSource(content, 1024 * 1024);
  const handler: Handler = () => ({ status: 200, body: { length: content.length, open: () => Promise.resolve(source) } });
  const wire = await (await start(t, stage, handler)).open();
  await wire.request('GET /');
  for (let round = 0; round < 2; round++) {
    wire.socket.pause();
    await delay(15_000);
    wire.socket.resume();
    await delay(20);
  }
  const response = await wire.response();
  return { found: [sha256(response?.body ?? Buffer.alloc(0)), source.closes], wanted: [sha256(content), 1] };
}

async function stalledBytes(t: Test, stage: Stage): Outcome {
  const wire = await (await start(t, stage, () => ({ status: 200, body: content }))).open();
  await wire.request('GET /');
  wire.socket.pause();
  await delay(15_000);
  wire.socket.resume();
  return { found: sha256((await wire.response())?.body ?? Buffer.alloc(0)), wanted: sha256(content) };
}

async function stalledSource(t: Test, stage: Stage): Outcome {
  let stalls = 1;
  const source = new ReusedBufferSource(content, 1024 * 1024, async (at) => {
    if (at > 20_000_000 && stalls-- > 0) await delay(15_000);
  });
  const handler: Handler = () => ({ status: 200, body: { length: content.length, open: () => Promise.resolve(source) } });
  const wire = await (await start(t, stage, handler)).open();
  await wire.request('GET /');
  wire.socket.pause();
  await delay(6_000);
  wire.socket.resume();
  return { found: sha256((await wire.response())?.body ?? Buffer.alloc(0)), wanted: sha256(content) };
}

async function stalledSink(t: Test, stage: Stage): Outcome {
  let stalls = 1;
  const sink = new HashSink(1_000_000, async () => {
    if (stalls-- > 0) await delay(20_000);
  });
  const handler: Handler = async ({ body }) => {
    await body.pipe(sink);
    return { status: 201, body: sink.digest() };
  };
  const wire = await (await start(t, stage, handler, { idleTimeoutMs: 5_000 })).open();
  await wire.request('PUT /', [`Content-Length: ${content.length}`], content);
  return { found: String((await wire.response())?.body), wanted: sha256(content) };
}

async function lateRead(t: Test, stage: Stage): Outcome {
  const { open } = await start(t, stage, readLate);
  const [small, large] = [await open(), await open()];
  await small.request('PUT /', ['Content-Length: 5'], 'hello');
  await large.request('PUT /', [`Content-Length: ${content.length}`], content);
  const found = [String((await small.response())?.body), String((await large.response())?.body)];
  return { found, wanted: [sha256(Buffer.from('hello')), sha256(content)] };
}
