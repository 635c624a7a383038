// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The settings of TLS, and of what a client's certificate says. */
import { z } from 'zod';
import { flag, readableFile } from './values.js';

export const tls = z
  .strictObject({
    server_certificate_bundle: readableFile,
    server_private_key: readableFile,
    client_ca_bundle: readableFile.optional(),
    client_certificate: z.enum(['optional', 'required']).default('optional'),
    client_crl_file: readableFile.optional(),
  })
  .superRefine(({ client_ca_bundle: bundle, client_certificate: wanted, client_crl_file: list }, context) => {
    if (bundle !== undefined) return;
    const message = 'needs server.tls.client_ca_bundle, the authorities of these certificates';
    if (wanted === 'required') context.addIssue({ code: 'custom', path: ['client_certificate'], message });
    if (list !== undefined) context.addIssue({ code: 'custom', path: ['client_crl_file'], message });
  });

/** `access.certificate`. */
export const certificateIdentity = z
  .strictObject({
    id_from: z.enum(['common_name', 'san_dns', 'san_email', 'san_uri', 'none']).default('common_name'),
    groups_from_organizations: flag.default(false),
  })
  .prefault({});
