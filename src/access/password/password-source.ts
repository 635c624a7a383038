// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Where passwords are checked: configured identities, an htpasswd file, and whatever else can tell who somebody is. */
import type { Identity } from '../identity.js';

export interface Login {
  readonly identity: Identity;
  /** Changes when what was proved no longer holds, such as with another password. */
  readonly stamp: string;
  /** The name that `find` is asked for later; without it the identity's. */
  readonly findBy?: string;
  /** How long the password need not be asked about again, where that is not as long as for our own. */
  readonly rememberMs?: number;
  /** What else it was proved under, such as the settings of a directory: with others it has to be proved again. */
  readonly under?: string;
}

export interface PasswordSource {
  /** Stands in refresh tokens. */
  readonly name: string;
  /** Undefined where nobody is called that. Throws a RegistryError (UNAVAILABLE) where it cannot be told. */
  logIn(username: string, password: string): Promise<Login | 'wrong' | undefined>;
  /** Who logged in before under this name, as they are now; undefined when they are gone. */
  find(username: string): Promise<Login | undefined>;
  /**
   * What a login that is remembered has become, without asking anybody: `over` where it holds no more, undefined where this source knows nobody of that name, or did not
   * prove it.
   */
  recall(username: string, remembered: Login & { readonly source: string }): Login | 'over' | undefined;
}
