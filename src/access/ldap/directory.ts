// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What a directory is asked: who somebody is, whether a password is theirs, and what groups they are in. */
import { randomBytes } from 'node:crypto';
import { ResultCodeError, type Client, type Entry } from 'ldapts';
import { Connections } from './connections.js';
import { DirectoryAway } from './directory-away.js';
import { nameBelow } from './distinguished-name.js';
import type { LdapSettings } from './ldap-settings.js';
import type { Problems } from './problems.js';
import { compileFilter } from './search-filter.js';
import { openServers } from './servers.js';

export interface DirectoryUser {
  readonly dn: string;
  /** As the directory spells it, however it was written by who logs in. */
  readonly id: string;
  /** Changes with the entry, and with its password where the directory tells when that was. */
  readonly marks: readonly string[];
  readonly memberOf: readonly string[];
}

export interface Directory {
  /** `unclear`: several are called that, or one who has no id. */
  findUser(username: string): Promise<DirectoryUser | 'unclear' | undefined>;
  checkPassword(user: DirectoryUser, password: string): Promise<boolean>;
  /** Takes as long as a wrong password. */
  checkNobody(): Promise<void>;
  groupsOf(user: DirectoryUser, username: string): Promise<string[]>;
  close(): void;
}

/** What tells one entry from another that has its name later, and one password from the next. Those that a directory does not have are left out. */
const markAttributes = ['entryUUID', 'objectGUID', 'nsUniqueId', 'ipaUniqueID', 'pwdChangedTime', 'pwdLastSet', 'krbLastPwdChange'];

/**
 * What a server says to a bind whose credentials it does not take: constraintViolation and unwillingToPerform (locked), noSuchObject (gone meanwhile),
 * inappropriateAuthentication (it has no password), invalidCredentials, insufficientAccessRights.
 */
const refusals = new Set([19, 32, 48, 49, 50, 53]);

/** All of its methods throw DirectoryAway where the directory cannot tell. */
export function openDirectory(settings: LdapSettings, problems: Problems): Directory {
  const { user_search: users, group_search: groups, member_of: memberOf } = settings;
  const userFilter = compileFilter(users.filter, ['username']);
  const groupFilter = groups === undefined ? undefined : compileFilter(groups.filter, ['dn', 'username']);
  const common = {
    servers: openServers(settings.urls, problems),
    startTls: settings.start_tls,
    caFile: settings.ca_file,
    timeoutMs: settings.connect_timeout,
    answerMs: settings.timeout,
    most: settings.pool_size,
    idleMs: settings.idle_timeout,
  };
  // A connection belongs to who was bound last, so searches have others than passwords.
  const searches = new Connections({ ...common, account: settings.account });
  const passwords = new Connections({ ...common, isAlive: (server) => searches.answers(server) });
  const timeLimit = Math.ceil(settings.timeout / 1000);

  const search = async (key: string, act: (client: Client) => Promise<{ searchEntries: Entry[] }>): Promise<Entry[]> => {
    try {
      // Where the rest of the directory lies (references) is not followed.
      const { searchEntries } = await searches.use(act);
      problems.solved(key);
      return searchEntries;
    } catch (error) {
      if (!(error instanceof ResultCodeError)) throw error;
      problems.arose(key, `the directory refuses a search (${key})`, error);
      throw new DirectoryAway('the directory refuses a search', { cause: error });
    }
  };
  const tryPassword = async (dn: string, password: string): Promise<boolean> => {
    try {
      await passwords.use((client) => client.bind(dn, password));
      return true;
    } catch (error) {
      if (!(error instanceof ResultCodeError)) throw error;
      if (refusals.has(error.code)) return false;
      problems.arose('bind', 'the directory does not check a password', error);
      throw new DirectoryAway('the directory does not check a password', { cause: error });
    }
  };
  return {
    async findUser(username) {
      const attributes = [users.id_attribute, ...markAttributes, ...(memberOf === undefined ? [] : [memberOf.attribute])];
      const entries = await search('ldap.user_search', (client) =>
        client.search(users.base_dn, {
          filter: userFilter({ username }),
          scope: users.scope,
          attributes,
          explicitBufferAttributes: ['objectGUID'],
          sizeLimit: 2,
          timeLimit,
        }),
      );
      const [entry, second] = entries;
      if (entry === undefined) return undefined;
      const [id] = valuesOf(entry, users.id_attribute).toSorted();
      if (second !== undefined || entry.dn === '' || id === undefined || id === '') {
        const what =
          second === undefined ? `has no ${users.id_attribute} (ldap.user_search.id_attribute)` : 'is the name of several entries';
        problems.arose(entry.dn, `nobody can log in by a name that is not clear: ${JSON.stringify(username)} ${what}`, undefined);
        return 'unclear';
      }
      problems.solved(entry.dn);
      const marks = [entry.dn.toLowerCase(), ...markAttributes.flatMap((name) => valuesOf(entry, name))];
      return { dn: entry.dn, id, marks, memberOf: memberOf === undefined ? [] : valuesOf(entry, memberOf.attribute) };
    },
    checkPassword: async ({ dn }, password) => tryPassword(dn, password),
    async checkNobody() {
      await tryPassword(`cn=${randomBytes(12).toString('hex')},${users.base_dn}`, randomBytes(12).toString('hex'));
    },
    async groupsOf({ dn, memberOf: names }, username) {
      const found = new Set<string>();
      for (const name of names) {
        const group = nameBelow(name, memberOf?.base_dn ?? '');
        if (group !== undefined) found.add(group);
      }
      if (groups !== undefined && groupFilter !== undefined) {
        const entries = await search('ldap.group_search', (client) =>
          client.search(groups.base_dn, {
            filter: groupFilter({ dn, username }),
            scope: groups.scope,
            attributes: [groups.name_attribute],
            paged: { pageSize: 500 },
            timeLimit,
          }),
        );
        for (const entry of entries) for (const name of valuesOf(entry, groups.name_attribute).slice(0, 1)) found.add(name);
      }
      return [...found].toSorted();
    },
    close() {
      searches.close();
      passwords.close();
    },
  };
}

/** An attribute's name may come back in other letters than it was asked for. */
function valuesOf(entry: Entry, attribute: string): string[] {
  const wanted = attribute.toLowerCase();
  const values = Object.entries(entry).flatMap(([name, value]) => (name.toLowerCase() === wanted ? [value].flat() : []));
  return values.map((value) => (typeof value === 'string' ? value : value.toString('base64')));
}
