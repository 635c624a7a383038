// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * What may be read after writes of which some overlap and some were never answered. A write took effect at one moment between its beginning and its end, or, when it was
 * not acknowledged, perhaps not at all; so a value is possible unless an acknowledged write began after the value's own write had ended.
 */

export const absent = 'absent';

export interface Write {
  readonly key: string;
  readonly value: string;
  /** The write changes nothing unless this is the value before it: a manifest's deletion and the tags. */
  readonly onlyIf: string | undefined;
  start: number;
  end: number;
  acknowledged: boolean;
  /** The node's life that it was sent to last; a killed node finishes nothing once its successor is ready. */
  life: number | undefined;
  /** No client's: the collector may take the key away, or may not. */
  readonly doom?: true;
}

export class History {
  private clock = 1;
  private readonly writes = new Map<string, Write[]>();
  private readonly onKept: (key: string, how: 'pushed' | 'told') => void;

  /** `onKept` hears that a client pushed something, or was told that it is there. */
  constructor(onKept: (key: string, how: 'pushed' | 'told') => void = () => undefined) {
    this.onKept = onKept;
  }

  now(): number {
    return ++this.clock;
  }

  keys(): string[] {
    return [...this.writes.keys()];
  }

  begin(key: string, value: string, onlyIf?: string): Write {
    const write: Write = { key, value, onlyIf, start: this.now(), end: Infinity, acknowledged: false, life: undefined };
    this.of(key).push(write);
    return write;
  }

  private of(key: string): Write[] {
    const known = this.writes.get(key) ?? [untouched];
    this.writes.set(key, known);
    return known;
  }

  /** From now on the collector may take it, until a client pushes it again or is told that it is there. */
  doom(key: string): void {
    const write: Write = {
      key,
      value: absent,
      onlyIf: undefined,
      start: this.now(),
      end: Infinity,
      acknowledged: false,
      life: undefined,
      doom: true,
    };
    this.of(key).push(write);
  }

  /** A client was told that it is there: the collector has not taken it, and will not. */
  told(key: string): void {
    this.onKept(key, 'told');
    const writes = this.writes.get(key);
    if (writes !== undefined)
      this.writes.set(
        key,
        writes.filter(({ doom }) => doom !== true),
      );
  }

  /** Nothing is under way, and this is what was found. */
  settle(key: string, value: string): void {
    this.writes.set(key, [{ ...untouched, key, value, start: this.now(), end: this.now() }]);
  }

  sent(writes: readonly Write[], life: number): void {
    for (const write of writes) Object.assign(write, { life, end: Infinity });
  }

  acknowledge(writes: readonly Write[]): void {
    const now = this.now();
    for (const write of writes) {
      Object.assign(write, { acknowledged: true, end: Math.min(write.end, now) });
      if (write.value === absent) continue;
      this.onKept(write.key, 'pushed');
      // Before it, if at all.
      for (const other of this.of(write.key)) if (other.doom === true) other.end = Math.min(other.end, write.start - 0.5);
    }
  }

  /** It was answered and did nothing. */
  refuse(writes: readonly Write[]): void {
    for (const write of writes) {
      this.writes.set(
        write.key,
        (this.writes.get(write.key) ?? []).filter((other) => other !== write),
      );
    }
  }

  /** What these lives of nodes have not done by now, nobody will do: a successor is ready, or their pending writes have expired. */
  endLives(hasEnded: (life: number) => boolean): void {
    const now = this.now();
    for (const write of [...this.writes.values()].flat()) {
      if (write.life !== undefined && hasEnded(write.life) && write.end === Infinity) write.end = now;
    }
  }

  /** The values that a read between two moments may give. */
  possible(key: string, from = this.now(), to = this.now()): Set<string> {
    const writes = this.writes.get(key) ?? [untouched];
    const before = (write: Write) => write.acknowledged && write.end < from;
    const covered = (value: Write): boolean =>
      writes.some((write) => before(write) && write.start > value.end && (write.onlyIf === undefined || write.onlyIf === value.value));
    /** There must have been a moment at which it met its condition. */
    const applied = ({ onlyIf, end }: Write): boolean =>
      onlyIf === undefined ||
      writes.some(
        (met) =>
          met.value === onlyIf &&
          met.start <= end &&
          !writes.some((write) => before(write) && write.onlyIf === undefined && write.value !== onlyIf && write.start > met.end),
      );
    return new Set(writes.filter((write) => write.start <= to && !covered(write) && applied(write)).map(({ value }) => value));
  }

  /** Keys whose value is certain and is not `absent`: what was acknowledged and not touched since. */
  certain(prefix: string): string[] {
    return this.keys().filter((key) => {
      if (!key.startsWith(prefix)) return false;
      const possible = this.possible(key);
      return possible.size === 1 && !possible.has(absent);
    });
  }
}

const untouched: Write = { key: '', value: absent, onlyIf: undefined, start: 0, end: 0, acknowledged: true, life: undefined };
