// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Readable } from 'node:stream';
import {
  AbortMultipartUploadCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  DeleteObjectsCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  type GetObjectCommandOutput,
  type ListObjectsV2CommandOutput,
  type S3Client,
} from '@aws-sdk/client-s3';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import {
  UndeletedObjects,
  type BlobStore,
  type ByteSource,
  type DataWriter,
  type HashBuffer,
  type Page,
  type PartRule,
} from './blob-store.js';
import { partTransport, type SendPart } from './part-transport.js';
import {
  answerWithinMs,
  openCompletionsClient,
  openPartsClient,
  openPresigner,
  openRequestsClient,
  openStreamsClient,
  usualLimits,
  type S3Limits,
  type S3Settings,
} from './s3-client.js';
import { asStoreFailure, isAbsent, nameOf, startFailure } from './s3-failures.js';
import { partRule } from './s3-parts.js';
import { openS3Source } from './s3-source.js';
import { S3Writer } from './s3-writer.js';
import { checkStore } from './store-check.js';

export interface S3Workers {
  readonly hashBuffer: HashBuffer;
  readonly sendPart: SendPart;
}

const retryAtStartForMs = 2_000;
/** Data outlive every address that was given out: they are deleted hours after the last link. */
const presignedForSeconds = 15 * 60;
/** What one DeleteObjects takes, and one page of a listing has. */
const mostKeys = 1000;
/** Of a small object whose bytes break off. */
const mostReadings = 3;
/** What is hashed again is in memory once at a time. */
const hashStretchBytes = 4 * 1024 * 1024;

/** A bucket, or what begins with a prefix in one. Throws an Error of one line that names the setting when it cannot be used. */
export async function openS3Store(settings: S3Settings, workers: S3Workers, limits = usualLimits): Promise<BlobStore> {
  const trial = new S3Store(settings, workers, { ...limits, retryForMs: retryAtStartForMs, retryPartsForMs: retryAtStartForMs });
  try {
    await checkStore(trial);
  } catch (error) {
    throw startFailure(error, settings);
  } finally {
    trial.close();
  }
  return new S3Store(settings, workers, limits);
}

class S3Store implements BlobStore {
  readonly kind = 's3';
  readonly location: string;
  readonly parts: PartRule;
  private readonly settings: S3Settings;
  private readonly workers: S3Workers;
  private readonly limits: S3Limits;
  private readonly client: S3Client;
  private readonly streamsClient: S3Client;
  private readonly partsClient: S3Client;
  private readonly completionsClient: S3Client;
  private readonly presigner: S3Client | undefined;
  /** How new objects are encrypted. */
  private readonly encryption: object;

  constructor(settings: S3Settings, workers: S3Workers, limits: S3Limits) {
    const { bucket, prefix, endpoint, sse } = settings;
    this.location = `${endpoint === undefined ? '' : `${endpoint} `}${bucket}/${prefix}`;
    this.parts = partRule(settings);
    this.settings = settings;
    this.workers = workers;
    this.limits = limits;
    this.client = openRequestsClient(settings, limits);
    this.streamsClient = openStreamsClient(settings, limits);
    this.partsClient = openPartsClient(settings, limits, partTransport(workers.sendPart));
    this.completionsClient = openCompletionsClient(settings, limits);
    this.presigner = settings.redirect ? openPresigner(settings) : undefined;
    this.encryption =
      sse === undefined
        ? {}
        : { ServerSideEncryption: sse.algorithm, ...(sse.kmsKeyId === undefined ? {} : { SSEKMSKeyId: sse.kmsKeyId }) };
  }

  async put(key: string, bytes: Uint8Array): Promise<void> {
    const command = new PutObjectCommand({ ...this.at(key), Body: bytes, ContentLength: bytes.byteLength, ...this.encryption });
    const requestTimeout = answerWithinMs(this.limits, bytes.byteLength);
    await failing('PutObject', this.client.send(command, { requestTimeout }));
  }

