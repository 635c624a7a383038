// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Passwords that were right a moment ago need not be hashed again: a password hash is slow on purpose. */
import { createHmac, randomBytes } from 'node:crypto';
import { RegistryError } from '../../oci/errors.js';
import type { Login, PasswordSource } from './password-source.js';

/** Of a source, and which one it was. */
export interface SourcedLogin extends Login {
  readonly source: string;
  /** When it ends by itself: what is given for it ends then, too. */
  readonly expiresMs?: number | undefined;
}

export type Refusal = 'unknown name' | 'wrong password';

/** One look at a password, where it is not remembered. */
export interface Attempt {
  /** Throws what refuses it. */
  begin(): void;
  /** `undecided`: it could not be told. */
  end(result: 'right' | 'wrong' | 'undecided'): void;
}

export interface Passwords {
  logIn(username: string, password: string, attempt?: Attempt): Promise<SourcedLogin | Refusal>;
  /** As they are now; undefined also where another source decides about that name now. */
  find(source: string, username: string): Promise<Login | undefined>;
  /** Something changed that may make a password wrong. */
  forget(): void;
}

const rememberMs = 5 * 60_000;
const mostRemembered = 10_000;
/** Nobody needs a longer one, and hashing it costs. */
const longestPassword = 4_096;

/** The first source that knows the name decides. `waste` takes as long as a wrong password, so that time does not tell whether a name is known. */
export function openPasswords(sources: readonly PasswordSource[], waste: () => Promise<unknown>, now: () => number = Date.now): Passwords {
  // Never the password itself: what is left in memory is of use to this process only.
  const key = randomBytes(32);
  const remembered = new Map<string, { readonly login: Promise<SourcedLogin | Refusal>; until: number }>();
  const ask = async (username: string, password: string): Promise<SourcedLogin | Refusal> => {
    for (const source of sources) {
      const login = await source.logIn(username, password);
      if (login === 'wrong') return 'wrong password';
      if (login !== undefined) return { ...login, source: source.name };
    }
    await waste();
    return 'unknown name';
  };
  return {
    async logIn(username, password, attempt) {
      if (password.length > longestPassword) throw new RegistryError('UNAUTHORIZED', 'the password is too long', { status: 400 });
      const name = createHmac('sha256', key).update(`${username.length}:${username}${password}`).digest('base64');
      const known = remembered.get(name);
      if (known !== undefined && known.until > now()) return known.login;
      attempt?.begin();
      const login = ask(username, password);
      // Also while it is being checked: a client that opens six connections has its password hashed once.
      const entry = { login, until: Infinity };
      remembered.delete(name);
      remembered.set(name, entry);
      if (remembered.size > mostRemembered) remembered.delete(remembered.keys().next().value ?? '');
      const drop = (): void => void (remembered.get(name) === entry && remembered.delete(name));
      try {
        const result = await login;
        const succeeded = typeof result !== 'string';
        attempt?.end(succeeded ? 'right' : 'wrong');
        if (succeeded) entry.until = now() + (result.rememberMs ?? rememberMs);
        else drop();
        return result;
      } catch (error) {
        drop();
        attempt?.end('undecided');
        throw error;
      }
    },
    async find(wanted, username) {
      for (const source of sources) {
        const login = await source.find(username);
        if (source.name === wanted) return login;
        if (login !== undefined) return undefined;
      }
      return undefined;
    },
    forget: () => remembered.clear(),
  };
}
