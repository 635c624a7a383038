// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { RegistryError } from './errors.js';

export type RepositoryName = string & { readonly __repositoryName: true };

/** Clients cap host + "/" + name at 255 characters, so a longer name could be pushed by none of them. */
const maximumLength = 255;
const component = '[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*';
const grammar = new RegExp(`^${component}(?:/${component})*$`);

/** Throws NAME_INVALID. */
export function parseRepositoryName(text: string): RepositoryName {
  if (text.length > maximumLength) {
    throw new RegistryError('NAME_INVALID', `a repository name has at most ${maximumLength} characters`, {
      detail: `${text.slice(0, 60)}…`,
    });
  }
  if (!grammar.test(text)) throw new RegistryError('NAME_INVALID', 'invalid repository name', { detail: text });
  return text as RepositoryName;
}

/** For names that a client merely mentions, such as the source of a mount. */
export function findRepositoryName(text: string): RepositoryName | undefined {
  return text.length <= maximumLength && grammar.test(text) ? (text as RepositoryName) : undefined;
}
