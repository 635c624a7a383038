// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What can be done, and how tokens name it. */

export const actions = [
  'get-api-version',
  'put-blob',
  'get-blob',
  'delete-blob',
  'mount-blob',
  'put-manifest',
  'get-manifest',
  'delete-manifest',
  'get-referrers',
  'list-catalog',
  'list-tags',
  'admin',
] as const;

export type Action = (typeof actions)[number];

export function isAction(text: string): text is Action {
  return (actions as readonly string[]).includes(text);
}

/** A repository's actions in the words of tokens: `repository:<name>:pull`. */
export const verbs = ['pull', 'push', 'delete'] as const;
export type Verb = (typeof verbs)[number];

const verbOf = {
  'get-blob': 'pull',
  'get-manifest': 'pull',
  'get-referrers': 'pull',
  'list-tags': 'pull',
  'put-blob': 'push',
  'put-manifest': 'push',
  'mount-blob': 'push',
  'delete-blob': 'delete',
  'delete-manifest': 'delete',
} as const satisfies Partial<Record<Action, Verb>>;

export type RepositoryAction = keyof typeof verbOf;

export const repositoryActions = Object.keys(verbOf) as readonly RepositoryAction[];

export function isRepositoryAction(action: Action): action is RepositoryAction {
  return action in verbOf;
}

export function verbFor(action: RepositoryAction): Verb {
  return verbOf[action];
}

/** What `registry:<name>:*` is asked for. */
export const registryScopes = { 'list-catalog': 'catalog', admin: 'admin' } as const;
export type RegistryAction = keyof typeof registryScopes;
