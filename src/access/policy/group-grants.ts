// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What groups of a directory may do (`ldap.groups`), beside the policies. */
import { repositoryPattern } from '../../oci/repository-pattern.js';
import { isRepositoryAction, verbFor, verbs, type Action } from '../actions.js';

/** As it is configured. An action is one of the policies' own, or `pull`, `push`, `delete` for those that belong to it. */
export interface GroupGrant {
  readonly group: string;
  /** Names; `*` is anything but a slash, `**` anything. */
  readonly repositories: readonly string[];
  readonly actions: readonly string[];
}

export interface GroupGrants {
  readonly any: boolean;
  /** The first that allows it to one of the groups, in words of the configuration; without a repository, whether there may be one. */
  find(groups: readonly string[], action: Action, repository: string | undefined): string | undefined;
}

export function compileGrants(grants: readonly GroupGrant[]): GroupGrants {
  const compiled = grants.map(({ group, repositories, actions }, index) => ({
    group,
    patterns: repositories.map(repositoryPattern),
    actions: new Set(actions),
    rule: `ldap.groups[${index}]: ${group} may ${actions.join(', ')} in ${repositories.join(', ')}`,
  }));
  return {
    any: compiled.length > 0,
    find(groups, action, repository) {
      const names = [action, wordFor(action)];
      return compiled.find(
        ({ group, patterns, actions }) =>
          groups.includes(group) &&
          names.some((name) => actions.has(name)) &&
          (repository === undefined || patterns.some((pattern) => pattern.test(repository))),
      )?.rule;
    },
  };
}

/** Who pulls also sees the repository in lists. */
function wordFor(action: Action): string {
  if (action === 'list-catalog') return verbs[0];
  return isRepositoryAction(action) ? verbFor(action) : action;
}
