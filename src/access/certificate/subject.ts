// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What a certificate says about whom it is for. */
// The library below does not load without it.
import 'reflect-metadata';
import { SubjectAlternativeNameExtension, X509Certificate } from '@peculiar/x509';

export interface Subject {
  /** Each in the order of the certificate; there may be several, or none. */
  readonly common_names: readonly string[];
  readonly organizations: readonly string[];
  readonly san_dns: readonly string[];
  readonly san_email: readonly string[];
  readonly san_uri: readonly string[];
}

/** Throws where it is no certificate. */
export function readSubject(pem: string): Subject {
  const certificate = new X509Certificate(pem);
  const { items } = certificate.getExtension(SubjectAlternativeNameExtension)?.names ?? { items: [] };
  const alternatives = (kind: string): string[] => items.filter(({ type }) => type === kind).map(({ value }) => value);
  return {
    common_names: certificate.subjectName.getField('CN'),
    organizations: certificate.subjectName.getField('O'),
    san_dns: alternatives('dns'),
    san_email: alternatives('email'),
    san_uri: alternatives('url'),
  };
}
