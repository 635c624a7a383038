// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Certificates that sign tokens: the chain that a token brings along (`x5c`, RFC 7515, 4.1.6), up to one that is trusted. */
import { X509Certificate, type KeyObject } from 'node:crypto';

/** Throws where there is none. */
export function parseCertificates(pem: string): X509Certificate[] {
  const texts = pem.match(/-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g) ?? [];
  if (texts.length === 0) throw new Error('there is no certificate in it');
  return texts.map((text, index) => {
    try {
      return new X509Certificate(text);
    } catch (error) {
      throw new Error(`the certificate ${index + 1} in it cannot be read`, { cause: error });
    }
  });
}

/** The key of the first certificate, if a trusted one is it, signed it, or signed what signed it: with one step at most nobody's path length has to be judged. */
export function keyOfChain(chain: readonly string[], roots: readonly X509Certificate[], nowMs: number): KeyObject | undefined {
  const [leaf, ...between] = chain.slice(0, mostCertificates).map((text) => new X509Certificate(Buffer.from(text, 'base64')));
  const isValid = ({ validFrom, validTo }: X509Certificate) => Date.parse(validFrom) <= nowMs && nowMs <= Date.parse(validTo);
  const trusted = roots.filter(isValid);
  const isTrusted = (certificate: X509Certificate): boolean =>
    trusted.some((root) => root.fingerprint256 === certificate.fingerprint256 || signed(root, certificate));
  if (leaf === undefined || !isValid(leaf)) return undefined;
  const isGood = isTrusted(leaf) || between.some((step) => step.ca && isValid(step) && signed(step, leaf) && isTrusted(step));
  return isGood ? leaf.publicKey : undefined;
}

const mostCertificates = 5;

function signed(issuer: X509Certificate, certificate: X509Certificate): boolean {
  return certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);
}