  async get(key: string): Promise<Uint8Array | undefined> {
    for (let reading = 1; ; reading++) {
      const body = await this.find(key);
      try {
        return await body?.transformToByteArray();
      } catch (error) {
        // The SDK tries again until there is an answer; one that breaks off is for us.
        if (reading >= mostReadings) throw asStoreFailure(error, 'GetObject');
      }
    }
  }

  async list(prefix: string, { after = '', limit = Infinity }: Page = {}): Promise<string[]> {
    const keys: string[] = [];
    for await (const { Contents = [] } of this.pages(prefix, after, limit)) {
      for (const { Key } of Contents) if (Key !== undefined) keys.push(this.keyOf(Key));
      if (keys.length >= limit) break;
    }
    return keys.slice(0, limit);
  }

  async listDirectories(prefix: string, { after = '', limit = Infinity }: Page = {}): Promise<string[]> {
    const directories: string[] = [];
    // No key has a `~`: what comes after it is not in that directory any more.
    for await (const { CommonPrefixes = [] } of this.pages(prefix, after === '' ? '' : `${after}~`, limit, '/')) {
      for (const { Prefix } of CommonPrefixes) if (Prefix !== undefined) directories.push(this.keyOf(Prefix));
      if (directories.length >= limit) break;
    }
    return directories.slice(0, limit);
  }

  async delete(keys: readonly string[]): Promise<void> {
    const [only] = keys;
    if (only !== undefined && keys.length === 1) {
      await this.deleteOne(only);
      return;
    }
    const left: string[] = [];
    let cause: unknown;
    for (let at = 0; at < keys.length; at += mostKeys) {
      const some = keys.slice(at, at + mostKeys);
      try {
        for (const { Key = '', Code, Message } of await this.deleteSome(some)) {
          if (Code === 'NoSuchKey') continue;
          left.push(this.keyOf(Key));
          cause ??= new Error(`${Code}: ${Message}`);
        }
      } catch (error) {
        left.push(...some);
        cause ??= error;
      }
    }
    if (left.length > 0) throw new UndeletedObjects(left, cause);
  }

  async size(key: string): Promise<number | undefined> {
    try {
      const { ContentLength } = await this.client.send(new HeadObjectCommand(this.at(key)));
      return ContentLength;
    } catch (error) {
      if (isAbsent(error)) return undefined;
      throw asStoreFailure(error, 'HeadObject');
    }
  }

  open(key: string, start: number, end: number): Promise<ByteSource> {
    return openS3Source((from, to) => this.getRange(key, from, to), start, end);
  }

  async presign(key: string, contentType: string): Promise<string | undefined> {
    if (this.presigner === undefined) return undefined;
    const command = new GetObjectCommand({ ...this.at(key), ResponseContentType: contentType });
    return failing('presigning', getSignedUrl(this.presigner, command, { expiresIn: presignedForSeconds }));
  }

  async hash(key: string, algorithm: 'sha256' | 'sha512', initial: Uint8Array, end: number, start = 0): Promise<Uint8Array> {
    if (end === start) return initial;
    const source = await this.open(key, start, end);
    try {
      let state = initial;
      let buffer = new ArrayBuffer(Math.min(end - start, hashStretchBytes));
      let filled = 0;
      const flush = async (): Promise<void> => {
        ({ state, buffer } = await this.workers.hashBuffer({ algorithm, state, buffer, length: filled }));
        filled = 0;
      };
      for (let chunk = await source.next(); chunk !== undefined; chunk = await source.next()) {
        for (let taken = 0; taken < chunk.byteLength;) {
          const count = Math.min(chunk.byteLength - taken, buffer.byteLength - filled);
          new Uint8Array(buffer).set(chunk.subarray(taken, taken + count), filled);
          taken += count;
          filled += count;
          if (filled === buffer.byteLength) await flush();
        }
      }
      if (filled > 0) await flush();
      return state;
    } finally {
      source.close();
    }
  }

