// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * A real S3 server on a free loopback port, over a temporary directory, one per test process: MinIO, or versitygw. With TEST_S3_ENDPOINT (and
 * TEST_S3_ACCESS_KEY_ID, TEST_S3_SECRET_ACCESS_KEY) that server is used instead of the first.
 */
import { randomBytes } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { CreateBucketCommand, ListBucketsCommand, S3Client } from '@aws-sdk/client-s3';
import { spawnTracked } from './command.js';
import { freePort, quickDirectory } from './registry.js';
import { findTool } from './tools.js';

export interface S3Server {
  readonly endpoint: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  /** The SDK as it comes, for looking behind the store. */
  readonly client: S3Client;
  /** A new, empty bucket. */
  bucket(): Promise<string>;
  stop(): void;
}

export type S3ServerKind = 'minio' | 'versitygw';
export type MaybeServer = S3Server | { readonly missing: string };

const running = new Map<S3ServerKind, Promise<MaybeServer>>();

/** The server, or why there is none. */
export function s3Server(kind: S3ServerKind = 'minio'): Promise<MaybeServer> {
  const known = running.get(kind);
  if (known !== undefined) return known;
  const started = startS3Server(kind);
  running.set(kind, started);
  return started;
}

/** For the end of a test file. */
export async function stopS3Servers(): Promise<void> {
  for (const server of running.values()) {
    const started = await server.catch(() => undefined);
    if (started !== undefined && !('missing' in started)) started.stop();
  }
}

/** What `storage.s3` needs to find a new bucket of it. */
export async function s3Settings(server: S3Server, more: object = {}): Promise<{ readonly bucket: string }> {
  const { endpoint, accessKeyId, secretAccessKey } = server;
  const credentials = { access_key_id: accessKeyId, secret_access_key: secretAccessKey };
  return { bucket: await server.bucket(), endpoint, credentials, ...more } as { readonly bucket: string };
}

async function startS3Server(kind: S3ServerKind): Promise<MaybeServer> {
  const external = process.env['TEST_S3_ENDPOINT'];
  if (kind === 'minio' && external !== undefined && external !== '') {
    return connect(external, process.env['TEST_S3_ACCESS_KEY_ID'] ?? '', process.env['TEST_S3_SECRET_ACCESS_KEY'] ?? '', () => undefined);
  }
  const program = await findTool(kind);
  if ('missing' in program) return { missing: `${program.missing}; TEST_S3_ENDPOINT can name another S3 server` };
  const root = await quickDirectory('s3-');
  const port = await freePort();
  const user = 'tester';
  const password = randomBytes(16).toString('hex');
  const data = path.join(root, 'data');
  await mkdir(data);
  const args =
    kind === 'minio'
      ? ['server', data, '--address', `127.0.0.1:${port}`, '--quiet', '--config-dir', path.join(root, 'configuration')]
      : ['--port', `127.0.0.1:${port}`, '--quiet', 'posix', data];
  const env = {
    ...process.env,
    MINIO_ROOT_USER: user,
    MINIO_ROOT_PASSWORD: password,
    MINIO_BROWSER: 'off',
    MINIO_UPDATE: 'off',
    ROOT_ACCESS_KEY: user,
    ROOT_SECRET_KEY: password,
  };
  const child = spawnTracked(program.path, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const output: Buffer[] = [];
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (piece: Buffer) => output.push(piece));
  const server = connect(`http://127.0.0.1:${port}`, user, password, () => child.kill('SIGKILL'));
  for (const deadline = Date.now() + 60_000; ; await sleep(50)) {
    try {
      await server.client.send(new ListBucketsCommand());
      return server;
    } catch (error) {
      if (Date.now() < deadline && child.exitCode === null) continue;
      throw new Error(`${kind} did not start\n${Buffer.concat(output).toString()}`, { cause: error });
    }
  }
}

function connect(endpoint: string, accessKeyId: string, secretAccessKey: string, stop: () => void): S3Server {
  const client = new S3Client({
    endpoint,
    region: 'us-east-1',
    forcePathStyle: true,
    credentials: { accessKeyId, secretAccessKey },
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
  });
  return {
    endpoint,
    accessKeyId,
    secretAccessKey,
    client,
    async bucket() {
      const Bucket = `test-${process.pid}-${randomBytes(4).toString('hex')}`;
      await client.send(new CreateBucketCommand({ Bucket }));
      return Bucket;
    },
    stop() {
      client.destroy();
      stop();
    },
  };
}
