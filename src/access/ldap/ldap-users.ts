// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Identities whose passwords a directory knows (`ldap`). */
import { createHash } from 'node:crypto';
import { makeIdentity } from '../identity.js';
import type { Login, PasswordSource } from '../password/password-source.js';
import { openDirectory, type DirectoryUser } from './directory.js';
import { DirectoryAway, directoryUnavailable } from './directory-away.js';
import type { LdapSettings } from './ldap-settings.js';
import { openProblems } from './problems.js';

export interface LdapParts {
  readonly settings: LdapSettings;
  /** Belongs to somebody who is known without the directory, and whom nobody there may be taken for. */
  readonly isTaken: (id: string) => boolean;
  /** Takes as long as a wrong password elsewhere. */
  readonly waste: () => Promise<unknown>;
  readonly warn: (message: string, error: unknown) => void;
}

export interface LdapUsers extends PasswordSource {
  close(): void;
}

/** What is in no directory is not looked for. */
const possibleName = /^[^\p{Cc}]{1,255}$/u;
/** With a colon it could be taken for a workload of an issuer. */
const possibleId = /^[^\p{Cc}:]{1,255}$/u;

export function openLdapUsers({ settings, isTaken, waste, warn }: LdapParts): LdapUsers {
  const problems = openProblems(warn);
  const directory = openDirectory(settings, problems);
  const { cache_ttl: rememberMs } = settings;
  const under = createHash('sha256').update(JSON.stringify(settings)).digest('base64url');

  const find = async (username: string): Promise<DirectoryUser | 'unclear' | undefined> => {
    if (!possibleName.test(username)) return undefined;
    const user = await directory.findUser(username);
    if (user === undefined || user === 'unclear') return user;
    const isPossible = possibleId.test(user.id);
    if (isPossible && !isTaken(user.id)) return user;
    const reason = isPossible ? 'is somebody else here' : 'is no name here (it has a colon)';
    problems.arose(`${user.dn} as ${user.id}`, `${user.dn} cannot log in: ${JSON.stringify(user.id)} ${reason}`, undefined);
    return 'unclear';
  };
  const loginOf = async (user: DirectoryUser, username: string): Promise<Login> => {
    const identity = makeIdentity(user.id, user.id, { groups: await directory.groupsOf(user, username) });
    const stamp = createHash('sha256').update(JSON.stringify(user.marks)).digest('base64url').slice(0, 16);
    return { identity, stamp, findBy: username, rememberMs, under };
  };
  return {
    name: 'ldap',
    logIn: (username, password) =>
      asked(async () => {
        // To a directory a bind without a password is one of nobody, and a success (RFC 4513, 5.1.2); some read no further than a NUL.
        if (password === '' || password.includes('\0')) return undefined;
        const user = await find(username);
        if (user === undefined) {
          await directory.checkNobody();
          return undefined;
        }
        if (user !== 'unclear' && (await directory.checkPassword(user, password))) return loginOf(user, username);
        await waste();
        return 'wrong';
      }),
    find: (username) =>
      asked(async () => {
        const user = await find(username);
        return user === undefined || user === 'unclear' ? undefined : loginOf(user, username);
      }),
    recall: (_username, login) => (login.source !== 'ldap' || login.under !== under || isTaken(login.identity.id) ? undefined : login),
    close: () => directory.close(),
  };
}

async function asked<T>(ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (error) {
    throw error instanceof DirectoryAway ? directoryUnavailable(error) : error;
  }
}
