// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Who somebody is, whichever way it was proved. Every part always exists, so that a policy may name it: what there is not is empty. */
export interface Identity {
  /** The name that policies and the log know it by; empty for anonymous. */
  readonly id: string;
  readonly username: string;
  readonly groups: readonly string[];
  /** Of a workload's token. */
  readonly claims: Readonly<Record<string, unknown>>;
  readonly certificate: { readonly common_names: readonly string[]; readonly organizations: readonly string[] };
}

export const anonymous: Identity = makeIdentity('', '');

export function makeIdentity(id: string, username: string, more: Partial<Omit<Identity, 'id' | 'username'>> = {}): Identity {
  return { id, username, groups: [], claims: {}, certificate: { common_names: [], organizations: [] }, ...more };
}

export function isAnonymous(identity: Identity): boolean {
  return identity.id === '';
}
