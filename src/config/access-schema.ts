// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The settings of access control, and what a value must be. */
import { z } from 'zod';
import { parseKeyFile } from '../access/token/file-keys.js';
import { idsOfOthers, parseHtpasswd } from '../access/password/local-users.js';
import { faultOfHash } from '../access/password/password-hash.js';
import { compilePolicy, PolicyFault } from '../access/policy/policy.js';
import { findRepositoryName } from '../oci/repository-name.js';
import { externalTokens } from './foreign-token-schema.js';
import { certificateIdentity } from './tls-schema.js';
import { duration, flag, parsedFile, secretFile, siteUrl } from './values.js';

const policy = z.string().superRefine((expression, context) => {
  try {
    compilePolicy(expression);
  } catch (error) {
    if (!(error instanceof PolicyFault)) throw error;
    context.addIssue({ code: 'custom', message: error.message, params: { offset: error.offset } });
  }
});

const name = z
  .string()
  .min(1)
  .max(255)
  .regex(/^[^\p{Cc}:]+$/u, 'expected a name without colons');

const passwordHash = z.string().superRefine((hash, context) => {
  const fault = faultOfHash(hash);
  if (fault !== undefined) context.addIssue({ code: 'custom', message: fault });
});

const atLeastAMinute = duration.refine((ms) => Number.isNaN(ms) || ms >= 60_000, 'expected at least 1m');

export const identities = z
  .record(
    name,
    z.strictObject({
      username: name.optional(),
      password: passwordHash,
      groups: z.array(z.string().min(1)).default([]),
    }),
  )
  .superRefine((entries, context) => {
    const seen = new Set<string>();
    for (const [id, { username = id }] of Object.entries(entries)) {
      if (seen.has(username))
        context.addIssue({ code: 'custom', path: [id, 'username'], message: 'another identity has this name already' });
      seen.add(username);
    }
  })
  .default({});

export const policies = z
  .array(
    z.strictObject({
      namespace: z
        .string()
        .refine((value) => value === '' || findRepositoryName(value) !== undefined, 'expected a name such as team/app, or nothing for all'),
      policy_default_allow: flag.default(false),
      policies: z.array(policy).default([]),
    }),
  )
  .default([])
  .superRefine((entries, context) => {
    const seen = new Set<string>();
    for (const [index, { namespace }] of entries.entries()) {
      if (seen.has(namespace))
        context.addIssue({ code: 'custom', path: [index, 'namespace'], message: 'there are policies for it already' });
      seen.add(namespace);
    }
  });

const secretText = z.string().min(16, 'expected 16 characters or more');

export const access = z
  .strictObject({
    anonymous: flag.default(false),
    challenge: z.enum(['bearer', 'basic']).default('bearer'),
    htpasswd_file: parsedFile(parseHtpasswd).optional(),
    certificate: certificateIdentity,
    admin: z.array(policy).default(['"admin" in identity.groups']),
    token: z
      .strictObject({
        service: z
          .string()
          .regex(/^[A-Za-z0-9._:-]+$/, 'expected a name such as registry.example')
          .default('ha-registry'),
        secret: secretText.optional(),
        secret_file: secretFile.pipe(secretText).optional(),
        key_file: parsedFile(parseKeyFile).optional(),
        external: externalTokens,
        lifetime: atLeastAMinute.default(5 * 60_000),
        refresh_lifetime: atLeastAMinute.default(30 * 86_400_000),
        rotate_after: atLeastAMinute.default(30 * 86_400_000),
      })
      .prefault({}),
  })
  .prefault({});

export const externalUrl = siteUrl.transform((value) => value.replace(/\/$/, '')).optional();

/** What is wrong only with both of them: nobody of a file may become an identity. */
export function checkTogether(
  parsed: { readonly access: z.output<typeof access>; readonly identity: z.output<typeof identities> },
  context: z.RefinementCtx,
): void {
  const taken = idsOfOthers(parsed.identity);
  const passwords = parsedFile((text) => parseHtpasswd(text, taken)).optional();
  for (const { message } of passwords.safeParse(parsed.access.htpasswd_file).error?.issues ?? [])
    context.addIssue({ code: 'custom', path: ['access', 'htpasswd_file'], message });
}
