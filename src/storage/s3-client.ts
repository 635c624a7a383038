// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { createHash } from 'node:crypto';
import { S3Client, type S3ClientConfig, type ServerSideEncryption } from '@aws-sdk/client-s3';
import { takingTurns } from './s3-turns.js';
import { retrying } from './s3-retry.js';

export interface S3Settings {
  readonly bucket: string;
  readonly region: string | undefined;
  readonly endpoint: string | undefined;
  /** Where clients reach the same server, for redirects. */
  readonly publicEndpoint: string | undefined;
  /** Empty, or with a slash at the end. */
  readonly prefix: string;
  readonly forcePathStyle: boolean;
  /** Without them, the SDK looks where AWS's tools do. */
  readonly credentials:
    { readonly accessKeyId: string; readonly secretAccessKey: string; readonly sessionToken: string | undefined } | undefined;
  /** Certificates to trust, as PEM; Node's when undefined. */
  readonly ca: readonly string[] | undefined;
  readonly sse: { readonly algorithm: ServerSideEncryption; readonly kmsKeyId: string | undefined } | undefined;
  readonly redirect: boolean;
  readonly partSizeBytes: number;
  readonly equalParts: boolean;
  readonly deleteObjectsChecksum: 'crc32' | 'md5';
}

/** How a request reaches the network. */
type Transport = S3ClientConfig['requestHandler'] & object;

export interface S3Limits {
  /** Within this time, and half of it for a turn, a request begins its last attempt. Entries count on it: their objects are begun within a minute of the intent. */
  readonly retryForMs: number;
  /** The same for parts, whose every attempt may take as long as a server is silent. */
  readonly retryPartsForMs: number;
  readonly connectMs: number;
  /** To the head of an answer. Clients give up after some 30 s; a healthy server needs a fraction of this. */
  readonly answerMs: number;
  /** Between two reads or writes. */
  readonly idleMs: number;
  /** Requests that are under way at once; the others wait their turn. Streams of blobs and parts do not count. */
  readonly mostRequests: number;
}

export const usualLimits: S3Limits = {
  retryForMs: 20_000,
  retryPartsForMs: 120_000,
  connectMs: 5_000,
  answerMs: 15_000,
  idleMs: 20_000,
  mostRequests: 256,
};

/** A slower server is taken for one that is gone. */
const slowestBytesPerMs = 64;
/** 10,000 parts take a server its time, in which it may say nothing; AWS says "several minutes". */
const completeWithinMs = 5 * 60_000;

/** How long a request whose body has so many bytes may take to the head of its answer. */
export function answerWithinMs(limits: S3Limits, bytes: number): number {
  return limits.answerMs + Math.ceil(bytes / slowestBytesPerMs);
}

/** For all that is neither a stream of a blob, nor a part, nor the completing of parts. */
export function openRequestsClient(settings: S3Settings, limits: S3Limits): S3Client {
  const client = openClient(settings, limits, limits);
  takingTurns(client, limits.mostRequests, limits.retryForMs / 2);
  if (settings.deleteObjectsChecksum === 'md5') useContentMd5(client);
  return client;
}

/** For streams of blobs, each of which holds a connection for as long as its client takes: as many as there are clients (`server.max_connections`). */
export function openStreamsClient(settings: S3Settings, limits: S3Limits): S3Client {
  return openClient(settings, limits, limits);
}

export function openCompletionsClient(settings: S3Settings, limits: S3Limits): S3Client {
  return openClient(settings, limits, { answerMs: completeWithinMs, idleMs: 0 });
}

function openClient(
  settings: S3Settings,
  { retryForMs, connectMs }: S3Limits,
  { answerMs, idleMs }: { readonly answerMs: number; readonly idleMs: number },
): S3Client {
  const agent = { maxSockets: Infinity, keepAlive: true };
  return new S3Client({
    ...clientConfig(settings, settings.endpoint, retryForMs),
    requestHandler: {
      connectionTimeout: connectMs,
      requestTimeout: answerMs,
      throwOnRequestTimeout: true,
      socketTimeout: idleMs,
      // A warning on standard error, that nobody could act on.
      socketAcquisitionWarningTimeout: 24 * 3_600_000,
      httpAgent: agent,
      httpsAgent: settings.ca === undefined ? agent : { ...agent, ca: [...settings.ca] },
    },
  });
}

/** For parts, whose bytes are with `transport`. They are not hashed a second time to be signed: 23 instead of 12 ms of CPU per 8 MiB over plain http. */
export function openPartsClient(settings: S3Settings, { retryPartsForMs }: S3Limits, transport: Transport): S3Client {
  const client = new S3Client({ ...clientConfig(settings, settings.endpoint, retryPartsForMs), requestHandler: transport });
  client.middlewareStack.add(
    (next) => (args) => {
      (args.request as { headers: Record<string, string> }).headers['x-amz-content-sha256'] = 'UNSIGNED-PAYLOAD';
      return next(args);
    },
    { step: 'build', name: 'unsignedPayload' },
  );
  return client;
}

/** For addresses that clients are sent to. */
export function openPresigner(settings: S3Settings): S3Client {
  return new S3Client(clientConfig(settings, settings.publicEndpoint ?? settings.endpoint, 0));
}

function clientConfig(
  { region, forcePathStyle, credentials }: S3Settings,
  endpoint: string | undefined,
  retryForMs: number,
): S3ClientConfig {
  return {
    // Servers other than AWS mostly ignore it, but it has to be something.
    ...(region !== undefined ? { region } : endpoint !== undefined ? { region: 'us-east-1' } : {}),
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(credentials === undefined
      ? {}
      : {
          credentials: {
            accessKeyId: credentials.accessKeyId,
            secretAccessKey: credentials.secretAccessKey,
            ...(credentials.sessionToken === undefined ? {} : { sessionToken: credentials.sessionToken }),
          },
        }),
    forcePathStyle,
    retryStrategy: retrying(retryForMs),
    // The defaults add checksums as trailers, which several servers refuse or store as data.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    expectContinueHeader: false,
  };
}

/** DeleteObjects has to carry a checksum of its body: older servers know only this one. */
function useContentMd5(client: S3Client): void {
  client.middlewareStack.add(
    (next, { commandName }) =>
      (args) => {
        if (commandName === 'DeleteObjectsCommand') {
          const { headers, body } = args.request as { headers: Record<string, string>; body: string | Uint8Array };
          for (const name of Object.keys(headers)) if (/^x-amz-(checksum-|sdk-checksum-)/i.test(name)) delete headers[name];
          headers['content-md5'] = createHash('md5').update(body).digest('base64');
        }
        return next(args);
      },
    { step: 'build', priority: 'low', name: 'contentMd5' },
  );
}
