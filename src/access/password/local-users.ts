// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Identities with a password hash: those of the configuration, and those of an htpasswd file. */
import { createHash } from 'node:crypto';
import { makeIdentity } from '../identity.js';
import { faultOfHash } from './password-hash.js';
import type { Login, PasswordSource } from './password-source.js';

export interface LocalUser {
  readonly id: string;
  readonly username: string;
  /** Argon2 or bcrypt. */
  readonly hash: string;
  readonly groups: readonly string[];
}

export type VerifyPassword = (password: string, hash: string) => Promise<boolean>;

/** `users` is asked each time, so that they may change. */
export function openLocalUsers(name: string, users: () => ReadonlyMap<string, LocalUser>, verify: VerifyPassword): PasswordSource {
  return {
    name,
    async logIn(username, password) {
      const user = users().get(username);
      if (user === undefined) return undefined;
      return (await verify(password, user.hash)) ? loginOf(user) : 'wrong';
    },
    find: (username) => {
      const user = users().get(username);
      return Promise.resolve(user === undefined ? undefined : loginOf(user));
    },
    recall(username, { source, stamp }) {
      const user = users().get(username);
      if (user === undefined) return undefined;
      const login = loginOf(user);
      return source === name && login.stamp === stamp ? login : 'over';
    },
  };
}

/** hot: an identity that is the same object keeps its remembered decisions. */
const logins = new WeakMap<LocalUser, Login>();

function loginOf(user: LocalUser): Login {
  let login = logins.get(user);
  if (login === undefined) {
    const { id, username, hash, groups } = user;
    login = { identity: makeIdentity(id, username, { groups }), stamp: createHash('sha256').update(hash).digest('base64url').slice(0, 16) };
    logins.set(user, login);
  }
  return login;
}

/** Ids whose owners log in with another name: who had such a name in a file would become them. */
export function idsOfOthers(identities: Readonly<Record<string, { readonly username?: string | undefined }>>): ReadonlySet<string> {
  const others = Object.entries(identities).filter(([id, { username = id }]) => username !== id);
  return new Set(others.map(([id]) => id));
}

/** `name:hash` lines. Throws an Error that names the line. */
export function parseHtpasswd(text: string, taken: ReadonlySet<string> = new Set()): Map<string, LocalUser> {
  const users = new Map<string, LocalUser>();
  for (const [index, raw] of text.split('\n').entries()) {
    const line = raw.trim();
    if (line === '' || line.startsWith('#')) continue;
    const [, username, hash] = /^([^:]+):(.*)$/.exec(line) ?? [];
    if (username === undefined || hash === undefined) throw new Error(`line ${index + 1} is no name with a hash behind a colon`);
    const fault = faultOfHash(hash);
    if (fault !== undefined) throw new Error(`line ${index + 1}: ${fault}`);
    if (taken.has(username)) throw new Error(`line ${index + 1} has the id of an identity that logs in with another name (identity)`);
    users.set(username, { id: username, username, hash, groups: [] });
  }
  return users;
}
