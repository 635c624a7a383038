// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The access control of the configuration that holds now. What a reload replaces is closed when the last request that began under it is done. */
import type { Access } from './open-access.js';

/** One configuration's, with the number of requests that began under it. */
export interface HeldAccess {
  readonly access: Access;
  requests: number;
  isReplaced: boolean;
}

export class LiveAccess {
  readonly #onError: (error: unknown) => void;
  readonly #replaced = new Set<HeldAccess>();
  #held: HeldAccess;

  constructor(access: Access, onError: (error: unknown) => void) {
    this.#onError = onError;
    this.#held = { access, requests: 0, isReplaced: false };
  }

  get current(): Access {
    return this.#held.access;
  }

  /** hot: each request. */
  enter(): HeldAccess {
    this.#held.requests++;
    return this.#held;
  }

  leave(held: HeldAccess): void {
    held.requests--;
    if (held.isReplaced && held.requests === 0) this.#end(held);
  }

  /** From now on requests are decided by `next`. */
  replace(next: Access): void {
    const last = this.#held;
    this.#held = { access: next, requests: 0, isReplaced: false };
    last.isReplaced = true;
    this.#replaced.add(last);
    if (last.requests === 0) this.#end(last);
  }

  /** When no request is served any more. */
  async close(): Promise<void> {
    const all = [...this.#replaced, this.#held];
    this.#replaced.clear();
    for (const { access } of all) await access.close();
  }

  #end(held: HeldAccess): void {
    if (this.#replaced.delete(held)) held.access.close().catch(this.#onError);
  }
}
