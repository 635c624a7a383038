// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** An issuer of tokens as GitHub, GitLab and Kubernetes run one: it publishes its keys, and signs what it is told. */
import { generateKeyPairSync, randomUUID, type KeyObject } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { exportJWK, SignJWT, type JWK, type JWTPayload } from 'jose';

/** Undefined leaves one out that there would be otherwise. */
export type WorkloadClaims = { readonly [Name in keyof JWTPayload]: JWTPayload[Name] | undefined };

export interface IssuerOptions {
  readonly algorithm?: 'RS256' | 'ES256';
  readonly jwksPath?: string;
}

export class TestIssuer {
  readonly url: string;
  readonly jwksPath: string;
  /** How often its keys were asked for, with which Authorization. */
  readonly asked: (string | undefined)[] = [];
  /** What is waited for before an answer. */
  gate: Promise<unknown> = Promise.resolve();
  private readonly algorithm: 'RS256' | 'ES256';
  private readonly port: number;
  private server: Server | undefined;
  private key: { readonly id: string; readonly privateKey: KeyObject; readonly publicKey: KeyObject };
  private published: JWK[] = [];

  private constructor(port: number, { algorithm = 'RS256', jwksPath = '/.well-known/jwks' }: IssuerOptions) {
    this.port = port;
    this.url = `http://127.0.0.1:${port}`;
    this.jwksPath = jwksPath;
    this.algorithm = algorithm;
    this.key = newKey(algorithm);
  }

  static async start(options: IssuerOptions = {}): Promise<TestIssuer> {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const issuer = new TestIssuer((server.address() as AddressInfo).port, options);
    await issuer.rotate();
    issuer.serve(server);
    return issuer;
  }

  private serve(server: Server): void {
    this.server = server.on('request', (request, response) => {
      if (request.url === this.jwksPath) this.asked.push(request.headers.authorization);
      void (async () => {
        await this.gate;
        const found =
          request.url === this.jwksPath
            ? this.jwks()
            : request.url === '/.well-known/openid-configuration'
              ? JSON.stringify({
                  issuer: this.url,
                  jwks_uri: this.url + this.jwksPath,
                  id_token_signing_alg_values_supported: [this.algorithm],
                })
              : undefined;
        response.writeHead(found === undefined ? 404 : 200, { 'Content-Type': 'application/json' }).end(found);
      })();
    });
  }

  /** Nobody listens any more; its tokens go on. */
  async stop(): Promise<void> {
    const { server } = this;
    if (server === undefined) return;
    this.server = undefined;
    server.close();
    server.closeAllConnections();
    await once(server, 'close');
  }

  async restart(): Promise<void> {
    const server = createServer().listen(this.port, '127.0.0.1');
    await once(server, 'listening');
    this.serve(server);
  }

  /** Signs with a new key from now on, and publishes it: after the others, or in their place. */
  async rotate(keepOld = false): Promise<void> {
    this.key = newKey(this.algorithm);
    const jwk = { ...(await exportJWK(this.key.publicKey)), kid: this.key.id, use: 'sig', alg: this.algorithm };
    this.published = keepOld ? [...this.published, jwk] : [jwk];
  }

  jwks(): string {
    return JSON.stringify({ keys: this.published });
  }

  get publicKey(): KeyObject {
    return this.key.publicKey;
  }

  get keyId(): string {
    return this.key.id;
  }

  /** Valid for five minutes, unless the claims or `header` say otherwise; undefined leaves a claim out. */
  sign(claims: WorkloadClaims, header: Readonly<Record<string, string>> = {}): Promise<string> {
    const seconds = Math.floor(Date.now() / 1000);
    const all = { iss: this.url, iat: seconds, nbf: seconds, exp: seconds + 300, jti: randomUUID(), ...claims };
    return new SignJWT(all as JWTPayload)
      .setProtectedHeader({ alg: this.algorithm, typ: 'JWT', kid: this.key.id, ...header })
      .sign(this.key.privateKey);
  }
}

function newKey(algorithm: 'RS256' | 'ES256') {
  const pair =
    algorithm === 'RS256' ? generateKeyPairSync('rsa', { modulusLength: 2048 }) : generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { ...pair, id: randomUUID() };
}
