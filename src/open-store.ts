// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The blob store that the configuration asks for, and the workers that it needs: the same for a node and for a command. */
import { readFileSync } from 'node:fs';
import { mkdir, stat } from 'node:fs/promises';
import { rootCertificates } from 'node:tls';
import type { Config } from './config/config.js';
import type { BlobStore } from './storage/blob-store.js';
import { openFilesystemStore } from './storage/filesystem-store.js';
import { loadAddon } from './worker/addon.js';
import type { HashClock } from './worker/hash-clock.js';
import { openWorkerPool, type WorkerPool, type WorkerPoolOptions } from './worker/worker-pool.js';

/** Connections of one worker to an S3 server; what more of them would send waits in the buffers' budget anyway. */
const partsPerWorker = 16;
/** Without a byte moved for this long a part is sent again. */
const partIdleMs = 20_000;
const partConnectMs = 5_000;

export function openWorkers(config: Config, clock: HashClock, onHashed?: WorkerPoolOptions['onHashed']): WorkerPool {
  const { storage, workers } = config;
  const sending =
    storage.kind === 's3'
      ? { ca: trustedByS3(config), mostSockets: partsPerWorker, connectMs: partConnectMs, idleMs: partIdleMs }
      : undefined;
  return openWorkerPool({ threads: workers.threads, hash: workers.hash, clock, onHashed, sending });
}

/** `besideEmbedded` when an embedded Postgres writes to the same machine. */
export function openStore(config: Config, workers: WorkerPool, besideEmbedded: boolean): Promise<BlobStore> {
  return config.storage.kind === 's3' ? openS3(config, workers) : openFiles(config, workers, besideEmbedded);
}

/** An embedded Postgres that finds its disk full ends; it is left some room of what blobs would fill. */
async function openFiles(config: Config, workers: WorkerPool, besideEmbedded: boolean): Promise<BlobStore> {
  const { root_dir: directory, keep_free: keepFree } = config.storage.fs;
  await mkdir(directory, { recursive: true });
  const shared =
    besideEmbedded && (await stat(directory)).dev === (await stat(config.database.embedded.data_dir).catch(() => undefined))?.dev;
  return openFilesystemStore(directory, { workers, durablePut: loadAddon()?.durablePut, keepFreeBytes: shared ? keepFree : 0 });
}

/** The SDK is loaded only where it is used: 22 MB and 0.1 s. */
async function openS3(config: Config, workers: WorkerPool): Promise<BlobStore> {
  const { s3 } = config.storage;
  if (s3 === undefined) throw new Error('storage.s3 is not configured');
  const { openS3Store } = await import('./storage/s3-store.js');
  const { credentials, sse } = s3;
  const settings = {
    bucket: s3.bucket,
    region: s3.region,
    endpoint: s3.endpoint,
    publicEndpoint: s3.public_endpoint,
    prefix: s3.prefix,
    // Servers of one's own rarely have a name per bucket.
    forcePathStyle: s3.force_path_style ?? s3.endpoint !== undefined,
    credentials: credentials && {
      accessKeyId: credentials.access_key_id,
      secretAccessKey: credentials.secret_access_key ?? '',
      sessionToken: credentials.session_token,
    },
    ca: trustedByS3(config),
    sse: sse && { algorithm: sse.algorithm, kmsKeyId: sse.kms_key_id },
    redirect: s3.redirect,
    partSizeBytes: s3.part_size,
    equalParts: s3.equal_parts,
    deleteObjectsChecksum: s3.delete_objects_checksum,
  };
  return openS3Store(settings, workers);
}

/** Node's certificates and those of `storage.s3.ca_file`; undefined for Node's alone. */
function trustedByS3({ storage: { s3 } }: Config): readonly string[] | undefined {
  return s3?.ca_file === undefined ? undefined : [...rootCertificates, readFileSync(s3.ca_file, 'utf8')];
}
