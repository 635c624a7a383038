// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { isConnectionLoss } from '../database/failures.js';
import { RegistryError } from '../oci/errors.js';
import type { BlobStore, Part } from '../storage/blob-store.js';

export interface PartsSoFar {
  /** What the store returned when the data object was begun, if it was. */
  readonly begun: string | undefined;
  /** Numbers below it may have been used. */
  readonly nextPart: number;
}

/** Records what the store calls the data object, and that the numbers below `nextPart` are ours. */
export type ReserveParts = (begun: string, nextPart: number) => Promise<void>;

/** A new reservation every so many parts, most of them with a checkpoint that comes anyway. */
const reserveAhead = 32;

/**
 * The numbers of one writer's parts, and the parts that are stored in order. A number is used only after it was reserved in the session's row, so that nobody who goes on
 * with the upload uses it again: a part of a writer that was frozen can then replace none that counts.
 */
export class PartLedger {
  private readonly store: BlobStore;
  private readonly reserve: ReserveParts;
  private begunAs: string | undefined;
  private next: number;
  private reserved: number;
  private reserving: Promise<void> | undefined;
  private unsaved: Part[] = [];

  constructor(store: BlobStore, { begun, nextPart }: PartsSoFar, reserve: ReserveParts) {
    this.store = store;
    this.reserve = reserve;
    this.begunAs = begun;
    this.next = nextPart;
    this.reserved = nextPart;
  }

  get begun(): string | undefined {
    return this.begunAs;
  }

  /** How many bytes the next part should have. */
  get wantedBytes(): number {
    return this.store.parts.wantedBytes(this.next);
  }

  /** The next part's number. */
  assign(): number {
    if (!this.store.parts.numbered) return 1;
    if (this.next > this.store.parts.most) {
      throw new RegistryError('SIZE_INVALID', `the upload has more parts than the store can hold (${this.store.parts.most})`);
    }
    return this.next++;
  }

  /** Resolves, with what the store calls the object, when the number may be used. */
  async mayUse(key: string, number: number): Promise<string> {
    if (!this.store.parts.numbered) return '';
    while (number >= this.reserved) await (this.reserving ??= this.reserveMore(key).finally(() => (this.reserving = undefined)));
    return this.begunAs ?? '';
  }

  /** A part is stored, and so are all before it. */
  add(part: Part): void {
    if (this.store.parts.numbered) this.unsaved.push(part);
  }

  /** What a checkpoint records. Its caller tells by `saved` when it is. */
  state(): { readonly parts: readonly Part[]; readonly nextPart: number } {
    return { parts: [...this.unsaved], nextPart: this.next };
  }

  saved(parts: readonly Part[]): void {
    this.unsaved = this.unsaved.slice(parts.length);
  }

  private async reserveMore(key: string): Promise<void> {
    const begunHere = this.begunAs === undefined ? await this.store.begin(key) : undefined;
    const begun = this.begunAs ?? begunHere ?? '';
    const end = this.next + reserveAhead;
    try {
      await this.reserve(begun, end);
    } catch (error) {
      // What no row names nobody would drop. Whether a row does is unknown when the answer was lost.
      if (begunHere !== undefined && !isConnectionLoss(error)) await this.store.abort(key, begunHere).catch(() => undefined);
      throw error;
    }
    this.begunAs = begun;
    this.reserved = end;
  }
}
