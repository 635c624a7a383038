// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** A certificate authority in memory, for certificates and revocation lists of all kinds and times. */
// The library below does not load without it.
import 'reflect-metadata';
import { randomBytes, webcrypto } from 'node:crypto';
import {
  BasicConstraintsExtension,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  X509Certificate,
  X509CertificateGenerator,
  X509CrlGenerator,
  Extension,
  type JsonGeneralName,
  type JsonName,
} from '@peculiar/x509';

export { Extension };

export interface Issued {
  /** PEM. */
  readonly cert: string;
  readonly key: string;
}

export interface IssueOptions {
  readonly names?: readonly JsonGeneralName[];
  /** Object identifiers; that of client authentication unless others are given. */
  readonly usages?: readonly string[];
  readonly from?: Date;
  readonly until?: Date;
}

export interface ListOptions {
  readonly revoked?: readonly Issued[];
  readonly from?: Date;
  readonly until?: Date;
  readonly extensions?: readonly Extension[];
}

export const clientAuthentication = '1.3.6.1.5.5.7.3.2';
export const serverAuthentication = '1.3.6.1.5.5.7.3.1';

const hourMs = 3_600_000;
const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const authorityUsages = new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true);

export class Authority {
  readonly #keys: webcrypto.CryptoKeyPair;
  readonly #certificate: X509Certificate;

  private constructor(keys: webcrypto.CryptoKeyPair, certificate: X509Certificate) {
    this.#keys = keys;
    this.#certificate = certificate;
  }

  /** A root, unless `above` signs it. */
  static async make(name: string, above?: Authority): Promise<Authority> {
    const keys = await newKeys();
    const certificate = await X509CertificateGenerator.create({
      ...common(),
      subject: `CN=${name}`,
      issuer: above === undefined ? `CN=${name}` : above.#certificate.subject,
      publicKey: keys.publicKey,
      signingKey: above === undefined ? keys.privateKey : above.#keys.privateKey,
      extensions: [new BasicConstraintsExtension(true, undefined, true), authorityUsages],
    });
    return new Authority(keys, certificate);
  }

  get pem(): string {
    return `${this.#certificate.toString('pem')}\n`;
  }

  async issue(subject: JsonName | string, options: IssueOptions = {}): Promise<Issued> {
    const { names = [], usages = [clientAuthentication], from, until } = options;
    const keys = await newKeys();
    const certificate = await X509CertificateGenerator.create({
      ...common(from, until),
      subject,
      issuer: this.#certificate.subject,
      publicKey: keys.publicKey,
      signingKey: this.#keys.privateKey,
      extensions: [
        new BasicConstraintsExtension(false, undefined, true),
        new ExtendedKeyUsageExtension([...usages]),
        ...(names.length === 0 ? [] : [new SubjectAlternativeNameExtension([...names])]),
      ],
    });
    const key = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey)).toString('base64');
    return { cert: certificate.toString('pem'), key: `-----BEGIN PRIVATE KEY-----\n${key}\n-----END PRIVATE KEY-----\n` };
  }

  /** For servers on this machine. */
  issueServer(name: string): Promise<Issued> {
    const names = [{ type: 'dns', value: 'localhost' } as const, { type: 'ip', value: '127.0.0.1' } as const];
    return this.issue(`CN=${name}`, { names, usages: [serverAuthentication] });
  }

  async list({ revoked = [], from, until, extensions = [] }: ListOptions = {}): Promise<{
    readonly pem: string;
    readonly der: Uint8Array;
  }> {
    const crl = await X509CrlGenerator.create({
      issuer: this.#certificate.subject,
      thisUpdate: from ?? new Date(Date.now() - hourMs),
      nextUpdate: until ?? new Date(Date.now() + hourMs),
      entries: revoked.map(({ cert }) => ({ serialNumber: new X509Certificate(cert).serialNumber, revocationDate: new Date() })),
      signingAlgorithm: algorithm,
      signingKey: this.#keys.privateKey,
      extensions: [...extensions],
    });
    return { pem: `${crl.toString('pem').replaceAll(/(BEGIN|END) CRL/g, '$1 X509 CRL')}\n`, der: new Uint8Array(crl.rawData) };
  }
}

function newKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
}

function common(from = new Date(Date.now() - hourMs), until = new Date(Date.now() + 24 * hourMs)) {
  // Positive, and as long as authorities make them.
  const serialNumber = `4${randomBytes(16).toString('hex').slice(1)}`;
  return { serialNumber, notBefore: from, notAfter: until, signingAlgorithm: algorithm };
}
