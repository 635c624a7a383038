// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** A real S3 server that is asked to slow down its clients for a while, as real ones do. */
import { s3Server, s3Settings } from '../support/s3-server.js';
import { startS3Proxy } from '../support/s3-proxy.js';

export interface ChaosS3 {
  /** `storage.s3` of the nodes. */
  readonly settings: object;
  /** While busy it answers 503 SlowDown to everything. */
  busy(is: boolean): void;
  stop(): void;
}

export async function startChaosS3(): Promise<ChaosS3> {
  const server = await s3Server();
  if ('missing' in server) throw new Error(server.missing);
  const proxy = await startS3Proxy(server.endpoint);
  return {
    settings: { ...(await s3Settings(server)), endpoint: proxy.endpoint },
    busy(is) {
      proxy.fault = () => (is ? { refuse: 503, code: 'SlowDown' } : 'pass');
    },
    stop() {
      proxy.close();
      server.stop();
    },
  };
}
