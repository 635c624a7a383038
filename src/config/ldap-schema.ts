// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The settings of a directory of users (LDAP), and what a value must be. */
import { z } from 'zod';
import { repositoryActions, verbs } from '../access/actions.js';
import { compileFilter } from '../access/ldap/search-filter.js';
import { parseCertificates } from '../access/token/certificate-chain.js';
import { isLoopback } from '../http/client-address.js';
import { duration, flag, integer, parsedFile, secretFile } from './values.js';

const url = z
  .string()
  .refine((value) => /^ldaps?:\/\/[^/?#@\s]+\/?$/.test(value) && URL.canParse(value), 'expected ldap://… or ldaps://…, without a path');
const attribute = z.string().regex(/^[A-Za-z][A-Za-z0-9-]*$/, "expected an attribute's name");
const dn = z.string().regex(/^\s*[A-Za-z0-9.-]+\s*=/, 'expected a distinguished name such as ou=people,dc=example,dc=org');
const secret = z.string().min(1, 'expected a password');
const scope = z.enum(['sub', 'one', 'base']).default('sub');
const wait = duration.refine((ms) => Number.isNaN(ms) || (ms >= 100 && ms <= 60_000), 'expected 100ms to 1m');

const filter = (names: readonly string[]) =>
  z.string().superRefine((template, context) => {
    try {
      compileFilter(template, names);
    } catch (error) {
      context.addIssue({ code: 'custom', message: `no filter (RFC 4515): ${(error as Error).message}` });
    }
  });

/** What a group may do; what policies know of administration is not among it. */
const action = z.enum([...verbs, ...repositoryActions, 'list-catalog']);

const listOf = <Item extends z.ZodType>(item: Item) =>
  z.preprocess((value) => (typeof value === 'string' ? [value] : value), z.array(item).min(1, 'expected one or more'));

export const groupGrants = z
  .array(
    z.strictObject({
      group: z.string().min(1),
      repositories: listOf(z.string().regex(/^[a-z0-9._/*-]+$/, 'expected a name, in which * is anything but a slash, ** anything')),
      actions: listOf(action),
    }),
  )
  .default([]);

export const ldap = z
  .strictObject({
    urls: listOf(url),
    start_tls: flag.default(false),
    allow_plaintext: flag.default(false),
    ca_file: parsedFile(parseCertificates).optional(),
    bind_dn: dn.optional(),
    bind_password: secret.optional(),
    bind_password_file: secretFile.pipe(secret).optional(),
    connect_timeout: wait.default(5_000),
    timeout: wait.default(5_000),
    pool_size: integer(1, 100).default(4),
    idle_timeout: duration.default(60_000),
    cache_ttl: duration.refine((ms) => Number.isNaN(ms) || ms <= 3_600_000, 'expected at most 1h').default(30_000),
    user_search: z.strictObject({
      base_dn: dn,
      filter: filter(['username']).default('(uid={username})'),
      scope,
      id_attribute: attribute.default('uid'),
    }),
    group_search: z
      .strictObject({
        base_dn: dn,
        filter: filter(['dn', 'username']).default('(member={dn})'),
        scope,
        name_attribute: attribute.default('cn'),
      })
      .optional(),
    member_of: z.strictObject({ attribute: attribute.default('memberOf'), base_dn: dn }).optional(),
    groups: groupGrants,
  })
  .superRefine(({ urls, start_tls: startTls, allow_plaintext: allowPlaintext, ...rest }, context) => {
    const refuse = (path: PropertyKey[], message: string): void => context.addIssue({ code: 'custom', path, message });
    for (const [index, text] of urls.entries()) {
      const { protocol, hostname } = new URL(text);
      if (protocol === 'ldaps:' && startTls)
        refuse(['urls', index], 'ldaps:// is TLS from its beginning: without ldap.start_tls, or ldap://');
      const host = hostname.replaceAll(/^\[|\]$/g, '');
      if (protocol === 'ldap:' && !startTls && !allowPlaintext && host !== 'localhost' && !isLoopback(host))
        refuse(['urls', index], 'passwords would be sent in clear: use ldaps:// or ldap.start_tls (ldap.allow_plaintext allows it)');
    }
    if (rest.bind_password !== undefined && rest.bind_password_file !== undefined)
      refuse(['bind_password'], 'give one of ldap.bind_password and ldap.bind_password_file');
    const hasPassword = rest.bind_password !== undefined || rest.bind_password_file !== undefined;
    if ((rest.bind_dn === undefined) === hasPassword)
      refuse(
        [hasPassword ? 'bind_password' : 'bind_dn'],
        'ldap.bind_dn and its password (ldap.bind_password, or ldap.bind_password_file) belong together',
      );
    if (rest.groups.length > 0 && rest.group_search === undefined && rest.member_of === undefined)
      refuse(['groups'], 'nothing tells who is in a group: ldap.group_search or ldap.member_of is needed');
  })
  .transform(({ bind_dn: account, bind_password: password, bind_password_file: fromFile, ...settings }) => ({
    ...settings,
    account: account === undefined ? undefined : { dn: account, password: password ?? fromFile ?? '' },
  }))
  .optional();
