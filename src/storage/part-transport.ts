// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { S3ClientConfig } from '@aws-sdk/client-s3';
import type { SendTask, Sent } from '../worker/part-sender.js';

/** Sends a buffer as the body of a signed request, in a worker. */
export type SendPart = (task: SendTask) => Promise<Sent>;

/** The part that a request is about; its buffer is another object after each attempt. */
export interface PartInHand {
  buffer: ArrayBuffer;
  readonly length: number;
}

interface SignedRequest {
  readonly protocol: string;
  readonly hostname: string;
  readonly port?: number;
  readonly path: string;
  readonly method: string;
  readonly query?: Record<string, string | string[] | null>;
  readonly headers: Record<string, string>;
}

/**
 * How the SDK's requests for parts reach the network: here they are made, signed, tried again and read; the bytes go out in a worker, where encrypting and writing
 * them does not hold up other requests. `send(command, { part })` gives the part.
 */
export function partTransport(send: SendPart): S3ClientConfig['requestHandler'] & object {
  return {
    metadata: { handlerProtocol: 'http/1.1' },
    async handle(request: SignedRequest, options: object = {}) {
      const { part, abortSignal } = options as { part: PartInHand; abortSignal?: AbortSignal };
      abortSignal?.throwIfAborted();
      const { method, headers } = request;
      const sent = await send({ url: urlOf(request), method, headers, buffer: part.buffer, length: part.length });
      part.buffer = sent.buffer;
      abortSignal?.throwIfAborted();
      if (sent.failure !== undefined) throw Object.assign(new Error(sent.failure.message), { code: sent.failure.code });
      return { response: { statusCode: sent.status, headers: sent.headers, body: sent.body } };
    },
    updateHttpClientConfig: () => undefined,
    httpHandlerConfigs: () => ({}),
    destroy: () => undefined,
  };
}

function urlOf({ protocol, hostname, port, path, query = {} }: SignedRequest): string {
  const search = Object.entries(query).flatMap(([name, value]) =>
    [value ?? ''].flat().map((one) => `${encodeURIComponent(name)}=${encodeURIComponent(one)}`),
  );
  return `${protocol}//${hostname}${port === undefined ? '' : `:${port}`}${path}${search.length === 0 ? '' : `?${search.join('&')}`}`;
}
