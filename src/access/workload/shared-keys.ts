// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Keys that issuers published outlive a configuration: one that is read again while an issuer is away must not lose them. */
import type { IssuerKeys, KeyEvents } from './issuer-keys.js';

interface Shared {
  readonly keys: IssuerKeys;
  readonly listeners: Set<KeyEvents>;
}

export class SharedKeys {
  readonly #opened = new Map<string, Shared>();

  /** Those of the same name that are still open, or new ones. The last one to close them ends them. */
  open(name: string, events: KeyEvents, make: (events: KeyEvents) => IssuerKeys): IssuerKeys {
    const { keys, listeners } = this.#opened.get(name) ?? this.#make(name, make);
    listeners.add(events);
    return {
      find: keys.find,
      close: () => {
        listeners.delete(events);
        if (listeners.size > 0) return;
        this.#opened.delete(name);
        keys.close();
      },
    };
  }

  #make(name: string, make: (events: KeyEvents) => IssuerKeys): Shared {
    const listeners = new Set<KeyEvents>();
    const keys = make({
      onChange: () => listeners.forEach(({ onChange }) => onChange()),
      onError: (error) => [...listeners][0]?.onError(error),
    });
    const shared = { keys, listeners };
    this.#opened.set(name, shared);
    return shared;
  }
}
