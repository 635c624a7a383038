// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The native addon (`native/addon.c`), which may be missing: `native/build.mjs` builds it where there is a C compiler. */
import { createRequire } from 'node:module';

export interface Addon {
  /** Hashes `bytes`; `state` is a neutral state (see `hash.ts`) and is changed in place. Throws TypeError for other arguments. */
  readonly update: (algorithm: 'sha256' | 'sha512', state: Uint8Array, bytes: Uint8Array) => void;
  /** The digest of what was hashed so far; `state` stays as it is. */
  readonly digest: (algorithm: 'sha256' | 'sha512', state: Uint8Array) => Uint8Array;
  /** Sets SO_RCVBUF on every TCP socket of this process that listens on `port`, and returns how many those are. */
  readonly setReceiveBuffer: (port: number, bytes: number) => number;
  /**
   * Writes a file by way of `temporary`, after making the directories (topmost first), and syncs all of it. Rejects with an Error that has the system's `code`.
   */
  readonly durablePut: (directories: readonly string[], temporary: string, path: string, bytes: Uint8Array) => Promise<void>;
  /** One datagram to the Unix socket at a path, or to the abstract one that is named behind an `@`. Throws when it is not taken within a second. */
  readonly notify: (address: string, message: string) => void;
}

/** The addon, or `undefined` when it can't be loaded, for a reason that `addonProblem` tells. */
export function loadAddon(): Addon | undefined {
  loaded ??= load();
  return loaded.addon;
}

/** Why `loadAddon` returns `undefined`, as one line for the log. */
export function addonProblem(): string | undefined {
  loaded ??= load();
  return loaded.problem;
}

interface Loaded {
  readonly addon?: Addon;
  readonly problem?: string;
}

let loaded: Loaded | undefined;

/** `native/` is two folders up from `src/worker/` and from `dist/worker/`. */
function load(): Loaded {
  const file = '../../native/ha_registry.node';
  try {
    const addon: Addon = createRequire(import.meta.url)(file);
    return { addon };
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'MODULE_NOT_FOUND') return { problem: 'the native addon is not built; `node native/build.mjs` builds it or says why not' };
    return { problem: `the native addon can't be loaded: ${message.split('\n', 1)[0]}` };
  }
}
