// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { randomBytes } from 'node:crypto';
import { type Content, contentFrom, contentsOf, mebibyte } from './content.js';
import type { Outcome } from './measure.js';
import { type BlobWay, makeImage, mountBlob, pullBlob, pushBlob, pushImage } from './push.js';
import { percentile } from './statistics.js';
import { fill, timeOperations, type Timings } from './timing.js';
import type { Connection } from './wire.js';
import type { Work } from './works.js';

const lanes = 16;
const smallLayers = [4096, 32768];
const pullBufferBytes = mebibyte;

export function blobPushWork(name: string, way: BlobWay, bytes: number, count: number, next: () => Content): Work {
  return {
    name,
    unit: 'byte',
    heavy: true,
    async prepare(target) {
      const pushed = Array.from({ length: count }, next);
      const warmUp = contentsOf(16 * mebibyte);
      await fill(target, { count: 4, width: 2 }, (connection) => pushBlob(connection, 'bench/warm', warmUp(), way));
      const push = (connection: Connection, index: number) => pushBlob(connection, 'bench/big', pushed[index] ?? next(), way);
      return async () => outcomeOf(await timeOperations(target.address, { count, width: count }, push), bytes);
    },
  };
}

export function bigPullWork(bytes: number, next: () => Content): Work {
  return {
    name: 'big-pull',
    unit: 'byte',
    heavy: true,
    async prepare(target) {
      const content = next();
      await fill(target, { count: 1, width: 1 }, (connection) => pushBlob(connection, 'bench/pull', content));
      const pull = (connection: Connection) => pullBlob(connection, 'bench/pull', content);
      const options = { count: 1, width: 1, readBufferBytes: pullBufferBytes };
      await timeOperations(target.address, options, pull);
      return async () => outcomeOf(await timeOperations(target.address, options, pull), bytes);
    },
  };
}

/** Images of a config and two layers, each by a tag of its own, spread over a hundred repositories. */
export function imagePushWork(count: number): Work {
  return {
    name: 'small-pushes',
    unit: 'request',
    heavy: true,
    async prepare(target) {
      await fill(target, { count: Math.min(count, 100), width: lanes }, (connection, index) => pushSmall(connection, index));
      const images = Array.from({ length: count }, () => makeImage(smallLayers));
      const push = (connection: Connection, index: number) => pushSmall(connection, index, images[index]);
      return async () => outcomeOf(await timeOperations(target.address, { count, width: lanes }, push));
    },
  };
}

async function pushSmall(connection: Connection, index: number, image = makeImage(smallLayers)): Promise<void> {
  await pushImage(connection, `bench/small-${index % 100}`, `v${index}`, image);
}

/** Twenty blobs of one repository, mounted into others. */
export function mountWork(count: number): Work {
  return {
    name: 'mounts',
    unit: 'request',
    heavy: true,
    async prepare(target) {
      const blobs = Array.from({ length: 20 }, () => randomBytes(2048)).map(contentFrom);
      const from = `bench/base-${randomBytes(4).toString('hex')}`;
      const blobAt = (index: number) => blobs[index % blobs.length] ?? contentFrom(Buffer.of());
      await fill(target, { count: blobs.length, width: 4 }, (connection, index) => pushBlob(connection, from, blobAt(index)));
      const mount = (connection: Connection, index: number) =>
        mountBlob(connection, from, `${from}/to-${Math.floor(index / blobs.length)}`, blobAt(index).digest);
      return async () => outcomeOf(await timeOperations(target.address, { count, width: lanes }, mount));
    },
  };
}

function outcomeOf({ seconds, latenciesMs, errors }: Timings, bytesEach = 1): Outcome {
  const p50 = percentile(latenciesMs, 0.5);
  return { client: 'net', amount: latenciesMs.length * bytesEach, seconds, p50, p99: percentile(latenciesMs, 0.99), errors };
}
