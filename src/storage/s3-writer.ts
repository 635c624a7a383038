// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { CompleteMultipartUploadCommand, UploadPartCommand, type S3Client } from '@aws-sdk/client-s3';
import { asFailure, type Appending, type DataWriter, type HashBuffer, type NewPart, type Part, type Stored } from './blob-store.js';
import type { PartInHand } from './part-transport.js';
import { asStoreFailure, isPassing, nameOf } from './s3-failures.js';

export interface S3Upload {
  readonly completionsClient: S3Client;
  readonly partsClient: S3Client;
  readonly hash: HashBuffer;
  readonly Bucket: string;
  readonly Key: string;
  readonly UploadId: string;
  /** Bytes of the object, once there is one. */
  readonly size: () => Promise<number | undefined>;
}

/** A multipart upload. Each part is hashed, then sent; the next one can be hashed meanwhile. */
export class S3Writer implements DataWriter {
  private readonly upload: S3Upload;
  private readonly closing = new AbortController();

  constructor(upload: S3Upload) {
    this.upload = upload;
  }

  append({ number, algorithm, state, buffer, length }: NewPart): Appending {
    const capacity = buffer.byteLength;
    const hashing = this.upload.hash({ algorithm, state, buffer, length });
    const hashed = hashing.then((done) => done.state);
    hashed.catch(() => undefined);
    const stored = hashing.then(
      (done) => this.send(number, { buffer: done.buffer, length }),
      // Only with its worker does a buffer get lost; another takes its place.
      (error: unknown): Stored => ({ buffer: new ArrayBuffer(capacity), failure: asFailure(error) }),
    );
    return { hashed, stored };
  }

  /** A part that is stored is durable. */
  sync(): Promise<void> {
    return Promise.resolve();
  }

  async finish(size: number, parts: readonly Part[]): Promise<void> {
    const bytes = parts.reduce((sum, part) => sum + part.bytes, 0);
    if (bytes !== size) throw new Error(`the parts have ${bytes} bytes instead of ${size}`);
    const { completionsClient, Bucket, Key, UploadId } = this.upload;
    const Parts = parts.map(({ number, etag }) => ({ PartNumber: number, ETag: etag }));
    let failure: unknown;
    try {
      const command = new CompleteMultipartUploadCommand({ Bucket, Key, UploadId, MultipartUpload: { Parts } });
      await completionsClient.send(command);
    } catch (error) {
      // It may have been done all the same: the answer got lost, or another attempt, ours or that of the node before us, came first.
      if (nameOf(error) !== 'NoSuchUpload' && !isPassing(error)) throw asStoreFailure(error, 'CompleteMultipartUpload');
      failure = error;
    }
    const actual = await this.upload.size();
    if (actual === size) return;
    if (failure !== undefined) throw asStoreFailure(failure, 'CompleteMultipartUpload');
    throw new Error(`data object ${Key} has ${actual ?? 'no'} bytes instead of ${size}`);
  }

  close(): Promise<void> {
    this.closing.abort();
    return Promise.resolve();
  }

  private async send(number: number, part: PartInHand): Promise<Stored> {
    const { partsClient, Bucket, Key, UploadId } = this.upload;
    try {
      const command = new UploadPartCommand({ Bucket, Key, UploadId, PartNumber: number, ContentLength: part.length });
      const { ETag } = await partsClient.send(command, { abortSignal: this.closing.signal, part } as object);
      if (ETag === undefined) throw new Error('the server gave the part no ETag');
      return { buffer: part.buffer, part: { number, etag: ETag, bytes: part.length } };
    } catch (error) {
      return { buffer: part.buffer, failure: asStoreFailure(error, 'UploadPart') };
    }
  }
}
