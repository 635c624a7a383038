// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Certificates that their authorities took back (RFC 5280, 5). */
// The library below does not load without it.
import 'reflect-metadata';
import { KeyUsageFlags, KeyUsagesExtension, PemConverter, X509Certificate, X509Crl } from '@peculiar/x509';
import { nameOf, type Authority } from './authorities.js';

export interface RevocationList {
  readonly thisUpdateMs: number;
  /** From then on nobody knows. */
  readonly nextUpdateMs: number;
  /** In lower-case hexadecimal digits, without zeros in front. */
  readonly serials: ReadonlySet<string>;
}

/** One for each authority that has a list in the file, which is PEM with any number of lists or DER with one. Throws where one of them is no good, or of nobody that is known. */
export async function readRevocationLists(file: Uint8Array, authorities: readonly Authority[]): Promise<Map<Authority, RevocationList>> {
  const lists = new Map<Authority, RevocationList>();
  for (const der of split(file)) {
    const crl = new X509Crl(der);
    refuseUnknown(crl);
    const issuers = await signersOf(crl, authorities);
    if (issuers.length === 0) throw new Error(`the list of ${crl.issuer} is signed by none of the authorities`);
    const list = {
      thisUpdateMs: crl.thisUpdate.getTime(),
      nextUpdateMs: crl.nextUpdate?.getTime() ?? Infinity,
      serials: new Set(crl.entries.map(({ serialNumber }) => serialOf(serialNumber))),
    };
    for (const issuer of issuers) if ((lists.get(issuer)?.thisUpdateMs ?? 0) < list.thisUpdateMs) lists.set(issuer, list);
  }
  return lists;
}

export function serialOf(hex: string): string {
  return hex.toLowerCase().replace(/^0+(?=.)/, '');
}

function split(file: Uint8Array): ArrayBuffer[] {
  const text = Buffer.from(file).toString('latin1');
  if (!text.includes('-----BEGIN')) return [Uint8Array.from(file).buffer];
  const lists = PemConverter.decodeWithHeaders(text).filter(({ type }) => /^(X509 )?CRL$/.test(type));
  if (lists.length === 0) throw new Error('there is no revocation list in it');
  return lists.map(({ rawData }) => rawData);
}

/** Lists of other authorities' certificates, of a part of them, or of changes since another list: whoever does not understand that must not use it. */
function refuseUnknown(crl: X509Crl): void {
  const extensions = [...crl.extensions, ...crl.entries.flatMap((entry) => entry.extensions)];
  const unknown = extensions.find(({ critical }) => critical);
  if (unknown !== undefined)
    throw new Error(`the list of ${crl.issuer} is partial, indirect or a delta (critical extension ${unknown.type})`);
}

/** More than one where an authority's certificate was renewed with the same key. */
async function signersOf(crl: X509Crl, authorities: readonly Authority[]): Promise<Authority[]> {
  const signers: Authority[] = [];
  for (const authority of authorities) {
    const certificate = new X509Certificate(authority.certificate.raw);
    if (!Buffer.from(certificate.subjectName.toArrayBuffer()).equals(Buffer.from(crl.issuerName.toArrayBuffer()))) continue;
    const usages = certificate.getExtension(KeyUsagesExtension)?.usages ?? KeyUsageFlags.cRLSign;
    if ((usages & KeyUsageFlags.cRLSign) === 0) throw new Error(`${nameOf(authority.certificate)} may not sign revocation lists`);
    if (await crl.verify({ publicKey: certificate.publicKey })) signers.push(authority);
  }
  return signers;
}