  async begin(key: string): Promise<string> {
    const command = new CreateMultipartUploadCommand({ ...this.at(key), ...this.encryption });
    const { UploadId } = await failing('CreateMultipartUpload', this.client.send(command));
    if (UploadId === undefined) throw new Error('the server gave the multipart upload no id');
    return UploadId;
  }

  write(key: string, begun: string): Promise<DataWriter> {
    const { completionsClient, partsClient, workers } = this;
    const size = () => this.size(key);
    return Promise.resolve(
      new S3Writer({ completionsClient, partsClient, hash: workers.hashBuffer, ...this.at(key), UploadId: begun, size }),
    );
  }

  async abort(key: string, begun: string): Promise<void> {
    try {
      await this.client.send(new AbortMultipartUploadCommand({ ...this.at(key), UploadId: begun }));
    } catch (error) {
      if (nameOf(error) !== 'NoSuchUpload') throw asStoreFailure(error, 'AbortMultipartUpload');
    }
  }

  close(): void {
    const { client, streamsClient, partsClient, completionsClient, presigner } = this;
    for (const one of [client, streamsClient, partsClient, completionsClient, presigner]) one?.destroy();
  }

  private at(key: string): { readonly Bucket: string; readonly Key: string } {
    return { Bucket: this.settings.bucket, Key: this.settings.prefix + key };
  }

  private keyOf(name: string): string {
    return name.slice(this.settings.prefix.length);
  }

  private async *pages(prefix: string, after: string, most: number, delimiter?: '/'): AsyncGenerator<ListObjectsV2CommandOutput> {
    if (most === 0) return;
    const input = {
      Bucket: this.settings.bucket,
      Prefix: this.settings.prefix + prefix,
      MaxKeys: Math.min(most, mostKeys),
      ...(after === '' ? {} : { StartAfter: this.settings.prefix + after }),
      ...(delimiter === undefined ? {} : { Delimiter: delimiter }),
    };
    let token: string | undefined;
    do {
      const command = new ListObjectsV2Command(token === undefined ? input : { ...input, ContinuationToken: token });
      const page = await failing('ListObjectsV2', this.client.send(command));
      yield page;
      token = page.IsTruncated === true ? page.NextContinuationToken : undefined;
    } while (token !== undefined);
  }

  private async deleteOne(key: string): Promise<void> {
    try {
      await this.client.send(new DeleteObjectCommand(this.at(key)));
    } catch (error) {
      if (!isAbsent(error)) throw new UndeletedObjects([key], asStoreFailure(error, 'DeleteObject'));
    }
  }

  private async deleteSome(keys: readonly string[]) {
    const Objects = keys.map((key) => ({ Key: this.settings.prefix + key }));
    const command = new DeleteObjectsCommand({ Bucket: this.settings.bucket, Delete: { Objects, Quiet: true } });
    const { Errors = [] } = await failing('DeleteObjects', this.client.send(command));
    return Errors;
  }

  private async find(key: string): Promise<GetObjectCommandOutput['Body']> {
    try {
      return (await this.client.send(new GetObjectCommand(this.at(key)))).Body;
    } catch (error) {
      if (isAbsent(error)) return undefined;
      throw asStoreFailure(error, 'GetObject');
    }
  }

  private async getRange(key: string, start: number, end: number): Promise<Readable> {
    const command = new GetObjectCommand({ ...this.at(key), Range: `bytes=${start}-${end - 1}` });
    const { Body, ContentLength } = await failing('GetObject', this.streamsClient.send(command));
    const stream = Body as unknown as Readable;
    if (ContentLength === end - start) return stream;
    stream.destroy();
    throw new Error(`${key} has no bytes ${start} to ${end}`);
  }
}

async function failing<T>(doing: string, request: Promise<T>): Promise<T> {
  try {
    return await request;
  } catch (error) {
    throw asStoreFailure(error, doing);
  }
}
