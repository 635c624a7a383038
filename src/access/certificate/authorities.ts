// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The authorities whose certificates clients may show: roots, and the intermediate ones that they signed. */
import { X509Certificate } from 'node:crypto';

export interface Authority {
  readonly certificate: X509Certificate;
  /** Undefined for a root. */
  readonly issuer: Authority | undefined;
}

/** Those of a PEM bundle. Throws where one of them is no authority, or none is a root. */
export function parseAuthorities(bundle: string): Authority[] {
  const pems = bundle.match(/-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g) ?? [];
  if (pems.length === 0) throw new Error('there is no certificate in it');
  // An authority may have been renewed with the same key: the certificate that holds longest goes first.
  const certificates = pems.map((pem) => new X509Certificate(pem)).sort((a, b) => Date.parse(b.validTo) - Date.parse(a.validTo));
  const noAuthority = certificates.find(({ ca }) => !ca);
  if (noAuthority !== undefined) throw new Error(`${nameOf(noAuthority)} is no authority`);
  const known = certificates.filter((one) => isIssuedBy(one, one)).map((certificate): Authority => ({ certificate, issuer: undefined }));
  if (known.length === 0) throw new Error('there is no root in it, that is no authority that signed itself');
  let rest = certificates.filter((one) => !isIssuedBy(one, one));
  // From the roots down, as many times as there are levels.
  for (let before = Infinity; rest.length < before;) {
    before = rest.length;
    rest = rest.filter((certificate) => {
      const issuer = known.find((authority) => isIssuedBy(certificate, authority.certificate));
      if (issuer !== undefined) known.push({ certificate, issuer });
      return issuer === undefined;
    });
  }
  const [orphan] = rest;
  if (orphan !== undefined) throw new Error(`the authority of ${nameOf(orphan)} is not in it`);
  return known;
}

/** By name and by signature. */
export function isIssuedBy(certificate: X509Certificate, issuer: X509Certificate): boolean {
  return certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);
}

/** In one line. */
export function nameOf({ subject }: X509Certificate): string {
  return subject.replaceAll('\n', ', ');
}
