// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { ListMultipartUploadsCommand } from '@aws-sdk/client-s3';
import t, { type Test } from 'tap';
import { openS3Store } from '../../src/storage/s3-store.js';
import type { S3Settings } from '../../src/storage/s3-client.js';
import { HashClock } from '../../src/worker/hash-clock.js';
import { openWorkerPool } from '../../src/worker/worker-pool.js';
import { s3Server, stopS3Servers, type S3Server, type S3ServerKind } from '../support/s3-server.js';
import { contract } from './store-contract.js';

const MiB = 1024 * 1024;
const workers = openWorkerPool({ threads: 2, hash: 'auto', clock: new HashClock(), sending: { mostSockets: 8, idleMs: 3_000 } });
t.teardown(() => workers.close());

async function settingsFor(server: S3Server, more: Partial<S3Settings> = {}): Promise<S3Settings> {
  return {
    bucket: await server.bucket(),
    region: undefined,
    endpoint: server.endpoint,
    publicEndpoint: undefined,
    prefix: 'some/where/',
    forcePathStyle: true,
    credentials: { accessKeyId: server.accessKeyId, secretAccessKey: server.secretAccessKey, sessionToken: undefined },
    ca: undefined,
    sse: undefined,
    redirect: false,
    partSizeBytes: 8 * MiB,
    equalParts: false,
    deleteObjectsChecksum: 'crc32',
    ...more,
  };
}

function withServer(kind: S3ServerKind, title: string, test: (t: Test, server: S3Server) => Promise<void>): void {
  void t.test(title, async (t) => {
    const server = await s3Server(kind);
    if ('missing' in server) {
      const reason = `S3 IS NOT TESTED ON ${kind}: ${server.missing}`;
      console.error(reason);
      t.plan(0, reason);
      return;
    }
    await test(t, server);
  });
}

for (const kind of ['minio', 'versitygw'] as const) {
  withServer(kind, `the contract on ${kind}`, async (t, server) => {
    const settings = await settingsFor(server);
    await contract(t, () => openS3Store(settings, workers));
    const uploads = await server.client.send(
      new ListMultipartUploadsCommand({ Bucket: settings.bucket, Prefix: settings.prefix + 'data/04/' }),
    );
    t.strictSame(uploads.Uploads ?? [], [], 'an aborted upload leaves nothing');
  });
}

withServer('minio', 'parts that must be equal', async (t, server) => {
  const settings = await settingsFor(server, { prefix: '', equalParts: true, partSizeBytes: 5 * MiB, deleteObjectsChecksum: 'md5' });
  await contract(t, () => openS3Store(settings, workers));
});

t.teardown(stopS3Servers);
