// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { RepositoryAction } from './actions.js';

/** Whoever makes a request, as its handler sees them: admitted to the endpoint, and asked about where a request touches more than its path names. */
export interface Caller {
  /** The identity's; empty for anonymous. */
  readonly id: string;
  may(action: RepositoryAction, repository: string, reference?: { readonly tag?: string; readonly digest?: string }): boolean;
  /** Which tags of a repository it may pull; undefined where that is all. */
  tagFilter(repository: string): ((tag: string) => boolean) | undefined;
  /** Which manifests it may see among the referrers of another; undefined where no policy tells manifests of that repository apart. */
  referrerFilter(repository: string): ((digest: string) => boolean) | undefined;
  /** Which repositories it may see in a list; undefined where that is all. */
  catalogFilter(): ((repository: string) => boolean) | undefined;
  /** Every repository is open to it. */
  readonly isUnlimited: boolean;
}

/** Where no access control is configured. */
export const anybody: Caller = {
  id: '',
  may: () => true,
  tagFilter: () => undefined,
  referrerFilter: () => undefined,
  catalogFilter: () => undefined,
  isUnlimited: true,
};
