// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** People for the tests of access control: whom a registry knows, and what it lets them do. */
import { argon2id } from 'hash-wasm';
import { randomBytes } from 'node:crypto';

/** Long and strange, so that a leak of it can be found in any log. */
export const passwords = {
  reader: 'reader-pass-7f3a91',
  writer: 'writer-pass-0c44de',
  stranger: 'stranger-pass-b81e07',
  admin: 'admin-pass-55d2aa',
} as const;

export type Person = keyof typeof passwords;

/** As weak as the format allows: what is tested is not the hash. */
export function hashOf(password: string): Promise<string> {
  return argon2id({ password, salt: randomBytes(16), parallelism: 1, iterations: 1, memorySize: 8, hashLength: 32, outputType: 'encoded' });
}

export function basic(person: string, password: string = passwords[person as Person]): { Authorization: string } {
  return { Authorization: `Basic ${Buffer.from(`${person}:${password}`).toString('base64')}` };
}

/** What no log may have: passwords, also as they stand in a header, and the beginning of every token. */
export function secretsOf(known: Readonly<Record<string, string>> = passwords): string[] {
  return ['eyJ', ...Object.entries(known).flatMap(([person, password]) => [password, basic(person, password).Authorization.slice(6)])];
}

export function bearer(token: string): { Authorization: string } {
  return { Authorization: `Bearer ${token}` };
}

/** `team` is read by one and written by another, `other` is a stranger's, `public` is for all to read, and `tags` has a tag that only the writer may have. */
export async function settings(more: Readonly<Record<string, unknown>> = {}): Promise<Record<string, unknown>> {
  const identity: Record<string, object> = {};
  for (const [person, password] of Object.entries(passwords)) {
    identity[person] = { password: await hashOf(password), ...(person === 'admin' ? { groups: ['admin'] } : {}) };
  }
  return {
    identity,
    access: { token: { secret: 'secret-of-the-tokens-91c2' }, ...more },
    repository: [
      {
        namespace: 'team',
        policies: [
          'identity.id == "writer" || "admin" in identity.groups',
          'identity.id == "reader" && request.action in ["get-manifest", "get-blob", "get-referrers", "list-tags", "list-catalog"]',
        ],
      },
      { namespace: 'other', policies: ['identity.id == "stranger"'] },
      {
        namespace: 'public',
        policies: [
          'identity.id == "writer"',
          'request.action in ["get-manifest", "get-blob", "get-referrers", "list-tags", "list-catalog"]',
        ],
      },
      {
        namespace: 'tags',
        policies: ['identity.id == "writer"', 'identity.id == "reader" && request.reference != "secret"'],
      },
      {
        namespace: 'drop',
        policies: ['identity.id == "writer"', 'identity.id == "stranger" && request.action in ["put-blob", "mount-blob"]'],
      },
      { namespace: 'open', policy_default_allow: true, policies: ['identity.id == ""', 'identity.id == "stranger"'] },
    ],
  };
}
