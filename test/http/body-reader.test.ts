// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** When a body is waited for, and what of it is kept meanwhile: by a clock of the test's own. */
import t from 'tap';
import { BodyReader, type Flow } from '../../src/http/engine/body-reader.js';
import type { BodySink } from '../../src/http/contract.js';

const MiB = 1024 * 1024;
const limits = { idleTimeoutMs: 10_000, minimumRateBytesPerSecond: 256 };

void t.test('all requests that are paused together keep no more than a share', async (t) => {
  const chunk = new Uint8Array(MiB);
  const full: BodySink = { write: () => 0, ready: () => new Promise(() => undefined) };
  const paused = Array.from({ length: 300 }, () => pausedReader(full, chunk));
  const queued = (): number => paused.reduce((sum, { reader }) => sum + reader.queuedBytes, 0);
  t.equal(queued(), 300 * MiB, 'what made them pause');
  /** Whoever reads on for a moment gets another chunk. */
  const pass = (nowMs: number): void => {
    for (const { reader, flow } of paused) {
      reader.tick(nowMs, limits);
      if (!flow.paused) reader.push(chunk, false);
    }
  };
  for (let second = 1; second <= 30; second++) pass(second * 1_000);
  t.equal(queued(), (300 + 64) * MiB, 'and 64 MiB more');
  for (const { reader } of paused.splice(0)) reader.fail(new Error('gone'));
  const next = pausedReader(full, chunk);
  paused.push(next);
  for (let second = 1; second <= 30; second++) pass(second * 1_000);
  t.equal(next.reader.queuedBytes, 4 * MiB, 'when they have gone there is room for the next, as far as one may');
  next.reader.fail(new Error('gone'));
});

void t.test('a sink may ask for more than the engine does', async (t) => {
  let least = 0;
  const { reader } = openReader({ write: (chunk) => chunk.length, ready: () => Promise.resolve(), leastRate: () => least });
  const tenSeconds = (from: number): string[] =>
    Array.from({ length: 10 }, (_, second) => {
      reader.push(new Uint8Array(1024), false);
      return reader.tick(from + second * 1_000, limits);
    });
  reader.tick(1_000, limits);
  t.strictSame([...new Set(tenSeconds(2_000))], ['fine'], '1 KiB/s is enough where it asks for nothing');
  least = 1_000;
  t.strictSame([...new Set(tenSeconds(12_000))], ['fine'], 'and where it asks for no more than that');
  least = 2_000;
  t.strictSame(tenSeconds(22_000).at(-1), 'stalled', 'but not where it asks for 2,000 bytes per second');
});

void t.test('a process that was frozen blames nobody for it', async (t) => {
  const { reader } = openReader({ write: (chunk) => chunk.length, ready: () => Promise.resolve() });
  reader.tick(1_000, limits);
  t.equal(reader.tick(2_000, limits), 'fine');
  t.equal(reader.tick(600_000, limits), 'fine', 'what came meanwhile is read only now');
  reader.push(new Uint8Array(64 * 1024), false);
  t.equal(reader.tick(601_000, limits), 'fine');
  const quiet = Array.from({ length: 10 }, (_, second) => reader.tick(602_000 + second * 1_000, limits));
  t.strictSame(quiet, [...Array.from({ length: 9 }, () => 'fine'), 'stalled'], 'and who then says nothing for ten seconds is slow');
});

function openReader(sink: BodySink): { readonly reader: BodyReader; readonly flow: Flow } {
  const flow = {
    paused: false,
    pause: () => void (flow.paused = true),
    resume: () => void (flow.paused = false),
  };
  const reader = new BodyReader(undefined, flow, false);
  reader.pipe(sink).catch(() => undefined);
  return { reader, flow };
}

function pausedReader(sink: BodySink, chunk: Uint8Array): ReturnType<typeof openReader> {
  const opened = openReader(sink);
  opened.reader.push(chunk, false);
  return opened;
}
