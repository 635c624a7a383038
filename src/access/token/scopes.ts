// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What a token may be used for: `repository:<name>:<verb>,<verb>` and `registry:<name>:*`, as the distribution project's tokens have them. */
import { findRepositoryName, type RepositoryName } from '../../oci/repository-name.js';
import { RegistryError } from '../../oci/errors.js';
import { isRepositoryAction, registryScopes, verbFor, verbs, type Action, type Verb } from '../actions.js';

/** As it stands in a token's `access`. */
export interface Grant {
  readonly type: string;
  readonly name: string;
  readonly actions: readonly string[];
}

export type Scope =
  | { readonly type: 'repository'; readonly name: RepositoryName; readonly verbs: readonly Verb[] }
  | { readonly type: 'registry'; readonly action: 'list-catalog' | 'admin' };

/** A client asks for a repository or two, and for each that it may mount from. */
const mostScopes = 100;

/** Repeated parameters, each with scopes between spaces. What nobody can be granted is left out, as is what is not understood. */
export function parseScopes(parameters: readonly string[]): Scope[] {
  const texts = parameters.flatMap((text) => text.split(' ')).filter((text) => text !== '');
  if (texts.length > mostScopes)
    throw new RegistryError('DENIED', `a token is for at most ${mostScopes} scopes`, { status: 400, detail: texts.length });
  return texts.map(parseScope).filter((scope) => scope !== undefined);
}

function parseScope(text: string): Scope | undefined {
  const [, type = '', name = '', list = ''] = /^([a-z]+(?:\([a-z0-9]+\))?):(.*):([A-Za-z,*]*)$/.exec(text) ?? [];
  const asked = list.split(',');
  if (type === 'registry') {
    const [action] = (['list-catalog', 'admin'] as const).filter((known) => registryScopes[known] === name);
    return action === undefined || !asked.includes('*') ? undefined : { type: 'registry', action };
  }
  const repository = findRepositoryName(name);
  if (!/^repository(\(|$)/.test(type) || repository === undefined) return undefined;
  return { type: 'repository', name: repository, verbs: verbs.filter((verb) => asked.includes(verb) || asked.includes('*')) };
}

/** What a challenge tells the client to ask for; undefined for what needs no more than an identity. */
export function scopeFor(action: Action, repository: string | undefined): string | undefined {
  if (action === 'list-catalog') return 'registry:catalog:*';
  if (repository === undefined || !isRepositoryAction(action)) return undefined;
  const verb = verbFor(action);
  return `repository:${repository}:${verb === 'push' ? 'pull,push' : verb}`;
}

/** hot: each request with a token. */
export function covers(grants: readonly Grant[], action: Action, repository: string | undefined): boolean {
  if (action === 'get-api-version') return true;
  if (action === 'list-catalog' || action === 'admin')
    return grants.some(({ type, name, actions }) => type === 'registry' && name === registryScopes[action] && actions.includes('*'));
  const verb = verbFor(action);
  return grants.some(({ type, name, actions }) => type === 'repository' && name === repository && actions.includes(verb));
}
