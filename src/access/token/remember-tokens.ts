// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Checking a signature takes longer than serving a manifest: what was found good is remembered while it may be. */
import type { Authenticated, TokenVerifier } from '../authenticate.js';

export interface CheckedToken {
  readonly authenticated: Authenticated;
  /** It is to be checked again from then on. */
  readonly untilMs: number;
}

/** Rejects with InvalidCredentials. */
export type TokenCheck = (token: string) => Promise<CheckedToken>;

export interface RememberedTokens extends TokenVerifier {
  /** A key changed: what it had signed counts no more. */
  forget(): void;
}

/** Whatever keeps a token from counting any more is noticed after this, also where nobody told. */
export const recheckAfterMs = 5 * 60_000;
/** Some 20,000 tokens of ours; those of workloads are longer, and so is what they leave in memory. */
const mostCharacters = 16 * 1024 * 1024;

export function rememberTokens(check: TokenCheck, now: () => number = Date.now): RememberedTokens {
  let memory = newMemory();
  return {
    verify(token) {
      const known = memory.get(token);
      if (known === undefined) {
        // What is being checked while all is forgotten is not remembered.
        const into = memory;
        return check(token).then((checked) => {
          into.set(token, checked);
          return checked.authenticated;
        });
      }
      if (known.untilMs > now()) return known.authenticated;
      memory.delete(token);
      return this.verify(token);
    },
    forget: () => void (memory = newMemory()),
  };
}

function newMemory() {
  const entries = new Map<string, CheckedToken>();
  let characters = 0;
  const drop = (token: string): void => {
    if (entries.delete(token)) characters -= token.length;
  };
  return {
    get: (token: string) => entries.get(token),
    delete: drop,
    set(token: string, checked: CheckedToken): void {
      drop(token);
      entries.set(token, checked);
      characters += token.length;
      for (const oldest of entries.keys()) {
        if (characters <= mostCharacters) return;
        drop(oldest);
      }
    },
  };
}
