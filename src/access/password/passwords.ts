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
}

const rememberMs = 5 * 60_000;
const mostRemembered = 10_000;
/** Nobody needs a longer one, and hashing it costs. */
const longestPassword = 4_096;

interface Remembered {
  readonly asked: Promise<SourcedLogin | Refusal>;
  /** By whom; others ask themselves while that is under way. */
  readonly by: readonly PasswordSource[];
  /** Undefined while it is under way. */
  login: SourcedLogin | undefined;
  untilMs: number;
}

/** Outlives the configuration that it was filled under: what still holds is told by the sources of now. */
export class RememberedPasswords {
  // Never the password itself: what is left in memory is of use to this process only.
  readonly #key = randomBytes(32);
  readonly #entries = new Map<string, Remembered>();

  nameOf(username: string, password: string): string {
    return createHmac('sha256', this.#key).update(`${username.length}:${username}${password}`).digest('base64');
  }

  find(name: string): Remembered | undefined {
    return this.#entries.get(name);
  }

  set(name: string, entry: Remembered): void {
    this.#entries.delete(name);
    this.#entries.set(name, entry);
    if (this.#entries.size > mostRemembered) this.#entries.delete(this.#entries.keys().next().value ?? '');
  }

  drop(name: string, entry: Remembered): void {
    if (this.#entries.get(name) === entry) this.#entries.delete(name);
  }
}

export interface PasswordsOptions {
  /** Takes as long as a wrong password, so that time does not tell whether a name is known. */
  readonly waste: () => Promise<unknown>;
  readonly remembered?: RememberedPasswords | undefined;
  readonly now?: () => number;
}

/** The first source that knows the name decides. */
export function openPasswords(sources: readonly PasswordSource[], options: PasswordsOptions): Passwords {
  const { waste, remembered = new RememberedPasswords(), now = Date.now } = options;
  const ask = async (username: string, password: string): Promise<SourcedLogin | Refusal> => {
    for (const source of sources) {
      const login = await source.logIn(username, password);
      if (login === 'wrong') return 'wrong password';
      if (login !== undefined) return { ...login, source: source.name };
    }
    await waste();
    return 'unknown name';
  };
  // hot: basic authentication, each request.
  const recall = (username: string, login: SourcedLogin): SourcedLogin | undefined => {
    for (const source of sources) {
      const found = source.recall(username, login);
      if (found === undefined) continue;
      if (found === 'over') return undefined;
      return found.identity === login.identity ? login : { ...found, source: source.name };
    }
    return undefined;
  };
  return {
    async logIn(username, password, attempt) {
      if (password.length > longestPassword) throw new RegistryError('UNAUTHORIZED', 'the password is too long', { status: 400 });
      const name = remembered.nameOf(username, password);
      const known = remembered.find(name);
      // Also while it is being checked: a client that opens six connections has its password hashed once.
      if (known?.login === undefined && known?.by === sources) return known.asked;
      const recalled = known?.login === undefined || known.untilMs <= now() ? undefined : recall(username, known.login);
      if (recalled !== undefined) return recalled;
      attempt?.begin();
      const asked = ask(username, password);
      const entry: Remembered = { asked, by: sources, login: undefined, untilMs: Infinity };
      remembered.set(name, entry);
      try {
        const result = await asked;
        const succeeded = typeof result !== 'string';
        attempt?.end(succeeded ? 'right' : 'wrong');
        if (succeeded) Object.assign(entry, { login: result, untilMs: now() + (result.rememberMs ?? rememberMs) });
        else remembered.drop(name, entry);
        return result;
      } catch (error) {
        remembered.drop(name, entry);
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
  };
}
