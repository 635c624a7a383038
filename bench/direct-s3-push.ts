// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * The yardstick of a push to S3: the SDK alone, in one thread, hashes bytes and uploads them in the parts, with the signing and the parallelism that a node has.
 * Its argument is JSON: settings of the store, key and bytes. Prints `{"seconds":…,"cpu":…}` of that alone.
 */
import { randomFillSync } from 'node:crypto';
import { CompleteMultipartUploadCommand, CreateMultipartUploadCommand, UploadPartCommand, type CompletedPart } from '@aws-sdk/client-s3';
import { openPartsClient, openRequestsClient, usualLimits, type S3Settings } from '../src/storage/s3-client.js';
import { mostPartsInFlight } from '../src/upload/upload-writer.js';
import { loadHasher } from '../src/worker/hash.js';

export interface DirectPush {
  readonly settings: S3Settings;
  readonly key: string;
  readonly bytes: number;
}

const { settings, key: Key, bytes } = JSON.parse(process.argv[2] ?? '') as DirectPush;
const Bucket = settings.bucket;
const block = randomFillSync(new Uint8Array(64 << 20));
const { initial, update, digest } = await loadHasher();
const limits = { ...usualLimits, retryForMs: 0, retryPartsForMs: 0 };
const client = openRequestsClient(settings, limits);
const parts = openPartsClient(settings, limits, { httpAgent: { keepAlive: true, maxSockets: mostPartsInFlight } });

const start = performance.now();
const startCpu = process.cpuUsage();
const state = initial('sha256');
const { UploadId } = await client.send(new CreateMultipartUploadCommand({ Bucket, Key }));
const done: CompletedPart[] = [];
let number = 0;
await Promise.all(
  Array.from({ length: mostPartsInFlight }, async () => {
    for (let at = number * settings.partSizeBytes; at < bytes; at = number * settings.partSizeBytes) {
      const PartNumber = ++number;
      const from = at % block.length;
      const Body = block.subarray(from, from + Math.min(settings.partSizeBytes, bytes - at));
      update('sha256', state, Body);
      const { ETag } = await parts.send(new UploadPartCommand({ Bucket, Key, UploadId, PartNumber, Body, ContentLength: Body.length }));
      done[PartNumber - 1] = { PartNumber, ETag };
    }
  }),
);
digest('sha256', state);
await client.send(new CompleteMultipartUploadCommand({ Bucket, Key, UploadId, MultipartUpload: { Parts: done } }));
const cpu = process.cpuUsage(startCpu);
console.log(JSON.stringify({ seconds: (performance.now() - start) / 1000, cpu: (cpu.user + cpu.system) / 1e6 }));
process.exit();
