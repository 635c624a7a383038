// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * A real S3 server on a free loopback port, over a temporary directory, one per test process: MinIO, or versitygw. With TEST_S3_ENDPOINT (and
 * TEST_S3_ACCESS_KEY_ID, TEST_S3_SECRET_ACCESS_KEY) that server is used instead of the first.
 */
import { randomBytes } from 'node:crypto';
import { copyFile, mkdir, readFile } from 'node:fs/promises';
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

/** What a server of a test's own may have that the shared one has not. */
export interface S3ServerExtras {
  /** PEM files: it speaks HTTPS. */
  readonly tls?: { readonly caFile: string; readonly certificateFile: string; readonly keyFile: string };
  readonly place?: typeof quickDirectory;
  readonly environment?: Readonly<Record<string, string>>;
}
export type MaybeServer = S3Server | { readonly missing: string };

const running = new Map<S3ServerKind, Promise<MaybeServer>>();

/** The server, or why there is none. `place` makes the directory of one that was not asked for yet. */
export function s3Server(kind: S3ServerKind = 'minio', place = quickDirectory): Promise<MaybeServer> {
  const known = running.get(kind);
  if (known !== undefined) return known;
  const started = startS3Server(kind, place);
  running.set(kind, started);
  return started;
}

/** A MinIO of the test's own. */
export async function ownS3Server(extras: S3ServerExtras): Promise<MaybeServer> {
  const program = await findTool('minio');
  return 'missing' in program ? program : launch('minio', program.path, extras);
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

async function startS3Server(kind: S3ServerKind, place: typeof quickDirectory): Promise<MaybeServer> {
  const external = process.env['TEST_S3_ENDPOINT'];
  if (kind === 'minio' && external !== undefined && external !== '') {
    return connect(external, process.env['TEST_S3_ACCESS_KEY_ID'] ?? '', process.env['TEST_S3_SECRET_ACCESS_KEY'] ?? '', () => undefined);
  }
  const program = await findTool(kind);
  if ('missing' in program) return { missing: `${program.missing}; TEST_S3_ENDPOINT can name another S3 server` };
  return launch(kind, program.path, { place });
}

async function launch(
  kind: S3ServerKind,
  program: string,
  { tls, environment = {}, place = quickDirectory }: S3ServerExtras,
): Promise<S3Server> {
  const root = await place('s3-');
  const port = await freePort();
  const user = 'tester';
  const password = randomBytes(16).toString('hex');
  const data = path.join(root, 'data');
  const certificates = path.join(root, 'certificates');
  for (const directory of [data, certificates]) await mkdir(directory);
  if (tls !== undefined) {
    await copyFile(tls.certificateFile, path.join(certificates, 'public.crt'));
    await copyFile(tls.keyFile, path.join(certificates, 'private.key'));
  }
  const directories = ['--config-dir', path.join(root, 'configuration'), '--certs-dir', certificates];
  const args =
    kind === 'minio'
      ? ['server', data, '--address', `127.0.0.1:${port}`, '--quiet', ...directories]
      : ['--port', `127.0.0.1:${port}`, '--quiet', 'posix', data];
  const env = {
    ...process.env,
    MINIO_ROOT_USER: user,
    MINIO_ROOT_PASSWORD: password,
    MINIO_BROWSER: 'off',
    MINIO_UPDATE: 'off',
    ROOT_ACCESS_KEY: user,
    ROOT_SECRET_KEY: password,
    ...environment,
  };
  const child = spawnTracked(program, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const output: Buffer[] = [];
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (piece: Buffer) => output.push(piece));
  const ca = tls === undefined ? undefined : await readFile(tls.caFile, 'utf8');
  const server = connect(`http${ca === undefined ? '' : 's'}://127.0.0.1:${port}`, user, password, () => child.kill('SIGKILL'), ca);
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

function connect(endpoint: string, accessKeyId: string, secretAccessKey: string, stop: () => void, ca?: string): S3Server {
  const client = new S3Client({
    endpoint,
    region: 'us-east-1',
    forcePathStyle: true,
    credentials: { accessKeyId, secretAccessKey },
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    ...(ca === undefined ? {} : { requestHandler: { httpsAgent: { ca } } }),
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
