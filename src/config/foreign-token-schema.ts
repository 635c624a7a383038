// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The settings of tokens that others sign: `oidc` and `access.token.external`. */
import { z } from 'zod';
import { parseCertificates } from '../access/token/certificate-chain.js';
import { signatureAlgorithms } from '../access/token/foreign-token.js';
import { parseKeySet } from '../access/token/key-set.js';
import { isTrustworthy } from '../access/workload/fetch-document.js';
import { parsedFile, readableFile } from './values.js';

const text = z.string().min(1);
const texts = z.union([text.transform((one) => [one]), z.array(text).min(1)], 'expected a text, or a list of texts');
const address = z.string().refine(isTrustworthy, 'expected https://…, or http:// on this machine');
const algorithms = z
  .array(z.enum(signatureAlgorithms))
  .min(1)
  .default([...signatureAlgorithms]);

const claimValue = z.union([text, z.boolean().transform(String), z.number().transform(String)]);
const claimValues = z.union(
  [claimValue.transform((one) => [one]), z.array(claimValue).min(1)],
  'expected a value, a pattern such as org/*, or a list of them',
);

const rule = z.strictObject({
  claims: z.record(text, claimValues).refine((claims) => Object.keys(claims).length > 0, 'expected a claim, such as repository: org/*'),
  groups: z.array(text).default([]),
});

export const workloadIssuers = z
  .array(
    z.strictObject({
      name: z.string().regex(/^[a-z][a-z0-9-]{0,62}$/, 'expected a name of small letters, digits and hyphens'),
      issuer: address,
      audience: texts,
      jwks_uri: address.optional(),
      jwks_file: parsedFile(parseKeySet).optional(),
      ca_file: parsedFile(parseCertificates).optional(),
      bearer_token_file: readableFile.optional(),
      algorithms,
      id_claim: text.default('sub'),
      groups_claim: text.optional(),
      rules: z.array(rule).min(1, 'expected at least one: whom an issuer gives tokens to is for it to say'),
    }),
  )
  .default([])
  .superRefine((issuers, context) => {
    const seen = new Set<string>();
    for (const [index, { name, jwks_uri: uri, jwks_file: file }] of issuers.entries()) {
      const refuse = (key: string, message: string): void => context.addIssue({ code: 'custom', path: [index, key], message });
      if (seen.has(name)) refuse('name', 'another one is called so');
      if (uri !== undefined && file !== undefined) refuse('jwks_file', 'give one of jwks_uri and jwks_file');
      seen.add(name);
    }
  });

const quotable = z.string().regex(/^[ !#-[\]-~]+$/, 'expected printable ASCII without quotes and backslashes');

/** The names are those of the distribution project's `auth.token`. */
export const externalTokens = z
  .strictObject({
    realm: quotable.refine((value) => /^https?:\/\/[^\s]+$/.test(value) && URL.canParse(value), 'expected https://… of the token service'),
    service: quotable,
    issuer: text,
    rootcertbundle: parsedFile(parseCertificates).optional(),
    jwks: parsedFile(parseKeySet).optional(),
    signingalgorithms: algorithms,
  })
  .refine(({ rootcertbundle, jwks }) => rootcertbundle !== undefined || jwks !== undefined, 'expected rootcertbundle or jwks')
  .optional();
