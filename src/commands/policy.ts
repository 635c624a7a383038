// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { authorizerFor, identityCalled, localUsers } from '../access/open-access.js';
import { explain, type Question } from '../access/policy/explain.js';
import { RegistryError } from '../oci/errors.js';
import { UsageError, type Command } from './command.js';

export const policyCommand: Command = {
  usage: `ha-registry policy explain --action ACTION [--as ID] [--groups G,…] [--ip ADDRESS] NAME[:TAG|@DIGEST]
  says whether this configuration allows it, and which rule decides; exit code 0: allowed, 1: denied
  --as ID              whom; without it anonymous
  --action ACTION      get-blob, put-manifest, … (README)
  --groups G,…         their groups, where they are not configured here
  --ip ADDRESS         where from                       (127.0.0.1)
`,
  options: { as: { type: 'string' }, action: { type: 'string' }, groups: { type: 'string' }, ip: { type: 'string' } },
  arguments: { least: 1, most: 2 },
  run({ config, values, arguments: [word, name = ''] }) {
    if (word !== 'explain') throw new UsageError(`policy: unknown command ${JSON.stringify(word)}`);
    const { as: id = '', action = '', groups, ip = '127.0.0.1' } = values as Readonly<Record<string, string | undefined>>;
    const question = { identity: id, action, name, ip, ...(groups === undefined ? {} : { groups: groups.split(',') }) } as Question;
    const authorizer = authorizerFor(config, () => undefined);
    const users = localUsers(config);
    try {
      const find = (wanted: string) => identityCalled(wanted, users);
      const { allowed, rule, identity } = explain({ authorizer, find, hasIdentities: config.access.hasIdentities }, question);
      const who = identity.id === '' ? 'anonymous' : `${identity.id}${identity.known ? '' : ' (not configured here)'}`;
      process.stdout.write(`${who}: ${action} ${name} is ${allowed ? 'allowed' : 'denied'} by ${rule}\n`);
      return Promise.resolve(allowed ? 0 : 1);
    } catch (error) {
      if (error instanceof RegistryError) throw new UsageError(`policy explain: ${error.message}`);
      throw error;
    }
  },
};
